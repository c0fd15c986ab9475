"""Compile a model graph for analog crossbar tiles and digital units, and run and train the plan."""

from typing import TYPE_CHECKING, Any

from ffebm.errors import FfebmError, NotSettledWarning, SmallStepWarning

if TYPE_CHECKING:
    from ffebm.compiler.driver import compile_model as compile  # noqa: A004 - the public verb
    from ffebm.hardware.description import Hardware, load_hardware
    from ffebm.plan.plan import Plan, load_plan
    from ffebm.plan.schema import Settle
    from ffebm.runtime.blocks.estimators.gradient import EP, Implicit, Unrolled
    from ffebm.runtime.blocks.settling.settling import Equilibrium
    from ffebm.runtime.executor import Executor

__all__ = [
    "EP",
    "Equilibrium",
    "Executor",
    "FfebmError",
    "Hardware",
    "Implicit",
    "NotSettledWarning",
    "Plan",
    "Settle",
    "SmallStepWarning",
    "Unrolled",
    "compile",
    "load_hardware",
    "load_plan",
]

_LAZY = {
    "EP": ("ffebm.runtime.blocks.estimators.gradient", "EP"),
    "Equilibrium": ("ffebm.runtime.blocks.settling.settling", "Equilibrium"),
    "Executor": ("ffebm.runtime.executor", "Executor"),
    "Hardware": ("ffebm.hardware.description", "Hardware"),
    "Implicit": ("ffebm.runtime.blocks.estimators.gradient", "Implicit"),
    "Plan": ("ffebm.plan.plan", "Plan"),
    "Settle": ("ffebm.plan.schema", "Settle"),
    "Unrolled": ("ffebm.runtime.blocks.estimators.gradient", "Unrolled"),
    "compile": ("ffebm.compiler.driver", "compile_model"),
    "load_hardware": ("ffebm.hardware.description", "load_hardware"),
    "load_plan": ("ffebm.plan.plan", "load_plan"),
}
"""Imported when first used: torch alone costs two seconds, and `ffebm --help` needs none of them."""


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'ffebm' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    found = getattr(import_module(module), attribute)
    globals()[name] = found  # looked up once
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
