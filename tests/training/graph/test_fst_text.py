"""OpenFST's text as a grammar."""

from __future__ import annotations

import pytest

from parley.training.graph.fst_text import read_fst_text
from parley.training.graph.words import GrammarError, Limits
from tests.training.graph.language import sentences


def same(word: str) -> str | None:
    return word if word.isalpha() else None


def accepted(text: str, longest: int = 3) -> dict[str, float]:
    return {" ".join(said): score for said, score in sentences(read_fst_text(text, same), longest).items()}


def test_arcs_finals_and_costs() -> None:
    assert accepted("0 1 yes 0.5\n0\t1\tno\tno\n\n1 2 please please 0.25\n1 1\n2\n") == pytest.approx(
        {"yes": -1.5, "no": -1.0, "yes please": -0.75, "no please": -0.25}
    )


def test_the_first_line_has_the_start() -> None:
    assert set(accepted("7 3 yes\n3 7 no\n3")) == {"yes", "yes no yes"}


def test_arcs_that_say_nothing_go_with_their_best_cost() -> None:
    text = "0 1 <eps> 1\n0 1 <eps> <eps> 2\n1 0 <epsilon> 0\n1 2 yes\n0 2 yes 3\n2 2 no 0.5\n2"
    assert accepted(text, 2) == pytest.approx({"yes": -1.0, "yes no": -1.5})


def test_states_that_lead_nowhere_are_left_out() -> None:
    fsa = read_fst_text("0 1 yes\n0 2 no\n3 1 maybe\n1", same)
    assert (fsa.states, fsa.words) == (2, ("yes",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: got an empty text"),
        ("0 1 yes\nx 1 yes\n1", "line 2: got 'x 1 yes', expected FROM TO WORD"),
        ("0 1 yes -1\n1", "line 1: got '0 1 yes -1', expected a cost of 0 or more"),
        ("0 1 yes nan\n1", "expected a cost of 0 or more"),
        ("0 1 yes\n1 inf", "line 2: got '1 inf', expected a cost of 0 or more"),
        ("0 1 yes no\n1", "line 1: got 'yes' and 'no', expected an acceptor"),
        ("0 1 y3s\n1", "line 1: got 'y3s', expected a word in the letters"),
        ("0 1 yes no 1 2\n1", "line 1: got '0 1 yes no 1 2', expected FROM TO WORD"),
        ("0 1 yes", "accepts nothing"),
        ("0 1 yes\n2", "accepts nothing"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(GrammarError) as caught:
        read_fst_text(text, same)
    assert message in str(caught.value)


def test_limits() -> None:
    with pytest.raises(GrammarError, match="more than 2 states"):
        read_fst_text("0 1 yes\n1 2 no\n2", same, Limits(states=2))
    with pytest.raises(GrammarError, match="characters, expected 3 at most"):
        read_fst_text("0 1 yes", same, Limits(characters=3))
    # What says nothing is walked in advance: 59 arcs become 465.
    chain = "\n".join(f"{at} {at} {'a' * (at + 1)}\n{at} {at + 1} <eps>" for at in range(30))
    with pytest.raises(GrammarError, match="more than 70 arcs"):
        read_fst_text(chain + "\n30", same, Limits(arcs=70))
    assert len(read_fst_text(chain + "\n30", same).word) == 465
