"""`parley stream`: live audio to a server, its words to the terminal as they come."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from parley.clients.cli.common import UsageFault, access
from parley.clients.cli.hotwords import hotwords
from parley.clients.cli.painter import Painter
from parley.clients.config import SAMPLE_BYTES, Encoding, StreamConfig
from parley.clients.decoding import NoDecoder
from parley.clients.pacing import paced, piece_bytes
from parley.clients.recordings import Recording, open_raw, open_recording, open_unpaced
from parley.clients.results import FIRST_IN_TIME
from parley.clients.sync import Client

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from parley.clients.results import Summary

STDIN = "-"
MIC_RATE = 16_000  # Hz, the rate that models work at


def run(args: argparse.Namespace) -> int:
    recording = _microphone() if args.mic else _recording(args)
    pieces = recording.read(piece_bytes(recording.bytes_per_s))
    pace = not (args.no_pace or args.mic)  # a microphone has the pace of its owner
    audio = _Timed(paced(pieces, recording.bytes_per_s) if pace else pieces)
    painter = Painter(sys.stdout)
    config = StreamConfig(
        encoding=recording.encoding,
        sample_rate=recording.sample_rate,
        channels=recording.channels,
        separate_channels=args.separate_channels,
        model=args.model,
        language=args.language,
        written=args.written,
        hotwords=hotwords(args),
        interim_results=painter.repaints,
    )
    last_final: float | None = None
    in_time = 0
    with Client(**access(args)) as client, painter, client.stream(audio, config, timeout_s=args.timeout) as results:
        for result in results:
            painter.show(result)
            if result.is_final:
                last_final = time.monotonic()
                in_time += result.source == FIRST_IN_TIME
    if results.summary:
        print(_figures(results.summary, in_time, audio.ended, last_final), file=sys.stderr)
    return 0


def _recording(args: argparse.Namespace) -> Recording:
    if args.encoding is None:
        if args.file == STDIN:
            raise UsageFault("standard input: got no --encoding, expected --encoding and --rate for raw audio")
        if args.rate is not None:
            raise UsageFault("--rate: got no --encoding with it; leave both out for audio with a header")
        try:
            # A pace, and channels apart, need what only a header or a decoder tells.
            as_it_is = args.no_pace and not args.separate_channels
            return (open_unpaced if as_it_is else open_recording)(Path(args.file))
        except NoDecoder as fault:
            raise UsageFault(str(fault)) from None
    if args.rate is None:
        raise UsageFault(f"--encoding {args.encoding}: got no --rate, expected it for raw audio")
    encoding = Encoding(args.encoding)
    if args.file == STDIN:
        return _stdin(encoding, args.rate, args.channels)
    return open_raw(Path(args.file), encoding, args.rate, args.channels)


def _stdin(encoding: Encoding, rate: int, channels: int) -> Recording:
    def read(size: int) -> Iterator[bytes]:
        # Unbuffered: a pipe's audio goes on as it comes, and nobody holds a lock at exit that Python waits for.
        with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as pipe:
            while piece := pipe.read(size):
                yield piece

    return Recording(encoding, rate, channels, rate * channels * SAMPLE_BYTES[encoding], read)


def _microphone() -> Recording:
    try:
        sounddevice = importlib.import_module("sounddevice")  # an extra: not everybody has a microphone
    except ImportError:
        raise UsageFault("--mic: got no sounddevice package, expected it: pip install 'parley-asr[mic]'") from None
    except OSError as error:
        raise UsageFault(f"--mic: {error}; on Debian: apt install libportaudio2") from None

    stop = threading.Event()

    def read(size: int) -> Iterator[bytes]:
        frames = size // SAMPLE_BYTES[Encoding.LINEAR16]
        try:
            with sounddevice.RawInputStream(samplerate=MIC_RATE, channels=1, dtype="int16") as microphone:
                while not stop.is_set():
                    yield bytes(microphone.read(frames)[0])
        except sounddevice.PortAudioError as error:
            raise OSError(f"--mic: {error}") from error

    def end_audio(*_: object) -> None:
        # The first Ctrl-C ends the audio, so that the last words still come; a second one ends the command.
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, end_audio)
    print("Speak; Ctrl-C ends.", file=sys.stderr)
    return Recording(Encoding.LINEAR16, MIC_RATE, 1, MIC_RATE * SAMPLE_BYTES[Encoding.LINEAR16], read)


class _Timed:
    """Audio that notes when it ended: that is when the client half-closes."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = pieces
        self.ended: float | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        self.ended = time.monotonic()


def _figures(summary: Summary, in_time: int, ended: float | None, last_final: float | None) -> str:
    parts = [f"{summary.audio_s:.1f} s of audio", f"{summary.finals} finals"]
    if in_time:
        parts.append(f"{in_time} of them by the first pass because the second was late")
    if ended is not None and last_final is not None and last_final > ended:
        server_s = summary.half_close_to_last_final_s
        measured = "" if server_s is None else f" (by the server's clock {server_s:.2f} s)"
        parts.append(f"the last one {last_final - ended:.2f} s after the audio's end{measured}")
    if summary.worst_final_s is not None:
        parts.append(f"the slowest {summary.worst_final_s:.2f} s after its utterance's end")
    if summary.breaks:
        parts.append(f"{summary.breaks} break{'s' if summary.breaks > 1 else ''} of the connection survived")
    return ", ".join(parts)
