"""The kit is for every process: it brings nothing of what a decode node is made of."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

from parley.server import kit

MODULES = [f"{kit.__name__}.{module.name}" for module in pkgutil.iter_modules(kit.__path__)]
SCRIPT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*(name for name in sys.modules if name.split(".")[0] in ("numpy", "torch", "numba", "onnxruntime")
        or name.startswith(("parley.decoder", "parley.asr", "parley.server.live", "parley.server.node"))))
"""


def test_the_kit_loads_no_arithmetic_and_no_decoder() -> None:
    assert len(MODULES) > 8
    done = subprocess.run([sys.executable, "-c", SCRIPT, *MODULES], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
