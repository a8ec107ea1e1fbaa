"""Everything that there is to learn of one CUDA card, in one call of some minutes: `make gpu`. A table, then its JSON.

Each part stands alone: one that fails is a row that says why, and the rest goes on. `--device cpu` rehearses what can
run without a card, with small numbers. Exit status: 0; 1 if something was not as it should be; 2 if there is no card.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from rich.console import Console
from rich.table import Table

from scripts.gpu import card, node, right, speed
from scripts.gpu.setup import REHEARSAL, Part, Row, Setup, Size, essence

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    console = Console(stderr=True)
    if arguments.device != "cpu" and not torch.cuda.is_available():
        console.print(
            f"gpu: torch {torch.__version__} sees no CUDA card here; --device cpu rehearses what can run without one",
            soft_wrap=True,
        )
        return 2
    size = REHEARSAL if arguments.device == "cpu" else Size()
    setup = Setup(arguments.device, size, time.monotonic() + 60 * arguments.minutes)
    measure(PARTS, setup, console)
    print(json.dumps({"device": setup.device, "rows": [asdict(row) for row in setup.rows]}))
    return int(any(row.ok is False for row in setup.rows))


def measure(parts: Sequence[Part], setup: Setup, console: Console) -> None:
    """All parts, each guarded, and the table of their rows."""
    for name, part in parts:
        try:
            if setup.left_s < 0:
                setup.rows.append(Row(name, "left out", {"": "no time was left: --minutes"}))
                continue
            for row in part(setup):
                setup.rows.append(row)
                console.print(f"{row.part}: {row.what}: {row.text}", markup=False, highlight=False, soft_wrap=True)
        except Exception as error:
            logging.getLogger(__name__).exception("%s failed", name)
            setup.rows.append(Row(name, "failed", {"": f"{type(error).__name__}: {essence(error)}"}, ok=False))
    table = Table("part", "what", "found", "", title=f"{setup.device}", title_justify="left")
    for row in setup.rows:
        table.add_row(row.part, row.what, row.text, {None: "", True: "ok", False: "FAILED"}[row.ok])
    Console(width=160).print(table)


PARTS: tuple[Part, ...] = (
    ("here", card.versions),
    ("equality with the CPU", right.equality),
    ("words", right.words),
    ("out of memory", right.out_of_memory),
    ("a chunk of each", speed.forward),
    ("second pass", speed.second_pass),
    ("one card, two models", node.second_tenant),
    ("paced streams", node.streams),
    ("CUDA graph", speed.graphs),
    ("torch.compile", speed.compiled),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.gpu", description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--device", metavar="DEVICE", default="cuda:0", help="cuda:N or cpu (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=8.0, help="parts that begin later are left out (%(default)g)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
