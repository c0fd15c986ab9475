"""The plan: what a compiled model is, in memory and on disk.

A plan folder holds `plan.json` (everything a person would read), `weights.safetensors` (the model's constants
by source name), `crossbars.safetensors` (target conductances), `digital/` (one program a digital segment),
`source.onnx` (an ONNX source without its weights) and `SHA256SUMS` over all of them.
"""

from collections.abc import Hashable, Sequence
from os import PathLike
from pathlib import Path

import msgspec
import numpy as np
import safetensors

from ffebm import plugins
from ffebm.errors import HardwareError, InternalError, Location, PlanError, UsageError
from ffebm.files.decoded import decoded
from ffebm.files.folder import FileContent, read_folder, write_folder
from ffebm.graph.tensor import Array, TensorType, holds_floats
from ffebm.hardware.description import check_hardware
from ffebm.plan.checks.contradictions import plan_problems
from ffebm.plan.checks.left_out import stand_in
from ffebm.plan.checks.schedules import number_problems
from ffebm.plan.pictures.notebook import plan_html
from ffebm.plan.program import Segment
from ffebm.plan.programming import with_copies, without_copies
from ffebm.plan.schema import SCHEMA, Manifest, PlanData, TilePlan
from ffebm.plan.summary import headline, summary_lines
from ffebm.plan.tensor_file import Packed, unpack

MANIFEST, WEIGHTS, CROSSBARS = "plan.json", "weights.safetensors", "crossbars.safetensors"
MODEL = "source.onnx"


class Plan(PlanData, kw_only=True, forbid_unknown_fields=True, eq=False):
    """A compiled model."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        arrays = {"weights", "crossbars"}
        plain = [f for f in self.__struct_fields__ if f not in arrays]
        return all(getattr(self, f) == getattr(other, f) for f in plain) and all(
            _same_arrays(getattr(self, f), getattr(other, f)) for f in arrays
        )

    def __ne__(self, other: object) -> bool:
        return not self == other  # msgspec's own compares identities

    def __repr__(self) -> str:
        return f"<Plan of {headline(self)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the picture of the partition, and the summary."""
        return plan_html(self)

    def save(self, path: str | Path) -> None:
        """Write the plan folder; all of it or nothing.

        Raises:
            PlanError: If something that is not a plan is in the way, or the disk refuses.
            InternalError: If a step's time or cost is no finite number of at least 0, which JSON cannot hold.
        """
        for schedule in (self.inference, self.training):
            problem = next(number_problems(schedule), None)
            if problem is not None:
                raise InternalError(problem, location=Location(self.hardware.name))
        document = {name: getattr(self, name) for name in Manifest.__struct_fields__}
        files: dict[str, FileContent] = {
            MANIFEST: msgspec.json.format(msgspec.json.encode(document), indent=1),
            WEIGHTS: Packed({n: a for n, a in self.weights.items() if n not in self.left_out}),
            CROSSBARS: Packed(without_copies(self.crossbars, _parts(self.tiles))),
        }
        for segment in self.segments:
            name = f"digital/segment{segment.id:04}.json"
            files[name] = msgspec.json.format(msgspec.json.encode(segment), indent=1)
        if self.model:
            files[MODEL] = self.model
        write_folder(Path(path), files, MANIFEST)

    def summary(self) -> str:
        """What a person wants to know first, as text of at most 80 columns."""
        return "\n".join(summary_lines(self)) + "\n"


def _parts(tiles: Sequence[TilePlan]) -> list[tuple[int, Hashable]]:
    """The pieces by id, each with what it is a part of."""
    pieces = sorted((piece for tile in tiles for piece in tile.pieces), key=lambda piece: piece.id)
    return [(p.id, (p.weight, p.group, p.inputs, p.outputs, p.transposed)) for p in pieces]


def _check_packages(packages: tuple[str, ...], where: Location) -> None:
    """Each is installed here as a plug-in."""
    missing = sorted(set(packages) - plugins.packages()) if packages else []
    if missing:
        raise PlanError(
            f"the plan needs package {missing[0]!r}, which is not installed here as a plug-in of ffebm",
            allowed=f"installed are: {', '.join(sorted(plugins.packages())) or 'none'}",
            hint="install it if you trust it; a plan by itself makes no package run",
            location=where,
        )


def load_plan(path: str | Path) -> Plan:
    """Read a plan folder and check all of it.

    Raises:
        PlanError: If it is no plan, of an unknown version, incomplete, damaged, or contradicts itself.
        UsageError: If what is given is no path.
    """
    if not isinstance(path, str | PathLike):
        raise UsageError(f"a plan's folder is a {type(path).__name__}", allowed="a path")
    folder = Path(path)
    where = Location(str(folder))
    files = read_folder(folder, MANIFEST)
    try:
        found = decoded(files[MANIFEST], _PlanVersion).schema
        if found != SCHEMA:
            raise PlanError(
                f"the plan is of version {found}",
                allowed=f"this ffebm reads version {SCHEMA}",
                hint="compile the model again with this version",
                location=where,
            )
        manifest = decoded(files[MANIFEST], Manifest)
        _check_packages(manifest.packages, where)
        names = sorted(name for name in files if name.startswith("digital/"))
        segments = tuple(decoded(files[name], Segment) for name in names)
        weights = unpack(files[WEIGHTS])
        weights |= _stand_ins(manifest.left_out, where)
        crossbars = with_copies(unpack(files[CROSSBARS]), _parts(manifest.tiles))
    except KeyError as error:
        raise PlanError(f"{error.args[0]} is missing", hint="compile again", location=where) from None
    except (msgspec.DecodeError, safetensors.SafetensorError) as error:
        raise PlanError(f"cannot be read: {error}", hint="compile again", location=where) from None
    plain = {name: getattr(manifest, name) for name in Manifest.__struct_fields__}
    plan = Plan(**plain, segments=segments, weights=weights, crossbars=crossbars, model=files.get(MODEL, b""))
    try:
        check_hardware(plan.hardware, str(folder))
    except HardwareError as error:
        raise PlanError(
            f"its hardware: {error.found}", allowed=error.allowed, location=error.location
        ) from None
    problem = next(plan_problems(plan), None)
    if problem is not None:
        raise PlanError(problem, hint="compile the model again", location=where)
    return plan


def _stand_ins(left_out: dict[str, TensorType], where: Location) -> dict[str, Array]:
    """Arrays in place of the weights that were left out."""
    try:
        return {name: stand_in(kind) for name, kind in left_out.items()}
    except ValueError as error:
        raise PlanError(f"what was left out: {error}", hint="compile again", location=where) from None


class _PlanVersion(msgspec.Struct):
    schema: int


def _same_arrays(ours: dict[str, Array], theirs: dict[str, Array]) -> bool:
    return ours.keys() == theirs.keys() and all(
        a.dtype == theirs[name].dtype and np.array_equal(a, theirs[name], equal_nan=holds_floats(a))
        for name, a in ours.items()
    )
