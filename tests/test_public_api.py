import copy
import types

import pytest

import ffebm

NAMES = {
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
}


def test_the_public_names_are_these() -> None:
    assert set(ffebm.__all__) == NAMES
    assert ffebm.__all__ == sorted(ffebm.__all__)
    assert dir(ffebm) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_resolves(name: str) -> None:
    found = getattr(ffebm, name)
    assert callable(found)
    assert found.__doc__
    assert found.__module__.startswith("ffebm.")


def test_nothing_is_public_by_accident() -> None:
    extra = {
        name
        for name, value in vars(ffebm).items()
        if not name.startswith("_") and name not in NAMES and not isinstance(value, types.ModuleType)
    }
    assert extra <= {"TYPE_CHECKING", "Any"}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'ffebm' has no attribute 'nonsense'$"):
        ffebm.nonsense  # noqa: B018 - reading it is the test


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (ffebm.EP(), "beta"),
        (ffebm.Implicit(), "tol"),
        (ffebm.Unrolled(), "sweeps"),
        (ffebm.Settle(), "tol"),
        (ffebm.load_hardware("ideal"), "name"),
    ],
)
def test_settings_are_values(value: object, name: str) -> None:
    """What they were when they were handed over they stay, and equal ones are equal."""
    with pytest.raises(AttributeError):
        setattr(value, name, 0.5)
    assert copy.copy(value) == value
