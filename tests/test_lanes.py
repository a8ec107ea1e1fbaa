"""Which lane runs which tests, and what becomes of a skipped one: small suites under the conftest of all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import conftest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest_plugins = ("pytester",)

SUITE = """
import pytest

@pytest.mark.k2
def test_of_k2(): ...

@pytest.mark.both_lanes
def test_of_both_lanes(): ...

def test_of_the_default_lane(): ...
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Runs a suite with the conftest of all tests, in an environment without k2."""
    pytester.makeini("[pytest]\nmarkers =\n  k2\n  both_lanes\nasyncio_default_fixture_loop_scope = function\n")
    monkeypatch.setattr(conftest, "has_k2", lambda: False)

    def run(suite: str, *flags: str) -> pytest.RunResult:
        pytester.makepyfile(suite)
        return pytester.runpytest_inprocess(*flags, plugins=[conftest])

    return run


def with_k2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "has_k2", lambda: True)
    monkeypatch.setattr(conftest, "here", lambda: conftest.K2_LANE)


def test_without_k2_its_tests_are_all_that_is_skipped(run: Callable[..., pytest.RunResult]) -> None:
    ran = run(SUITE, "-rs")
    ran.assert_outcomes(passed=2, skipped=1)
    assert conftest.NO_K2 in ran.stdout.str()


def test_the_lane_of_k2_runs_what_it_can_tell(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_k2(monkeypatch)
    run(SUITE, "--lane", "k2").assert_outcomes(passed=2, deselected=1)


def test_with_k2_the_default_lane_runs_all(
    run: Callable[..., pytest.RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_k2(monkeypatch)
    run(SUITE).assert_outcomes(passed=3)


def test_the_lane_of_k2_without_it_is_refused(run: Callable[..., pytest.RunResult]) -> None:
    ran = run(SUITE, "--lane", "k2")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    assert "no k2; expected Python 3.10, torch 1.13.1, k2: make k2" in ran.stderr.str()


@pytest.mark.parametrize(
    ("how", "outcomes"),
    [
        ("@pytest.mark.skip(reason='some day')\ndef test(): ...", {"errors": 1}),
        ("@pytest.mark.skipif(True, reason='k2 is here')\ndef test(): ...", {"errors": 1}),  # it is not
        ("def test():\n    pytest.skip('no time')", {"failed": 1}),
        ("@pytest.fixture\ndef made():\n    pytest.skip('no time')\ndef test(made): ...", {"errors": 1}),
        ("pytest.importorskip('no_such_module')\ndef test(): ...", {"errors": 1}),
        ("pytest.importorskip('no_such_module', reason=NO_K2)\ndef test(): ...", {"skipped": 1}),
        ("@pytest.mark.xfail(strict=True)\ndef test():\n    assert False", {"xfailed": 1}),
    ],
)
def test_what_is_skipped_without_a_reason_of_the_lane_has_failed(
    run: Callable[..., pytest.RunResult], how: str, outcomes: dict[str, int]
) -> None:
    run(f"import pytest\nNO_K2 = {conftest.NO_K2!r}\n{how}").assert_outcomes(**outcomes)
