"""`ffebm recipe`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from typer import Argument, Option

from ffebm.commands.console import LARGEST, out
from ffebm.errors import UsageError
from ffebm.files.write_file import write_file

if TYPE_CHECKING:
    from ffebm.plan.plan import Plan
    from ffebm.recipes.beyond import Beyond
    from ffebm.recipes.recipe import Experiment
    from ffebm.training.settings import Training


def recipe(  # noqa: PLR0913 - a command's options are its arguments
    name: Annotated[str | None, Argument(help="Of the recipe; without it they are listed.")] = None,
    output: Annotated[Path | None, Option("-o", "--output", help="Plan folder. [default: NAME.plan]")] = None,
    width: Annotated[
        float,
        Option(help="Factor of the channels; couplings stay as strong, below 1 settings follow it."),
    ] = 1.0,
    data: Annotated[
        str | None,
        Option(
            help="cifar-10, cifar-100, imagenet32, fashion-mnist, digits or python-manual. "
            "[default: the recipe's]"
        ),
    ] = None,
    hardware: Annotated[str, Option(help="Shipped name, or path of a .toml file.")] = "ideal",
    seed: Annotated[int, Option(help="Of the initial weights and of training.", min=0, max=LARGEST)] = 0,
    hold_norm: Annotated[
        str | None,
        Option(help="Largest spectral norm of the couplings inside blocks, or of others: 0.8,NAME; or none."),
    ] = None,
    feedback: Annotated[
        float | None,
        Option(
            help="How strongly layers of a block feel the one above, of the published strength: at most 1. "
            "The feedforward network stays the same. [default: the recipe's]"
        ),
    ] = None,
    measured: Annotated[
        bool, Option("--time", help="Train a few steps here, and tell how long a step and the run take.")
    ] = False,
) -> None:
    """List experiments, or write one as a plan and the settings that train it."""
    from ffebm.recipes.beyond import BEYOND
    from ffebm.recipes.catalogue import ALL

    if name is None:
        _check_list(output, hardware, seed, hold_norm, feedback, measured)
        _list(width, data, hardware, measured)
        return
    if name not in {*ALL, *BEYOND}:
        raise UsageError(f"no recipe is called {name!r}", allowed=", ".join([*ALL, *BEYOND]))
    from ffebm.training.settings import held_norm

    chosen: Experiment | None = None
    if name in BEYOND:
        _check_beyond(BEYOND[name], name, width, data, measured)
        other = BEYOND[name] if feedback is None else BEYOND[name].with_feedback(feedback)
        plan, training = other.plan(seed, hardware), other.settings(seed)
    else:
        chosen = ALL[name] if feedback is None else ALL[name].with_feedback(feedback)
        plan, training = _published(chosen, width, data, seed, hardware)
    if hold_norm is not None:
        held = None if hold_norm == "none" else held_norm(hold_norm)
        training = msgspec.structs.replace(training, hold_norm=held)
        _check_held(plan, training)
    folder = output or Path(f"{name}.plan")
    settings = _write(plan, training, folder)
    files = " --data-folder FOLDER" if training.data in {"cifar-10", "cifar-100", "imagenet32"} else ""
    out.print(f"train it: ffebm train {folder} --settings {settings}{files}", markup=False)
    if measured and chosen is not None and chosen.trains:
        out.print(_time(chosen, width, training.data, hardware), markup=False)


def _write(plan: "Plan", training: "Training", folder: Path) -> Path:
    """Write the plan, and beside it the settings that it can be trained by; returns where these are."""
    from ffebm.training.settings import settings_text

    nudged = _nudged_as_it_can_be(plan, training)
    settings = folder.with_name(f"{folder.name}.toml")
    plan.save(folder)
    write_file(settings, settings_text(nudged).encode("utf-8"))
    out.print(plan.summary(), end="", markup=False)
    out.print(f"plan written to {folder}, settings to {settings}", markup=False)
    if nudged != training:
        out.print(
            f"note: {plan.blocks[-1].name} settles by itself, which takes constant nudges: the recipe's "
            "cost = true is left out of the settings"
            + (
                f", and beta is {nudged.beta}, so that ADCs see the answers"
                if nudged.beta != training.beta
                else ""
            ),
            markup=False,
        )
    return settings


def _nudged_as_it_can_be(plan: "Plan", training: "Training") -> "Training":
    """Settings whose nudges the plan's last block can have.

    What settles by itself takes none by the cost, and its states are read by ADCs: a deep resistive block,
    whose answers are in proportion to the nudge as long as no diode changes, takes a stronger one.
    """
    from ffebm.recipes.deep_resistive import CIRCUIT_BETA

    if training.cost and plan.blocks:
        group = plan.hardware.analog_group(plan.blocks[-1].group)
        if group.settling == "continuous":
            beta = CIRCUIT_BETA if plan.blocks[-1].physics == "deep-resistive" else training.beta
            return msgspec.structs.replace(training, cost=False, beta=beta)
    return training


def _check_held(plan: "Plan", training: "Training") -> None:
    """The norm that is asked for holds weights of the plan, as a run of it would ask.

    Raises:
        UsageError: If it does not.
    """
    from ffebm.runtime.executor import Executor
    from ffebm.training.optimization.constraint import constraints
    from ffebm.training.optimization.optimizer import make_optimizer

    net = Executor(plan)
    make_optimizer(training, net)  # which weights train
    constraints(training, net)


def _published(
    chosen: "Experiment", width: float, data: str | None, seed: int, hardware: str
) -> "tuple[Plan, Training]":
    """One of the published experiments."""
    from ffebm.compiler.driver import compile_model

    data = data or chosen.training.data
    training = chosen.settings(data, seed, width)
    plan = compile_model(
        chosen.model(width, data, seed),
        hardware=hardware,
        block_size=chosen.block_size,
        digital=chosen.digital,
        boundary=chosen.boundary,
        settle=chosen.settling(width),
        physics=chosen.physics,
    )
    return plan, training


def _check_beyond(chosen: "Beyond", name: str, width: float, data: str | None, measured: bool) -> None:
    """Options that only published experiments have are not given."""
    for option, is_given in (("--width", width != 1.0), ("--time", measured)):
        if is_given:
            raise UsageError(f"{option} with the recipe {name!r}", allowed="published experiments")
    if data not in {None, chosen.training.data}:
        raise UsageError(f"{name!r} does not train on {data!r}", allowed=chosen.training.data)


def _check_list(
    output: Path | None,
    hardware: str,
    seed: int,
    hold_norm: str | None,
    feedback: float | None,
    measured: bool,
) -> None:
    """Options that the list has no use for are not given."""
    given = {
        "--output": output is not None,
        "--hardware": hardware != "ideal" and not measured,
        "--seed": seed != 0,
        "--hold-norm": hold_norm is not None,
        "--feedback": feedback is not None,
    }
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"{option} without the name of a recipe", hint="`ffebm recipe` lists them")


def _list(width: float, data: str | None, hardware: str, measured: bool) -> None:
    from ffebm.recipes.beyond import BEYOND
    from ffebm.recipes.catalogue import ALL, DATA

    published = {name: one for name, one in ALL.items() if data is None or _trains_on(one, data)}
    others = {name: one for name, one in BEYOND.items() if data in {None, one.training.data}}
    if not published and not others:
        known = dict.fromkeys([*DATA, *(other.training.data for other in BEYOND.values())])
        raise UsageError(f"no recipe trains on {data!r}", allowed=", ".join(known))
    longest = max(len(name) for name in (*ALL, *BEYOND))
    for name, chosen in published.items():
        settle, seen = chosen.settling(width), data or chosen.training.data
        limit = "" if settle.tol is None else f", tolerance {settle.tol:g}"
        sweeps = f"{settle.free_sweeps} free and {settle.nudged_sweeps} nudged sweeps{limit}"
        took = (
            f"; {_time(chosen, width, seen, hardware)}"
            if measured and chosen is not None and chosen.trains
            else ""
        )
        out.print(f"{name:<{longest}}  {chosen.title}; at most {sweeps}; {seen}{took}", markup=False)
    for name, other in others.items():
        out.print(f"{name:<{longest}}  beyond the paper: {other.title}; {other.training.data}", markup=False)


def _trains_on(chosen: "Experiment", data: str) -> bool:
    try:
        chosen.images(data)
    except UsageError:
        return False
    return True


def _time(chosen: "Experiment", width: float, data: str, hardware: str) -> str:
    """What a step and the run take here."""
    from ffebm.recipes.timing import duration

    return duration(chosen, width, data, hardware).words()
