"""A node's life: loading, serving, draining, and what it tells of itself meanwhile."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import urllib.request
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import grpc
import pytest
from grpc import aio
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from parley.asr.v1 import speech_pb2 as pb
from parley.asr.v1 import speech_pb2_grpc
from parley.decoder.errors import ModelError
from parley.decoder.values import Finished, Source, SpeechBegin
from parley.server.kit.settings import Faults
from parley.server.live.session import SLICE
from parley.server.node.app import OTHER_CALLS, Node
from parley.server.node.settings import Settings
from tests.server.fakes import FakeRecognizer, final, partial
from tests.server.wire import FINALIZE, PCM, audio, configured, read_all, read_one, refusal, refusal_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.server.conftest import Running

    Serve = Callable[..., Awaitable[Running]]
    MakeNode = Callable[..., Node]

SPEECH = "parley.asr.v1.Speech"
Status = health_pb2.HealthCheckResponse


def settings(**given: object) -> Settings:
    return Settings.of({"port": 0, "metrics_port": -1, "grace_s": 0, **given})


@pytest.fixture
async def node_of() -> AsyncIterator[Callable[..., Node]]:
    """Makes nodes that a test starts itself."""
    async with AsyncExitStack() as stack:

        def make(build: Callable[..., object], **given: object) -> Node:
            node = Node(settings(**given), build=cast("Any", build))
            stack.push_async_callback(node.drain)
            return node

        yield make


async def health(channel: aio.Channel, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    status: int = (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status
    return status


async def metrics_of(node: Node) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values, in the order of their names."""
    url = f"http://127.0.0.1:{node.metrics_port}/metrics"
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read().decode())
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }


async def test_while_loading_a_node_listens_and_says_so(node_of: MakeNode) -> None:
    go = threading.Event()
    fake = FakeRecognizer()

    def build(*_: object) -> FakeRecognizer:
        assert go.wait(10)
        return fake

    node = node_of(build, metrics_port=0)
    port = await node.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: speech_pb2_grpc.SpeechAsyncStub = speech_pb2_grpc.SpeechStub(channel)
        for service in ("", SPEECH):
            assert await health(channel, service) == Status.NOT_SERVING
        for refused in (
            await refusal_of(stub, [configured()]),
            await refusal(stub.Recognize(pb.RecognizeRequest())),
            await refusal(stub.GetModels(pb.GetModelsRequest())),
        ):
            assert refused.code == grpc.StatusCode.UNAVAILABLE
            assert "loading" in refused.text
            assert refused.retry.retry_delay.ToSeconds() == 1
        assert (await metrics_of(node))["parley_calls_total", "UNAVAILABLE", "GetModels"] == 1
        go.set()
        await node.ready()
        for service in ("", SPEECH):
            assert await health(channel, service) == Status.SERVING
        assert (await stub.GetModels(pb.GetModelsRequest())).models
        await node.drain()
    assert fake.closed


async def test_a_model_that_does_not_load_ends_the_node(node_of: MakeNode) -> None:
    def build(*_: object) -> FakeRecognizer:
        raise ModelError("encoder.onnx is missing")

    node = node_of(build)
    await node.start()
    with pytest.raises(ModelError, match="encoder"):
        await node.stopped()


async def test_draining_while_loading_never_serves(node_of: MakeNode) -> None:
    go = threading.Event()
    fake = FakeRecognizer()

    def build(*_: object) -> FakeRecognizer:
        assert go.wait(10)
        return fake

    node = node_of(build)
    port = await node.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        watch: Any = health_pb2_grpc.HealthStub(channel)
        seen = watch.Watch(health_pb2.HealthCheckRequest())
        first = await seen.read()
        draining = asyncio.ensure_future(node.drain())
        go.set()
        await draining
        rest = [update async for update in read_rest(seen)]
    assert {first.status, *(update.status for update in rest)} == {Status.NOT_SERVING}
    assert fake.closed


async def read_rest(call: Any) -> Any:
    while (update := await call.read()) is not aio.EOF:
        yield update


