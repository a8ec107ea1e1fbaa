"""What a request's streams do, by its passes and options."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.decoder.config import RecognizerConfig
from parley.decoder.engine.plan import Partials, Plan
from parley.decoder.engine.staging import StageWorker
from parley.decoder.engine.transcribe import FILE_RULES
from parley.decoder.errors import InvalidOption
from parley.decoder.policy import SEAM_BEST, Policy, plan_of
from parley.decoder.text.inverse_text import InverseText
from parley.decoder.values import EndpointRules, Passes, SearchOptions, StreamOptions
from tests.decoder.bench import Noted
from tests.decoder.conftest import FIRST_MODEL, MODEL
from tests.decoder.searching import wishes

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST, SECOND, BOTH = Passes.FIRST, Passes.SECOND, Passes.BOTH
GRAPH = replace(wishes(), graph="tokens")
RULES = EndpointRules(silence_after_speech_ms=300)


@pytest.mark.parametrize(
    ("passes", "recording", "live", "whole"),
    [
        (FIRST, False, True, None),
        (SECOND, False, False, SECOND),
        (BOTH, False, True, SECOND),
        (FIRST, True, False, FIRST),
        (SECOND, True, False, SECOND),
        (BOTH, True, False, SECOND),  # whose words finals are
    ],
)
def test_which_pass_does_what(passes: Passes, recording: bool, live: bool, whole: Passes | None) -> None:
    plan = plan_of(passes, StreamOptions(), recording=recording, partial_interval_ms=300, final_budget_ms=0)
    assert (plan.live, plan.whole, plan.recording) == (live, whole, recording)
    other = SECOND if passes is not SECOND else FIRST
    asked = plan_of(
        other, StreamOptions(passes=passes), recording=recording, partial_interval_ms=300, final_budget_ms=0
    )
    assert (asked.live, asked.whole) == (live, whole)  # the request's go before the node's


def test_a_lattice_s_finals_are_decoded_again_whole() -> None:
    plan = plan_of(FIRST, StreamOptions(), wishes=GRAPH, partial_interval_ms=300, final_budget_ms=0)
    assert (plan.live, plan.whole, plan.in_context, plan.readings) == (True, FIRST, False, SEAM_BEST)


options = st.builds(
    StreamOptions,
    interim_results=st.booleans(),
    single_utterance=st.booleans(),
    max_alternatives=st.integers(1, 10),
    word_times=st.booleans(),
    rules=st.sampled_from([EndpointRules(), RULES]),
    search=st.sampled_from([SearchOptions(), SearchOptions(grammar="digits")]),
    language=st.sampled_from(["", "en"]),
    written=st.booleans(),
)


@given(
    st.sampled_from(Passes),
    options,
    st.booleans(),
    st.sampled_from([None, wishes(), GRAPH]),
    st.sampled_from([0, 100, 300]),
    st.sampled_from([0, 400]),
)
def test_in_every_plan(
    passes: Passes, options: StreamOptions, recording: bool, wanted: object, interval_ms: int, budget_ms: int
) -> None:
    plan: Plan = plan_of(
        passes,
        options,
        recording=recording,
        wishes=wanted,  # type: ignore[arg-type]
        partial_interval_ms=interval_ms,
        final_budget_ms=budget_ms,
    )
    assert plan.live or plan.whole is not None
    assert plan.whole is not BOTH
    assert not (plan.recording and plan.live)
    assert (plan.partials is Partials.NONE) == (not (options.interim_results and interval_ms))
    assert plan.partials is not Partials.CHUNKS or plan.live
    assert plan.partials is not Partials.WHOLE or (plan.partial_frames > 0 and plan.whole is not None)
    assert not plan.falls_back or plan.live  # on what else?
    assert not (plan.falls_back and options.search.grammar)
    assert (plan.budget_s == math.inf) == (not (plan.live and budget_ms))
    assert plan.readings >= plan.alternatives == options.max_alternatives
    assert plan.readings == plan.alternatives or (plan.whole is FIRST and wanted is not None)
    assert not plan.in_context or (plan.readings >= SEAM_BEST and not plan.live and wanted is not GRAPH)
    assert (plan.rules, plan.word_times, plan.language) == (options.rules, options.word_times, options.language)


@pytest.fixture
def policy() -> Iterator[Policy]:
    """Of a node whose first pass has nothing to wish for."""
    config = RecognizerConfig(
        first_model_dir=FIRST_MODEL, second_model_dir=MODEL, passes=BOTH, partial_interval_ms=500, final_budget_ms=700
    )
    worker = StageWorker(InverseText(), Noted())
    yield Policy(config, {}, None, (worker,))
    worker.close()


def test_a_plan_is_by_the_config(policy: Policy) -> None:
    plan = policy.plan(StreamOptions(interim_results=True, rules=RULES))
    assert (plan.live, plan.whole, plan.budget_s, plan.partial_frames) == (True, SECOND, 0.7, 25)
    assert (plan.rules, plan.partials) == (RULES, Partials.CHUNKS)


def test_a_recording_is_cut_by_rules_of_its_own_and_has_no_interims(policy: Policy) -> None:
    plan = policy.plan(StreamOptions(interim_results=True, rules=RULES), recording=True)
    assert (plan.rules, plan.partials) == (FILE_RULES, Partials.NONE)


@pytest.mark.parametrize("written", [False, True])
@pytest.mark.parametrize(("language", "covered"), [("", False), ("de", False), ("en-GB", True)])
def test_only_what_is_written_differently_goes_through_a_stage(
    policy: Policy, language: str, covered: bool, written: bool
) -> None:
    plan = policy.plan(StreamOptions(language=language, written=written))
    assert [worker.stage.name for worker in plan.stages] == (["inverse_text"] if covered and written else [])
    assert plan.language == language  # stages to come may need it whatever is written


def test_results_go_through_the_stages_that_the_options_want_in_order() -> None:
    class Named(InverseText):
        def __init__(self, name: str) -> None:
            self.name = name

        def wanted(self, options: StreamOptions) -> bool:
            return self.name in options.language

    stages = tuple(StageWorker(Named(name), Noted()) for name in "abc")
    policy = Policy(
        RecognizerConfig(passes=BOTH, first_model_dir=FIRST_MODEL, second_model_dir=MODEL), {}, None, stages
    )
    assert policy.plan(StreamOptions(language="ca")).stages == (stages[0], stages[2])
    for stage in stages:
        stage.close()


@pytest.mark.parametrize(
    "search", [SearchOptions(beam=3), SearchOptions(grammar="digits"), SearchOptions(lattice=True)]
)
@pytest.mark.parametrize("recording", [False, True])
def test_what_cannot_be_wished_for_is_refused(policy: Policy, search: SearchOptions, recording: bool) -> None:
    with pytest.raises(InvalidOption, match="nothing here searches"):
        policy.plan(StreamOptions(search=search), recording=recording)
