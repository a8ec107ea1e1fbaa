"""The names that parley.asr.v1 has for the core's fields. By these its errors are told; a test holds them complete."""

from __future__ import annotations

FIELDS: dict[str, str | None] = {
    "audio": "audio",
    "model": "model",
    "language": "language_code",
    "format.encoding": "encoding",
    "format.sample_rate": "sample_rate_hertz",
    "format.channels": "audio_channel_count",
    "format.separate_channels": "separate_recognition_per_channel",
    "options.interim_results": "interim_results",
    "options.single_utterance": "single_utterance",
    "options.max_alternatives": "max_alternatives",
    "options.word_times": "enable_word_time_offsets",
    "options.written": "enable_inverse_text_normalization",
    "options.passes": None,  # the model's name says
    "options.language": None,  # what is wrong with one is said of `language`
    "options.rules": "endpoint_rules",
    "options.rules.silence_before_speech_ms": "endpoint_rules.silence_before_speech",
    "options.rules.silence_after_speech_ms": "endpoint_rules.silence_after_speech",
    "options.rules.longest_utterance_ms": "endpoint_rules.longest_utterance",
    "options.search": "search",
    "options.search.beam": "search.beam",
    "options.search.language_weight": "search.language_weight",
    "options.search.word_bonus": "search.word_bonus",
    "options.search.grammar": "search.grammar",
    "options.search.lattice": "search.lattice",
    "options.search.hotwords": "speech_contexts",
    "options.search.hotwords.text": "speech_contexts.phrases",
    "options.search.hotwords.boost": "speech_contexts.boost",
}