async def test_draining_finishes_live_calls_and_takes_no_new_ones(serve: Serve) -> None:
    running = await serve(grace_s=3600)
    call = running.stub.StreamingRecognize()
    await call.write(configured())
    stream = await running.recognizer.streams.get()
    file_runs, go = threading.Event(), threading.Event()

    def work(_: threading.Event) -> None:
        file_runs.set()
        assert go.wait(10)

    running.recognizer.files.work = work
    file_call = asyncio.ensure_future(running.stub.Recognize(pb.RecognizeRequest(config=PCM, audio=bytes(320))))
    await asyncio.to_thread(file_runs.wait)
    stopped = asyncio.ensure_future(running.node.stopped())

    watch: Any = health_pb2_grpc.HealthStub(running.channel)
    seen = watch.Watch(health_pb2.HealthCheckRequest(service=SPEECH))
    assert (await seen.read()).status == Status.SERVING
    draining = asyncio.ensure_future(running.node.drain())
    assert (await seen.read()).status == Status.NOT_SERVING
    assert await health(running.channel) == Status.NOT_SERVING
    refused = await refusal_of(running.stub, [configured()])
    assert refused.code == grpc.StatusCode.UNAVAILABLE
    assert refused.info.reason == "DRAINING"

    await call.write(audio(bytes(3_200)))
    await stream.has_taken(3_200)
    stream.say(final())
    await call.done_writing()
    assert not draining.done()
    first, last = await read_all(call)
    assert first.results[0].is_final
    assert last.HasField("summary")
    assert not draining.done()
    go.set()
    assert (await file_call).results
    await draining
    await stopped
    assert await seen.read() is aio.EOF


async def test_nobody_waiting_for_the_end_any_more_does_not_keep_it_from_coming(running: Running) -> None:
    waiting = asyncio.ensure_future(running.node.stopped())
    for _ in range(5):
        await asyncio.sleep(0)
    waiting.cancel()
    await running.node.drain()
    assert running.recognizer.closed


async def test_when_the_grace_is_over_calls_are_cut(serve: Serve) -> None:
    running = await serve(grace_s=0.01)
    call = running.stub.StreamingRecognize()
    await call.write(configured())
    stream = await running.recognizer.streams.get()
    await running.node.drain()
    assert (await refusal(read_all(call))).code == grpc.StatusCode.UNAVAILABLE
    assert stream.closed
    assert running.recognizer.pool.snapshot().busy == 0


async def test_every_watcher_hears_of_every_change(running: Running) -> None:
    stub: Any = health_pb2_grpc.HealthStub(running.channel)
    watchers = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
    for watcher in watchers:
        assert (await watcher.read()).status == Status.SERVING
    watchers[0].cancel()
    draining = asyncio.ensure_future(running.node.drain())
    for watcher in watchers[1:]:
        assert (await watcher.read()).status == Status.NOT_SERVING
    await draining


async def test_health_of_an_unknown_service(running: Running) -> None:
    refused = await refusal(health(running.channel, "parley.asr.v1.Song"))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert "'parley.asr.v1.Speech'" in refused.text
    refused = await refusal(health(running.channel, "世" * 10_000))
    assert refused.code == grpc.StatusCode.NOT_FOUND
    assert "世世..." in refused.text
    assert "'parley.asr.v1.Speech'" in refused.text
    stub: Any = health_pb2_grpc.HealthStub(running.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="parley.asr.v1.Song"))
    assert (await watch.read()).status == Status.SERVICE_UNKNOWN
    watch.cancel()


async def test_calls_at_once_are_limited(serve: Serve) -> None:
    running = await serve(FakeRecognizer(decoders=1), decoders=1, devices=("cpu",))
    health_stub: Any = health_pb2_grpc.HealthStub(running.channel)
    watches = [health_stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(2 + OTHER_CALLS)]
    for watch in watches:
        assert (await watch.read()).status == Status.SERVING
    for refused in (await refusal_of(running.stub, [configured()]), await refusal(health(running.channel))):
        assert refused.code == grpc.StatusCode.RESOURCE_EXHAUSTED
    for watch in watches:
        watch.cancel()

    async def serves() -> bool:
        try:
            return bool(await health(running.channel) == Status.SERVING)
        except aio.AioRpcError:
            return False

    while not await serves():  # the cancels are still on their way
        pass
    for _ in range(2 * len(watches)):  # those that have ended do not count, whatever their end
        call = running.stub.StreamingRecognize()
        await call.write(configured())
        call.cancel()
        assert await call.code() == grpc.StatusCode.CANCELLED
        await refusal_of(running.stub, [FINALIZE])
        assert await health(running.channel) == Status.SERVING


