"""What holds for every test: which lane runs it, and that no lane skips more than what it lacks.

The default lane runs everything. The lane of k2 (`--lane k2`: Python 3.10, torch 1.13.1 and k2) runs what these can
tell: tests marked `k2` or `both_lanes`, and all of the rooms below. Those marked `slow` wait for `make test-slow`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# A busy machine is no fault of the code: nothing here judges by the clock.
settings.register_profile("parley", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("parley")

# A job in the background has Ctrl-C ignored, and so have its children: a test that sends it would wait in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW_TIMEOUT_S = 600  # on a machine that does other things too
HERE = Path(__file__).parent
ROOMS_OF_BOTH_LANES = (
    *("decoder/models", "decoder/search", "decoder/test_"),  # another torch, numpy and numba
    *("clients", "server", "wire"),  # another Python's asyncio
)
K2_LANE = "Python 3.10, torch 1.13.1, k2"
NO_K2 = "k2 is in another lane: make test-k2"


def has_k2() -> bool:
    return importlib.util.find_spec("k2") is not None


def here() -> str:
    torch = importlib.metadata.version("torch").partition("+")[0]
    return f"Python {sys.version_info.major}.{sys.version_info.minor}, torch {torch}, {'k2' if has_k2() else 'no k2'}"


def has_card() -> bool:
    return Path("/dev/nvidiactl").exists()


def multiplies_8_bits() -> bool:
    new = int(importlib.metadata.version("torch").partition(".")[0]) >= 2
    return new and "_vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


# Reasons to skip a test, and whether there is this one here. Nothing else may be skipped.
REASONS: dict[str, Callable[[], bool]] = {
    NO_K2: lambda: not has_k2(),
    "k2 is here": has_k2,
    "int8 needs a CPU with VNNI and torch 2": lambda: not multiplies_8_bits(),
    "there is a card here": has_card,
    "this onnxruntime has CUDA": has_card,
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lane", choices=("default", "k2"), default="default", help="k2: what Python 3.10 and k2 can tell"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("lane") == "k2" and here() != K2_LANE:
        raise pytest.UsageError(f"--lane k2: found {here()}; expected {K2_LANE}: make k2")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.path.relative_to(HERE).as_posix().startswith(ROOMS_OF_BOTH_LANES):
            item.add_marker("both_lanes")
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))
        if item.get_closest_marker("k2") and not has_k2():
            item.add_marker(pytest.mark.skip(reason=NO_K2))
    if config.getoption("lane") == "k2":
        told = [item for item in items if item.get_closest_marker("k2") or item.get_closest_marker("both_lanes")]
        config.hook.pytest_deselected(items=[item for item in items if item not in told])
        items[:] = told


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _check(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _check(report)
    return report


def _check(report: pytest.CollectReport | pytest.TestReport) -> None:
    """A skipped test has failed, unless its reason is among REASONS and true."""
    if report.skipped and not hasattr(report, "wasxfail") and isinstance(report.longrepr, tuple):
        path, line, said = report.longrepr
        reason = said.removeprefix("Skipped: ")
        if not REASONS.get(reason, lambda: False)():
            report.outcome = "failed"
            report.longrepr = f"{path}:{line}: skipped ({reason}), which this lane has no reason for"
