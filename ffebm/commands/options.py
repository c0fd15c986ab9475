"""Options of a command that a dataclass declares, one a field: several commands can have the same."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature
from typing import Any


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command that has an option for each field of those of its parameters that are dataclasses."""
    asked = inspect.signature(command).parameters
    kinds: dict[str, Any] = {
        name: one.annotation for name, one in asked.items() if is_dataclass(one.annotation)
    }
    parameters = [
        found for name, one in asked.items() for found in (_options(kinds[name]) if name in kinds else [one])
    ]
    signature = Signature(parameters)

    @wraps(command)
    def run(*arguments: object, **options: object) -> None:  # the names are those of the signature
        bound = signature.bind(*arguments, **options)
        bound.apply_defaults()
        given = bound.arguments
        for name, kind in kinds.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    setattr(run, "__signature__", signature)  # noqa: B010 -- functions have no such attribute for mypy
    return run


def _options(kind: Any) -> Iterator[Parameter]:
    for field in fields(kind):
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
