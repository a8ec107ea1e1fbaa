"""A transcript as text, JSON, SRT or WebVTT. Knows no files and no terminal."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from parley.clients.cli import subtitles

if TYPE_CHECKING:
    from parley.clients.results import Result, Transcript

FORMATS = ("txt", "json", "srt", "vtt")
SUBTITLES = frozenset({"srt", "vtt"})


def render(transcript: Transcript, form: str, name: str) -> str:
    """The transcript of the recording called `name`, with a line's end at its own."""
    if form == "json":
        return json.dumps(_fields(transcript, name), ensure_ascii=False) + "\n"
    if form == "srt":
        return subtitles.srt(subtitles.cues(transcript.results))
    if form == "vtt":
        return subtitles.vtt(subtitles.cues(transcript.results))
    return "".join(labelled(result) + "\n" for result in transcript.results)


def labelled(result: Result) -> str:
    """A result's text, with its channel in front where channels are told apart."""
    return f"[{result.channel}] {result.text}" if result.channel else result.text


def _fields(transcript: Transcript, name: str) -> dict[str, Any]:
    return {
        "file": name,
        "text": transcript.text,
        "audio_s": transcript.audio_s,
        "processing_s": transcript.processing_s,
        "request_id": transcript.request_id,
        "results": [_result(result) for result in transcript.results],
    }


def _result(result: Result) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "text": result.text,
        "start_s": result.start_s,
        "end_s": result.end_s,
        "channel": result.channel,
        "confidence": round(result.confidence, 4),
        "language": result.language,
        "source": result.source,
        "word_timing": result.word_timing,
        "words": [
            {
                "text": word.text,
                "start_s": word.start_s,
                "end_s": word.end_s,
                "confidence": round(word.confidence, 4),
            }
            for word in result.words
        ],
    }
    if result.scores is not None:
        fields["scores"] = {name: round(score, 4) for name, score in asdict(result.scores).items()}
    return fields
