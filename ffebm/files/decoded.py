"""Reads JSON whose every fault is one kind of error."""

from typing import TypeVar

import msgspec

_T = TypeVar("_T")


def decoded(content: bytes, kind: type[_T]) -> _T:
    """A document of a type.

    Raises:
        msgspec.DecodeError: If it is none, whatever is wrong with it: letters, depth, structure or types.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"text that is not UTF-8 ({error.reason})") from None
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
