"""Python compiled to machine code by numba, with Python's lock free while it runs. Knows nothing of what is compiled.

Compiled code is kept on disk: where NUMBA_CACHE_DIR says, beside the module, or in the user's cache; where none of them
can be written, every start compiles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

import numba

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., object]")


def compiled(function: F) -> F:
    """The function, compiled at its first call for the types it gets then."""
    try:
        return cast("F", numba.njit(nogil=True, cache=True, error_model="numpy")(function))
    except RuntimeError:  # neither place can be written
        return cast("F", numba.njit(nogil=True, error_model="numpy")(function))
