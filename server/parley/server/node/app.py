"""A decode node: one gRPC server, its services, the recognizer behind them. Knows how they start and how they end."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from parley.decoder.build import resolve_devices
from parley.decoder.errors import DeviceLost, ModelError
from parley.decoder.recognizer import Recognizer
from parley.server.kit.admission import Calls
from parley.server.kit.grpc_server import Door, address, grpc_server, listen, reflect
from parley.server.kit.health import Health
from parley.server.kit.settings import Fault, Faults
from parley.server.kit.telemetry import Exposition
from parley.server.live.recognition import Recognition
from parley.server.node import protocols
from parley.server.node.telemetry import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from grpc import aio

    from parley.decoder.config import RecognizerConfig
    from parley.decoder.engine.work import Observer
    from parley.server.node.settings import Settings

log = structlog.stdlib.get_logger()

CONFIG_ROOM = 512 * 1024  # bytes a message may have beside its audio: a thousand hotwords too
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
        self._health = Health(protocols.services(settings.protocols))
        self._recognition = Recognition(settings.terms(), self.metrics)
        self._server: aio.Server | None = None
        self._loading: asyncio.Task[None] | None = None
        self._exposition: Exposition | None = None
        self.recognizer: Recognizer | None = None
        self._where: dict[str, str] = {}

    async def start(self) -> int:
        """Listens, begins to load the models, returns the port. Raises Faults if it cannot listen."""
        settings, door = self._settings, _door(self._settings)
        self._server = server = grpc_server(door, self._health, self._calls, protocols.door(settings.protocols))
        reflect(server, protocols.add(settings.protocols, server, self._recognition, self._calls))
        self._expose()
        port = listen(server, door)
        await server.start()
        self._where["address"] = address(settings.host, port)
        if self._exposition:
            self._where["metrics_address"] = address(settings.metrics_host, self._exposition.port)
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
        self._recognition.close()
        if self.recognizer is not None:
            await asyncio.to_thread(self.recognizer.close)
        if self._exposition is not None:
            await asyncio.to_thread(self._exposition.close)
        log.info("stopped")

    async def _load(self) -> None:
        began_at = time.monotonic()
        self.recognizer = recognizer = await asyncio.to_thread(self._build, self._settings.recognizer(), self.metrics)
        self.metrics.watch(recognizer)
        self._recognition.open(recognizer)
        if not self._calls.draining:
            self._health.set(serving=True)
        log.info(
            "serving",
            **self._where,
            models=[model.name for model in recognizer.models],
            passes=self._settings.core.passes.value,
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

    def _expose(self) -> None:
        settings = self._settings
        try:
            if settings.metrics_port >= 0:
                self._exposition = Exposition(self.metrics.registry, settings.metrics_host, settings.metrics_port)
        except OSError as error:
            where = address(settings.metrics_host, settings.metrics_port)
            raise Faults([Fault("metrics_port", f"cannot listen on {where}: {error.strerror or error}")]) from None


def most_calls(settings: Settings) -> int:
    """Calls at once, of any kind: gRPC refuses more before it reads their first message."""
    core = settings.core
    decoders = core.decoders * len(resolve_devices(core.devices, core.passes))
    return 2 * decoders + OTHER_CALLS  # for every call that decodes one may wait


def _door(settings: Settings) -> Door:
    return Door(
        host=settings.host,
        port=settings.port,
        most_calls=most_calls(settings),
        most_bytes=settings.max_file_bytes + CONFIG_ROOM,
        keepalive_s=settings.keepalive_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        tls_client_ca=settings.tls_client_ca,
        tokens_file=settings.tokens_file,
    )
