"""A decode node: one gRPC server, its services, the recognizer behind them. Knows how they start and how they end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog
from grpc import aio
from grpc_channelz.v1 import channelz, channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from parley.asr.v1 import speech_pb2, speech_pb2_grpc
from parley.decoder.build import resolve_devices
from parley.decoder.errors import DeviceLost, ModelError
from parley.decoder.recognizer import Recognizer
from parley.server.kit import security
from parley.server.kit.admission import Calls
from parley.server.kit.health import Health
from parley.server.node.settings import ConfigFaults
from parley.server.node.telemetry import Exposition, Metrics
from parley.server.wires.parley.speech import Speech

if TYPE_CHECKING:
    from collections.abc import Callable

    from parley.decoder.config import RecognizerConfig
    from parley.decoder.engine.work import Observer
    from parley.server.node.settings import Settings

log = structlog.stdlib.get_logger()

SPEECH = speech_pb2.DESCRIPTOR.services_by_name["Speech"].full_name
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
CHANNELZ = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"].full_name

CONFIG_ROOM = 512 * 1024  # bytes a message may have beside its audio: a thousand hotwords too
LEAST_PING_INTERVAL_S = 10  # clients may probe this often, with no call open too; more often is answered with GOAWAY
READ_AHEAD = 64 * 1024  # bytes of a stream that gRPC takes in before anybody reads them: 2 s of 16 kHz PCM
OTHER_CALLS = 64  # at once, besides those that decode or wait for a decoder: health, models, reflection
STATUS_S = 1.0  # for statuses on their way to clients when the last call has ended
ENDING_S = 5.0  # for what the end of the server has cancelled
LOOK_S = 1.0  # between two looks at the devices


class Node:
    """Listens at once, loads its models meanwhile, serves, drains. `build` makes the recognizer, in a thread."""

    def __init__(
        self,
        settings: Settings,
        build: Callable[[RecognizerConfig, Observer], Recognizer] = Recognizer,
    ) -> None:
        self.metrics = Metrics()
        self._settings = settings
        self._build = build
        self._calls = Calls(settings.max_streams_per_peer, self.metrics)
        self._health = Health((SPEECH,))
        self._speech = Speech(settings, self._calls, self.metrics)
        self._server: aio.Server | None = None
        self._loading: asyncio.Task[None] | None = None
        self._exposition: Exposition | None = None
        self.recognizer: Recognizer | None = None
        self._where: dict[str, str] = {}

    async def start(self) -> int:
        """Listens, begins to load the models, returns the port. Raises ConfigFaults if it cannot listen."""
        settings = self._settings
        interceptors = []
        if settings.tokens_file:
            interceptors.append(security.TokenCheck(security.read_tokens(settings.tokens_file), self._calls))
        self._server = server = aio.server(
            interceptors=interceptors, options=_options(settings), maximum_concurrent_rpcs=most_calls(settings)
        )
        speech_pb2_grpc.add_SpeechServicer_to_server(self._speech, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        channelz.add_channelz_servicer(server)
        reflection.enable_server_reflection((SPEECH, HEALTH, CHANNELZ, reflection.SERVICE_NAME), server)
        port = self._listen(server)
        await server.start()
        self._where["address"] = _address(settings.host, port)
        if self._exposition:
            self._where["metrics_address"] = _address(settings.metrics_host, self._exposition.port)
        log.info("listening", **self._where, tls=settings.tls_cert is not None)
        if settings.tokens_file and not settings.tls_cert:
            log.warning("tokens without TLS travel in clear")
        self._loading = asyncio.create_task(self._load())
        return port

    @property
    def metrics_port(self) -> int | None:
        """Where the metrics are, if they are on and the node has started."""
        return self._exposition.port if self._exposition else None

    @property
    def lost(self) -> list[str]:
        """The devices that do not work any more."""
        return [] if self.recognizer is None else self.recognizer.lost

    async def ready(self) -> None:
        """Returns when the node serves. Raises what kept the models from loading."""
        assert self._loading is not None, "start first"
        await asyncio.shield(self._loading)

    async def stopped(self) -> None:
        """Raises what keeps the node from serving, now or later; otherwise returns after `drain` only."""
        assert self._server is not None, "start first"
        await self.ready()
        # Never cancelled: a cancelled wait would leave the server unable to stop.
        ended = asyncio.ensure_future(self._server.wait_for_termination())
        while not ended.done():
            await asyncio.wait({ended}, timeout=LOOK_S)
            self._look()

    def _look(self) -> None:
        """Raises DeviceLost when no device is left."""
        assert self.recognizer is not None
        self.recognizer.look()
        if len(self.lost) == len(self.recognizer.devices):
            self._health.set(serving=False)
            raise DeviceLost(", ".join(self.recognizer.devices))

    async def reload(self) -> None:
        """Reads the language model and the hotwords anew, for calls from now on; those that are open keep the old."""
        if self._loading is None:
            return  # nothing has been read yet
        await asyncio.wait({self._loading})
        if self.recognizer is None:
            return  # it could not be loaded: `ready` tells
        if not self._settings.searches():
            log.warning("not reloaded", reason="this node has no search with a language model or hotwords")
            self.metrics.reload(done=False)
            return
        try:
            await asyncio.to_thread(self.recognizer.reload)
        except ModelError as error:
            log.warning("not reloaded", reason=str(error))
        except Exception:
            log.exception("not reloaded")
        else:
            log.info("reloaded", **self._search_figures(self.recognizer))
            self.metrics.reload(done=True)
            return
        self.metrics.reload(done=False)

    async def drain(self) -> None:
        """Takes no more calls, lets the live ones finish within the grace, cuts the rest, frees everything.

        The port stays open meanwhile, so that who asks for health hears NOT_SERVING instead of nothing. A card that
        hangs is still given up: nothing here would end before it.
        """
        looking = asyncio.create_task(self._keep_looking())
        try:
            await self._drain()
        finally:
            looking.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self.recognizer is not None:
                self.recognizer.look()

    async def _drain(self) -> None:
        self._health.set(serving=False)
        log.info("draining", live=self._calls.live(), grace_s=self._settings.grace_s)
        await self._calls.drain(self._settings.grace_s)
        cut = self._calls.live()
        if cut:
            log.warning("grace is over", cut=cut)
        self._health.close()
        if self._server is not None:
            await self._server.stop(None if cut else STATUS_S)
            await self._calls.drain(ENDING_S)
        if self._loading is not None:
            await asyncio.wait({self._loading})
        self._speech.close()
        if self.recognizer is not None:
            await asyncio.to_thread(self.recognizer.close)
        if self._exposition is not None:
            await asyncio.to_thread(self._exposition.close)
        log.info("stopped")

    async def _load(self) -> None:
        began_at = time.monotonic()
        self.recognizer = recognizer = await asyncio.to_thread(self._build, self._settings.recognizer(), self.metrics)
        self.metrics.watch(recognizer)
        self._speech.open(recognizer)
        if not self._calls.draining:
            self._health.set(serving=True)
        log.info(
            "serving",
            **self._where,
            models=[model.name for model in recognizer.models],
            passes=self._settings.passes.value,
            **self._search_figures(recognizer),
            devices=recognizer.devices,
            decoders=recognizer.pool.snapshot().total,
            decoder_audio_bytes=recognizer.memory.audio_bytes,
            decoder_search_bytes=recognizer.memory.search_bytes,
            decoder_cache_bytes=recognizer.memory.cache_bytes,
            seconds=round(time.monotonic() - began_at, 3),
        )

    def _search_figures(self, recognizer: Recognizer) -> dict[str, object]:
        """What the search goes by, as log fields."""
        path, search = self._settings.language_model_file(), recognizer.search
        if search is None:
            return {}
        named: dict[str, object] = {}
        if path is not None:
            named = {
                "language_model": path.name,
                "ngrams": search.ngrams,
                "language_model_bytes": search.language_model_bytes,
            }
        return named | {"hotwords": search.hotwords}

    def _listen(self, server: aio.Server) -> int:
        settings = self._settings
        try:
            if settings.metrics_port >= 0:
                self._exposition = Exposition(self.metrics.registry, settings.metrics_host, settings.metrics_port)
        except OSError as error:
            address = _address(settings.metrics_host, settings.metrics_port)
            raise ConfigFaults([f"metrics_port: cannot listen on {address}: {error.strerror or error}"]) from None
        address = _address(settings.host, settings.port)
        try:
            if settings.tls_cert and settings.tls_key:
                keys = security.credentials(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
                return server.add_secure_port(address, keys)
            return server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigFaults([f"port: cannot listen on {address}: {error}"]) from None


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def most_calls(settings: Settings) -> int:
    """Calls at once, of any kind: gRPC refuses more before it reads their first message."""
    decoders = settings.decoders * len(resolve_devices(settings.devices, settings.passes))
    return 2 * decoders + OTHER_CALLS  # for every call that decodes one may wait


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # two nodes on one port would share its calls unnoticed: the second should fail
        ("grpc.max_receive_message_length", settings.max_file_bytes + CONFIG_ROOM),
        ("grpc.http2.lookahead_bytes", READ_AHEAD),
        ("grpc.http2.bdp_probe", 0),  # it would let each stream's read-ahead grow to 4 MiB
        ("grpc.enable_channelz", 1),
        ("grpc.keepalive_time_ms", int(settings.keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", int(settings.keepalive_timeout_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # any number: a quiet call is probed as long as it lasts
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_S * 1000),
    ]
