"""Compiles a loop when it is first called.

numba takes a third of a second to import and seconds to compile, once on a machine: the result is kept beside
the file, or in the user's cache. So only what is long asks for it, and the plain form of each loop, which
finds the same to the last bit, does the rest.
"""

from typing import Any

from numba import njit


def compiled(function: Any) -> Any:
    """A loop that numba compiles when it is called."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # there is no folder to keep it in
        return njit(nogil=True)(function)