async def test_reflection_lists_and_describes_the_services(running: Running) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(running.channel)
    asked = (
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SPEECH),
    )
    listed, described = await read_raw(stub.ServerReflectionInfo(iter(asked)))
    assert {service.name for service in listed.list_services_response.service} == {
        SPEECH,
        "grpc.health.v1.Health",
        "grpc.channelz.v1.Channelz",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    assert b"StreamingRecognize" in described.file_descriptor_response.file_descriptor_proto[0]


async def read_raw(call: Any) -> list[Any]:
    return [response async for response in read_rest(call)]


async def test_channelz_shows_the_server(running: Running) -> None:
    stub: Any = channelz_pb2_grpc.ChannelzStub(running.channel)
    servers = (await stub.GetServers(channelz_pb2.GetServersRequest())).server
    assert any(server.data.calls_started for server in servers)


async def test_a_port_in_use_is_refused_and_not_shared(serve: Serve, node_of: MakeNode) -> None:
    running = await serve()
    second = node_of(lambda *_: FakeRecognizer(), port=running.port)
    with pytest.raises(Faults, match=f"port: cannot listen on 127.0.0.1:{running.port}"):
        await second.start()


async def test_a_metrics_port_in_use_is_refused(node_of: MakeNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = node_of(lambda *_: FakeRecognizer(), metrics_port=taken.getsockname()[1])
        with pytest.raises(Faults, match="metrics_port: cannot listen on"):
            await node.start()


async def test_ipv6(node_of: MakeNode) -> None:
    node = node_of(lambda *_: FakeRecognizer(), host="::1")
    port = await node.start()
    await node.ready()
    async with aio.insecure_channel(f"[::1]:{port}") as channel:
        assert await health(channel) == Status.SERVING


async def test_a_call_is_counted_in_every_respect(serve: Serve) -> None:
    running = await serve(FakeRecognizer(decoders=3), metrics_port=0)
    call = running.stub.StreamingRecognize()
    await call.write(configured(interim_results=True))
    stream = await running.recognizer.streams.get()
    await call.write(audio(bytes(64_000)))
    await stream.has_taken(64_000)
    stream.say(SpeechBegin(0, 100))
    stream.say(partial(end_ms=1_000))
    assert await read_one(call)
    during = await metrics_of(running.node)
    assert during["parley_calls_active", "StreamingRecognize"] == 1
    assert (during["parley_pool_decoders",], during["parley_pool_busy",]) == (3, 1)
    stream.finishes = False
    await call.done_writing()
    await stream.finished.wait()
    stream.say(final())
    stream.say(final(1, source=Source.FIRST_IN_TIME))
    stream.say(partial(2, end_ms=100_000))  # audio that never came: no lag to tell
    for _ in range(3):
        await read_one(call)
    stream.say(Finished())
    await read_all(call)
    await running.stub.Recognize(pb.RecognizeRequest(config=PCM, audio=bytes(320)))
    running.node.metrics.batch("final", 4, 10.0, 0.5)
    running.node.metrics.batch("chunk", 100, 32.0, 0.004)
    running.node.metrics.waited("final", 0.01)
    running.node.metrics.dropped("partial", "unbound")
    running.node.metrics.staged("inverse_text", "done", 0.25)
    running.node.metrics.staged("inverse_text", "late", 0.5)
    after = await metrics_of(running.node)
    for name, value in {
        ("parley_calls_active", "StreamingRecognize"): 0,
        ("parley_calls_total", "OK", "StreamingRecognize"): 1,
        ("parley_calls_total", "OK", "Recognize"): 1,
        ("parley_audio_seconds_total", "LINEAR16", "StreamingRecognize"): 2,
        ("parley_audio_seconds_total", "LINEAR16", "Recognize"): 2,
        ("parley_chunk_handling_seconds_count",): math.ceil(64_000 / SLICE) + 1,  # and the end
        ("parley_partial_lag_seconds_count",): 1,
        ("parley_final_after_endpoint_seconds_sum",): 0.5,
        ("parley_finals_total", "first"): 0,
        ("parley_finals_total", "second"): 3,  # two of the file
        ("parley_finals_total", "first_in_time"): 1,
        ("parley_final_after_half_close_seconds_count",): 1,
        ("parley_file_realtime_factor_count",): 1,
        ("parley_batch_rows_sum", "final"): 4,
        ("parley_batch_rows_bucket", "64.0", "chunk"): 0,
        ("parley_batch_rows_bucket", "128.0", "chunk"): 1,
        ("parley_batch_seconds_bucket", "0.002", "chunk"): 0,
        ("parley_batch_seconds_bucket", "0.005", "chunk"): 1,
        ("parley_batch_seconds_sum", "final"): 0.5,
        ("parley_batch_audio_seconds_total", "final"): 10,
        ("parley_queue_wait_seconds_sum", "final"): 0.01,
        ("parley_dropped_total", "unbound", "partial"): 1,
        ("parley_stage_seconds_sum", "inverse_text"): 0.75,
        ("parley_stage_results_total", "late", "inverse_text"): 1,
        ("parley_pool_busy",): 0,
        ("parley_pool_waiting",): 0,
        ("parley_pool_lent_total",): 2,
        ("parley_pool_replaced_total",): 0,
        ("parley_device_waiting", "fake", "final"): 7,
    }.items():
        assert after[name] == value, name
    assert after["parley_pool_longest_wait_seconds",] >= 0


async def test_every_metric_of_a_node_has_a_meaning(serve: Serve) -> None:
    metrics = (await serve()).node.metrics
    ours = {family.name: family.documentation for family in metrics.registry.collect()}
    told = {meaning.name: meaning.text for meaning in metrics.meanings}
    assert told == {name: text for name, text in ours.items() if name.startswith("parley_")}
