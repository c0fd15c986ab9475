"""Holds Python's search for cycles of objects off while much is made that has none.

A compilation makes hundreds of thousands of tasks and steps, and keeps many: looking through all of them for
cycles again and again takes a quarter of its time, and finds hardly any.
"""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_inside = 0
_was_on = False


@contextmanager
def collecting_later() -> Iterator[None]:
    """Cycles are looked for afterwards, as before; in several threads, after the last of them is out."""
    global _inside, _was_on
    with _lock:
        if not _inside:
            _was_on = gc.isenabled()
            gc.disable()
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside and _was_on:
                gc.enable()
