"""Makes the demo call: two synthetic speakers on the two channels of a telephone recording. Knows no recognizer.

Needs the Apache-2.0 package `hibari-tts==0.2.1`, which is no dependency of the project: its output is committed. Writes
`tests/data/demo_call.wav`, 8 kHz mu-law, and `tests/data/demo_call.json`, who says what and when. Same text, same
bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr
from hibari import Hibari

if TYPE_CHECKING:
    from numpy.typing import NDArray

OUT = Path(__file__).resolve().parent.parent / "tests" / "data"
RATE = 8_000  # Hz
AGENT, CALLER = 1, 2  # channel tags, as on the wire
# One voice serves both: spoken faster and played slower, its pitch and formants fall to a man's.
DEEPER = {AGENT: 1.0, CALLER: 0.77}
SPEECH_PEAK, LINE_NOISE = 0.4, 0.0005  # of full scale; a real line is never digitally silent
HANGING_UP_S = 0.3

# (channel, silence before the turn in s, words); a negative silence talks over the end of the turn before.
SCRIPT = (
    (AGENT, 0.8, "Good morning, Summit Deliveries, my name is Anna. How can I help you?"),
    (CALLER, 0.6, "Hello, my name is Martin Bell. I am calling about an order that never arrived."),
    (AGENT, 0.4, "I am sorry to hear that. Could you give me the order number?"),
    (CALLER, 0.8, "Yes, of course. It is four, seven, two, nine."),
    (AGENT, 0.5, "Thank you. One moment while I look it up."),
    (AGENT, 2.0, "The driver could not find your house."),
    (CALLER, 0.3, "That is strange. There is a large blue door, right on the street."),
    (AGENT, -0.3, "We will send it again tomorrow morning, if you are at home."),
    (CALLER, 0.5, "Tomorrow morning is fine. Thank you very much for your help."),
    (AGENT, -0.2, "You are welcome. Have a good day."),
    (CALLER, 0.4, "You too."),
)


@dataclass(frozen=True)
class Turn:
    channel: int
    start_s: float
    end_s: float
    text: str


def speak(voice: Hibari, channel: int, text: str) -> NDArray[np.float32]:
    deeper = DEEPER[channel]
    speech = voice(text, speed=1 / deeper, seed=0)
    samples = soxr.resample(speech, voice.sample_rate * deeper, RATE).astype(np.float32)
    return np.asarray(samples * (SPEECH_PEAK / np.abs(samples).max()), dtype=np.float32)


def main() -> None:
    voice = Hibari()
    turns: list[Turn] = []
    spoken: list[tuple[int, int, NDArray[np.float32]]] = []  # channel, first sample, samples
    at = 0
    for channel, pause_s, text in SCRIPT:
        start = at + round(pause_s * RATE)
        samples = speak(voice, channel, text)
        at = start + len(samples)
        spoken.append((channel, start, samples))
        turns.append(Turn(channel, round(start / RATE, 3), round(at / RATE, 3), text))

    call = np.random.default_rng(0).normal(0, LINE_NOISE, size=(at + round(HANGING_UP_S * RATE), 2)).astype(np.float32)
    for channel, start, samples in spoken:
        call[start : start + len(samples), channel - 1] += samples
    soundfile.write(OUT / "demo_call.wav", call, RATE, subtype="ULAW")
    script = json.dumps([asdict(turn) for turn in turns], indent=2)
    (OUT / "demo_call.json").write_text(script + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
