"""Generates the Python code of proto/, beside the .proto files. Knows protoc and its plugins, not what it generates.

`--check` writes nothing and exits 1 when the committed code is not what the .proto files give.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent.parent / "proto"
GENERATED = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def generate(out: Path) -> None:
    # By its full path: `.venv/bin` is not on PATH when its python is called directly.
    scripts = Path(sysconfig.get_path("scripts"))
    well_known = Path(grpc_tools.__path__[0]) / "_proto"
    arguments = [
        "protoc",
        f"--plugin=protoc-gen-mypy={scripts / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={scripts / 'protoc-gen-mypy_grpc'}",
        f"-I{PROTO}",
        f"-I{well_known}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out={out}",
        f"--mypy_grpc_out={out}",
        *(str(path) for path in sorted(PROTO.rglob("*.proto"))),
    ]
    status = protoc.main(arguments)
    if status:
        raise SystemExit(f"protoc exited with {status}")


def read_generated(root: Path) -> dict[Path, bytes]:
    return {path.relative_to(root): path.read_bytes() for pattern in GENERATED for path in root.rglob(pattern)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed code instead of writing")
    if not parser.parse_args().check:
        generate(PROTO)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, committed = read_generated(Path(scratch)), read_generated(PROTO)
    stale = sorted(path for path in fresh.keys() | committed.keys() if fresh.get(path) != committed.get(path))
    for path in stale:
        print(f"proto/{path} is not what the .proto files give: run `make proto`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
