from __future__ import annotations

import string
from urllib.parse import quote

import pytest

from parley.server.kit.statuses import cut

PUNCTUATION = string.punctuation.replace("%", "")


@pytest.mark.parametrize("character", ["m", "%", "é", "世", "🦜", "\n"])
def test_a_text_is_cut_by_what_it_costs_on_the_way(character: str) -> None:
    found = cut(character * 100_000, 100)
    assert found.endswith("...")
    assert 100 - 3 * len(character.encode()) < len(quote(found, safe=PUNCTUATION + " ")) <= 100
    for length in range(120):
        whole = character * length
        assert (cut(whole, 100) == whole) is (len(quote(whole, safe=PUNCTUATION + " ")) <= 100)
