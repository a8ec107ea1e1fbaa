"""The search against machines whose limit is known, noisy ones too."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.clients.capacity.search import MAJORITY, NARROW, Outcome, Plan, Trial, answer, next_level, next_level_of_any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

HELD, BROKEN = Outcome.HELD, Outcome.BROKEN


def run(plan: Plan, holds: Callable[[int, int], bool]) -> list[Trial]:
    """All trials of a search; `holds(level, time)`: whether the so many-th run at a level holds, from 0."""
    return trials_of(plan, lambda level, time: HELD if holds(level, time) else BROKEN, plan.repeats)


def trials_of(plan: Plan, machine: Callable[[int, int], Outcome], most: int) -> list[Trial]:
    """All trials of a search, no level more than `most` times: an edge that is settled is tried no more."""
    trials: list[Trial] = []
    times: Counter[int] = Counter()
    while (level := next_level(plan, trials)) is not None:
        trials.append(Trial(level, machine(level, times[level])))
        times[level] += 1
        assert times[level] <= most
    return trials


plans = st.builds(
    lambda first, more, repeats, growth, parts: Plan(first, first + more, repeats, growth, parts),
    st.integers(1, 64),
    st.integers(0, 2000),
    st.sampled_from([1, 3, 5]),
    st.floats(1.01, 4),
    st.integers(1, 32),
)


@given(plans, st.integers(0, 2500))
def test_quiet_machine_is_found_to_a_step(plan: Plan, limit: int) -> None:
    trials = run(plan, lambda level, _: level <= limit)
    found = answer(plan, trials)
    assert found.settled
    assert found.against == 0
    assert found.held <= limit
    if limit >= plan.most:
        assert (found.held, found.broken, found.limit) == (plan.most, None, None)
    else:
        assert found.broken is not None
        assert found.broken > limit
        assert found.broken - found.held <= plan.step(found.held)
        assert found.broken_runs == (plan.repeats, plan.repeats)
    if found.held:
        assert found.held_runs == (plan.repeats, plan.repeats)
    assert max(trial.level for trial in trials) <= plan.most


@given(st.integers(0, 300), st.sampled_from([3, 5]), st.data())
def test_noise_in_fewer_than_half_of_a_levels_runs_changes_nothing(
    limit: int, repeats: int, data: st.DataObject
) -> None:
    plan = Plan(4, 256, repeats)
    wrong: dict[int, set[int]] = {}

    def holds(level: int, time: int) -> bool:
        if level not in wrong:
            times = st.sets(st.integers(0, repeats - 1), max_size=repeats // 2)
            wrong[level] = data.draw(times)
        return (level <= limit) != (time in wrong[level])

    found = answer(plan, run(plan, holds))
    assert found.settled
    assert found.held <= limit
    if limit < plan.most:
        assert found.broken is not None
        assert found.broken > limit
        assert found.broken - found.held <= plan.step(found.held)


@given(plans, st.randoms(use_true_random=False))
def test_search_ends_whatever_the_machine_does(plan: Plan, chance: random.Random) -> None:
    trials = trials_of(plan, lambda *_: chance.choice(list(Outcome)), max(plan.repeats, MAJORITY))
    found = answer(plan, trials)
    assert found.settled
    assert 0 <= found.held <= plan.most
    assert 0 < found.confidence < 1


def delays_of(
    plan: Plan, limits_s: dict[str, float], delay_s: Callable[[int, int], float], most: int
) -> dict[str, list[Trial]]:
    """All trials of a search within several limits; `delay_s(level, time)`: of the so many-th run at a level."""
    trials: dict[str, list[Trial]] = {name: [] for name in limits_s}
    times: Counter[int] = Counter()
    while (level := next_level_of_any(plan, trials)) is not None:
        measured_s = delay_s(level, times[level])
        for name, limit_s in limits_s.items():
            trials[name].append(Trial.by_delay(level, measured_s, limit_s))
        times[level] += 1
        assert times[level] <= most
    return trials


limits = st.dictionaries(st.text(max_size=3), st.floats(0.01, 10), min_size=1, max_size=4)


@given(plans, limits)
def test_each_of_several_limits_is_found_to_a_step(plan: Plan, limits_s: dict[str, float]) -> None:
    """Of a quiet machine, whose delay grows by 10 ms a call: within 1 s it holds 100."""
    trials = delays_of(plan, limits_s, lambda level, _: level / 100, max(plan.repeats, MAJORITY))
    for name, limit_s in limits_s.items():
        found = answer(plan, trials[name])
        assert found.settled
        assert found.held <= plan.most
        assert found.held / 100 <= limit_s
        if found.broken is None:
            assert found.held == plan.most
        else:
            assert found.broken / 100 > limit_s
            assert found.broken - found.held <= plan.step(found.held)


@given(plans, limits, st.randoms(use_true_random=False))
def test_search_within_several_limits_ends_and_a_wider_limit_holds_no_less(
    plan: Plan, limits_s: dict[str, float], chance: random.Random
) -> None:
    trials = delays_of(
        plan, limits_s, lambda *_: chance.choice([0.0, 0.1, 1.0, 3.0, math.inf]), max(plan.repeats, MAJORITY)
    )
    held = [answer(plan, trials[name]).held for name in sorted(limits_s, key=limits_s.__getitem__)]
    assert held == sorted(held)


@given(st.integers(1, 200), st.data())
def test_one_narrow_miss_a_level_changes_nothing(limit: int, data: st.DataObject) -> None:
    """With one run a level: a bad second of the machine alone takes no call from the answer."""
    plan = Plan(4, 256, repeats=1, parts=8)
    slips: dict[int, bool] = {}

    def delay_s(level: int, time: int) -> float:
        if level > limit:
            return 1.0 * NARROW + 0.1
        slipped = slips.setdefault(level, data.draw(st.booleans())) and time == 0
        return 1.5 if slipped else 0.5

    (trials,) = delays_of(plan, {"1 s": 1.0}, delay_s, MAJORITY).values()
    found = answer(plan, trials)
    assert found.held <= limit
    assert found.broken is None or found.broken > limit


def test_delay_is_judged_by_how_far_it_is_over_its_limit() -> None:
    assert Trial.by_delay(8, 0.3, 0.3) == Trial(8, HELD)
    assert Trial.by_delay(8, 0.6, 0.3) == Trial(8, BROKEN, narrow=True)
    assert Trial.by_delay(8, 0.61, 0.3) == Trial(8, BROKEN)
    assert Trial.by_delay(8, math.inf, 0.3) == Trial(8, BROKEN)


def test_narrow_miss_is_tried_again_and_the_third_run_decides() -> None:
    plan = Plan(4, 512, repeats=1, parts=8)
    trials = [Trial(4, HELD), Trial(8, BROKEN, narrow=True)]
    assert next_level(plan, trials) == 8
    assert next_level(plan, [*trials, Trial(8, BROKEN, narrow=True)]) == 6
    assert next_level(plan, [*trials, Trial(8, HELD)]) == 8
    assert next_level(plan, [*trials, Trial(8, HELD), Trial(8, BROKEN, narrow=True)]) == 6
    assert next_level(plan, [*trials, Trial(8, HELD), Trial(8, HELD)]) == 16


def test_it_doubles_halves_and_repeats() -> None:
    levels = [trial.level for trial in run(Plan(4, 1024, 3), lambda level, _: level <= 11)]
    assert levels == [4, 8, 16, 12, 10, 11, 11, 12, 11, 12]


def test_it_grows_as_fast_as_the_plan_says() -> None:
    plan = Plan(10, 100, 1, growth=1.5, parts=12)
    assert [trial.level for trial in run(plan, lambda level, _: level <= 40)] == [10, 15, 22, 33, 49, 41, 37, 39]


def test_level_that_turns_over_sends_the_search_back() -> None:
    trials = [Trial(4, HELD), Trial(8, HELD), Trial(16, BROKEN), Trial(12, BROKEN), Trial(10, HELD), Trial(11, HELD)]
    plan = Plan(4, 1024, 3)
    assert next_level(plan, trials) == 11
    trials += [Trial(11, BROKEN), Trial(11, BROKEN)]
    assert answer(plan, trials).held == 10
    assert next_level(plan, trials) == 10


def test_level_whose_callers_were_late_once_is_tried_again_at_once() -> None:
    late = Outcome.CALLERS_LATE
    plan = Plan(4, 1024, 1)
    trials = [Trial(4, HELD), Trial(8, late)]
    assert next_level(plan, trials) == 8
    assert next_level(plan, [*trials, Trial(8, late)]) == 6
    assert next_level(plan, [*trials, Trial(8, BROKEN)]) == 6
    assert next_level(plan, [*trials, Trial(8, HELD)]) == 8
    assert next_level(plan, [*trials, Trial(8, HELD), Trial(8, HELD)]) == 16


def test_tie_has_not_held() -> None:
    found = answer(Plan(), [Trial(4, HELD), Trial(4, BROKEN)])
    assert (found.held, found.broken, found.settled) == (0, 4, False)


def test_answer_says_how_sure_it_is_and_what_speaks_against_it() -> None:
    trials = [Trial(8, HELD)] * 3 + [Trial(9, BROKEN), Trial(9, HELD), Trial(9, BROKEN), Trial(16, HELD)]
    found = answer(Plan(8, 16, 3), trials)
    assert (found.held, found.held_runs, found.broken, found.broken_runs) == (8, (3, 3), 9, (2, 3))
    assert found.against == 2
    assert found.confidence == pytest.approx(3 / 5)
    assert answer(Plan(), trials[:3]).confidence == pytest.approx(4 / 5)
    assert answer(Plan(), []).confidence == pytest.approx(1 / 2)


def test_limit_is_what_most_runs_met() -> None:
    late, refused = Outcome.CALLERS_LATE, Outcome.REFUSED
    assert answer(Plan(), [Trial(4, late), Trial(4, late), Trial(4, BROKEN)]).limit is late
    assert answer(Plan(), [Trial(4, HELD), Trial(8, refused)]).limit is refused
    assert answer(Plan(), [Trial(4, HELD)]).limit is None


def test_plan_refuses_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="got levels from 8 to 4"):
        Plan(8, 4)
    with pytest.raises(ValueError, match=r"repeats: got 2, expected 1, 3, 5"):
        Plan(repeats=2)
    with pytest.raises(ValueError, match=r"growth: got 1, expected more than 1"):
        Plan(growth=1)
    with pytest.raises(ValueError, match=r"parts: got 0, expected 1 or more"):
        Plan(parts=0)
