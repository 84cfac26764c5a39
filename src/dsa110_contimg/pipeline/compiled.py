"""How kernels are compiled: cached on disk, with floating-point shortcuts that still tell NaN from a number."""

from collections.abc import Callable
from typing import Any, TypeVar

import numba

_Function = TypeVar("_Function", bound=Callable[..., Any])
#: Everything of "fast math" but the assumption that there is no NaN and no infinity: NaN marks a missing solution.
_KEEPS_NAN = {"contract", "reassoc", "nsz", "arcp"}


def compiled(*, parallel: bool = False) -> Callable[[_Function], _Function]:
    """Return the decorator that makes a kernel of a function of arrays and numbers.

    The machine code is kept beside the module and loaded by later processes. A kernel must not read mutable globals:
    their values at the time of compilation would be kept too.
    """
    decorator: Callable[[_Function], _Function] = numba.njit(cache=True, parallel=parallel, fastmath=_KEEPS_NAN)
    return decorator
