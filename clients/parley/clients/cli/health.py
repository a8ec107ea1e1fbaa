"""`parley health`: what a server says of itself."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from parley.clients.cli.common import FAILED, access, explain
from parley.clients.core import SPEECH_SERVICE
from parley.clients.results import Serving
from parley.clients.sync import Client
from parley.wire.errors import CallError

if TYPE_CHECKING:
    import argparse

POLL_S = 0.2


def run(args: argparse.Namespace) -> int:
    deadline = time.monotonic() + args.wait
    with Client(**access(args)) as client:
        while (overall := _overall(client, args, deadline)) is None:
            time.sleep(POLL_S)
        print(f"{args.server} {overall.name}")
        print(f"{SPEECH_SERVICE} {_service(client, args)}")
        if overall is not Serving.SERVING:
            return FAILED
        for number, model in enumerate(client.models(timeout_s=args.timeout)):
            which = "default model" if number == 0 else "model"
            languages = ", ".join(model.languages)
            print(f"{which} {model.name}: {languages}; {model.sample_rate} Hz; {model.license}. {model.description}")
    return 0


def _overall(client: Client, args: argparse.Namespace, deadline: float) -> Serving | None:
    """None: it does not serve, and there is time to ask again."""
    try:
        overall = client.health(timeout_s=args.timeout)
    except CallError:
        if time.monotonic() >= deadline:
            raise
        return None
    return None if overall is not Serving.SERVING and time.monotonic() < deadline else overall


def _service(client: Client, args: argparse.Namespace) -> str:
    try:
        return client.health(SPEECH_SERVICE, timeout_s=args.timeout).name
    except CallError as error:
        return explain(error, args.server)
