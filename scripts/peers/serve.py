"""A peer's process: `python -m scripts.peers.serve NAME [THREADS]`. Knows the wire and threads, no library.

Prints its port once the model is there, as one line of JSON, and ends when its standard input does. A thread a stream,
as Vosk's server has it, but for every stream that may come: its default of one a core would leave callers waiting.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import grpc

from scripts.peers.wire import CHANNEL_OPTIONS, SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.peers.recognizers import Recognizer

THREADS = 512


def server(recognizer: Recognizer, threads: int) -> tuple[grpc.Server, int]:
    """Not yet started, and its port on 127.0.0.1."""

    def stream(messages: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        line = recognizer.open()
        try:
            for pcm in messages:
                for heard in line.accept(pcm):
                    yield heard.to_wire()
            for heard in line.finish():
                yield heard.to_wire()
        finally:
            line.close()

    def file(pcm: bytes, _: grpc.ServicerContext) -> bytes:
        return recognizer.recognize(pcm).encode()

    made = grpc.server(ThreadPoolExecutor(threads), options=CHANNEL_OPTIONS)
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
        "File": grpc.unary_unary_rpc_method_handler(file),
    }
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    return made, made.add_insecure_port("127.0.0.1:0")


def serve(recognizer: Recognizer, threads: int = THREADS) -> None:
    made, port = server(recognizer, threads)
    made.start()
    print(json.dumps({"port": port}), flush=True)
    sys.stdin.read()
    made.stop(None).wait()


def main() -> int:
    from scripts.peers.recognizers import RECOGNIZERS

    serve(RECOGNIZERS[sys.argv[1]](), *map(int, sys.argv[2:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
