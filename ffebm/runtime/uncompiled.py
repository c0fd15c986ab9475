"""What torch's compiler leaves as it is."""

from collections.abc import Callable
from typing import Any

import torch


def _call(run: Callable[..., Any], *given: Any) -> Any:
    return run(*given)


# torch's public name for it imports the compiler, which takes 1.5 s, even where nobody compiles
uncompiled: Callable[..., Any] = torch._disable_dynamo(_call)  # type: ignore[attr-defined]
"""Calls, untraced, what a compiler cannot trace: a block settles until it has settled."""
