from __future__ import annotations

from pathlib import Path

import pytest

from parley.wire.channel import Tls, metadata


def test_certificate_without_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"got cert=None, key=.*, expected both or none"):
        Tls(key=Path("key.pem"))


def test_token_is_a_bearers() -> None:
    assert metadata("secret") == (("authorization", "Bearer secret"),)
    assert metadata(None) == ()
