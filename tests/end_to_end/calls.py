"""Calls on the wire, as the tests make them: no client library between the test and the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley.asr.v1 import speech_pb2 as pb
from scripts.speech import DATA
from tests.speech import RATE, pcm_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import grpc

    from parley.asr.v1.speech_pb2_grpc import SpeechAsyncStub

    Call = grpc.aio.StreamStreamCall[pb.StreamingRecognizeRequest, pb.StreamingRecognizeResponse]

Words = dict[int, str]  # channel tag -> transcripts, in order

PCM = pb.RecognitionConfig(encoding=pb.AUDIO_ENCODING_LINEAR16, sample_rate_hertz=RATE, audio_channel_count=1)
CALL = pb.RecognitionConfig(
    encoding=pb.AUDIO_ENCODING_MULAW,
    sample_rate_hertz=8_000,
    audio_channel_count=2,
    separate_recognition_per_channel=True,
)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def open_request(config: pb.RecognitionConfig, interim_results: bool = False) -> pb.StreamingRecognizeRequest:
    streaming = pb.StreamingRecognitionConfig(config=config, interim_results=interim_results)
    return pb.StreamingRecognizeRequest(config=streaming)


def requests(config: pb.RecognitionConfig, pieces: Iterable[bytes]) -> Iterator[pb.StreamingRecognizeRequest]:
    yield open_request(config)
    for piece in pieces:
        yield pb.StreamingRecognizeRequest(audio=piece)


def collect(results: Iterable[pb.StreamingRecognitionResult | pb.SpeechRecognitionResult]) -> Words:
    words: Words = {}
    for result in results:
        text = result.alternatives[0].transcript
        words[result.channel_tag] = f"{words.get(result.channel_tag, '')} {text}".strip()
    return words


async def stream(stub: SpeechAsyncStub, pieces: Iterable[bytes], config: pb.RecognitionConfig = PCM) -> Words:
    responses = [response async for response in stub.StreamingRecognize(requests(config, pieces))]
    assert responses[-1].HasField("summary")
    return collect(result for response in responses for result in response.results if result.is_final)


async def recognize(stub: SpeechAsyncStub, audio: bytes, config: pb.RecognitionConfig | None = None) -> Words:
    return collect((await stub.Recognize(pb.RecognizeRequest(config=config, audio=audio))).results)


async def stream_recording(stub: SpeechAsyncStub, recording: str) -> Words:
    return await stream(stub, cut(pcm_of(recording), RATE * 2 // 10))


async def recognize_recording(stub: SpeechAsyncStub, recording: str) -> Words:
    return await recognize(stub, (DATA / recording).read_bytes())


async def read_final(call: Call) -> str:
    """The next final result's words."""
    async for response in call:
        for result in response.results:
            if result.is_final:
                return result.alternatives[0].transcript
    raise AssertionError(f"the stream ended with {await call.code()} before a final result")


async def end(call: Call) -> grpc.StatusCode:
    """Reads what is left of a stream: its status comes behind its last message."""
    async for _ in call:
        pass
    return await call.code()
