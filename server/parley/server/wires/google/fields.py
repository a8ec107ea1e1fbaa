"""The names that google.cloud.speech.v1 has for the core's fields; None: its clients cannot say that."""

from __future__ import annotations

NOT_HERE = ["options.written", "options.passes", "options.rules.longest_utterance_ms", "options.search"]
NOT_HERE += ["options.language"]  # what is wrong with one is said of `language`
NOT_HERE += [f"options.search.{name}" for name in ("beam", "language_weight", "word_bonus", "grammar", "lattice")]
FIELDS: dict[str, str | None] = {
    **dict.fromkeys(NOT_HERE),
    "audio": "audio_content",
    "model": "model",
    "language": "language_code",
    "format.encoding": "encoding",
    "format.sample_rate": "sample_rate_hertz",
    "format.channels": "audio_channel_count",
    "format.separate_channels": "enable_separate_recognition_per_channel",
    "options.interim_results": "interim_results",
    "options.single_utterance": "single_utterance",
    "options.max_alternatives": "max_alternatives",
    "options.word_times": "enable_word_time_offsets",
    "options.rules": "voice_activity_timeout",
    "options.rules.silence_before_speech_ms": "voice_activity_timeout.speech_start_timeout",
    "options.rules.silence_after_speech_ms": "voice_activity_timeout.speech_end_timeout",
    "options.search.hotwords": "speech_contexts",
    "options.search.hotwords.text": "speech_contexts.phrases",
    "options.search.hotwords.boost": "speech_contexts.boost",
}
