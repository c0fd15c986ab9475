"""Runs a plan forward and backward, on its own machine or exactly."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import torch
from torch import Tensor

from ffebm.hardware.description import AnalogGroup, Crossbar, Hardware, load_hardware
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Settle
from ffebm.runtime.blocks.estimators.gradient import Gradient
from ffebm.runtime.blocks.other_equilibria import OtherEquilibria
from ffebm.runtime.blocks.settling.settling import Equilibrium
from ffebm.runtime.blocks.tied_windows import TiedWindows
from ffebm.runtime.executor import Executor
from ffebm.studies.gradcheck.probe import Probe

SWEEPS = 3000
"""Most sweeps of a phase that is to settle completely."""
TOL = 1e-10
"""Residual at which a phase has settled completely."""

Grads = dict[str, Tensor]
"""Gradients by source name, in 64 bits."""


@dataclass(frozen=True)
class Bench:
    """A plan with the samples that it is run on.

    Attributes:
        plan: The plan.
        probe: The samples.
        seed: Of noise and of the machine.
        trains: Batch normalisation uses the statistics of the batch.
    """

    plan: Plan
    probe: Probe
    seed: int = 0
    trains: bool = True
    _ideal: Plan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        exact = load_hardware("ideal").analog[0].tile
        groups = tuple(
            msgspec.structs.replace(group, tile=exact, settling="clocked", relaxation=None)
            for group in self.plan.hardware.analog
        )
        machine = msgspec.structs.replace(self.plan.hardware, analog=groups)
        ideal = msgspec.structs.replace(self.plan, hardware=machine, settle=self.swept())
        object.__setattr__(self, "_ideal", ideal)

    @property
    def crossbar(self) -> Crossbar | None:
        """The tiles that the plan uses, of several kinds the one with the coarsest ADCs; None if exact."""
        kinds = [group.tile for group in self.plan.groups_of_weights().values()]
        crossbars = [kind.crossbar() for kind in kinds if kind.has_cells]
        return min(crossbars, key=lambda crossbar: crossbar.adc.bits, default=None)

    def settled(self) -> Settle:
        """The plan's settings, but settled completely: the same function, to the last digit."""
        return msgspec.structs.replace(
            self.swept(), free_sweeps=SWEEPS, nudged_sweeps=SWEEPS, tol=TOL, strict=False
        )

    def swept(self) -> Settle:
        """The plan's settings, but by sweeps: exact tiles have no time, and a circuit has no sweeps."""
        return msgspec.structs.replace(self.plan.settle, settling="sweeps")

    def exact(self, gradient: Gradient, settle: Settle | None = None) -> tuple[Grads, list[Equilibrium]]:
        """Gradients on exact tiles in 64 bits."""
        net = self._quiet(Executor(self._ideal, settle or self.settled(), gradient, self.seed).double())
        return self._gradients(net, torch.float64)

    def measured(
        self, gradient: Gradient, single: bool = False, adc_bits: int | None = None
    ) -> tuple[Grads, list[Equilibrium]]:
        """Gradients on the plan's own machine and with its own settings.

        Args:
            gradient: The estimator.
            single: Compute in 32 bits.
            adc_bits: Resolution of the ADCs instead of the machine's.
        """
        plan = self.plan
        if adc_bits is not None:
            plan = msgspec.structs.replace(plan, hardware=_with_bits(plan.hardware, adc_bits))
        settle = msgspec.structs.replace(plan.settle, strict=False)
        net = self._quiet(Executor(plan, settle, gradient, self.seed))
        dtype = torch.float32 if single else torch.float64
        return self._gradients(net.to(dtype), dtype)

    @torch.no_grad()
    def equilibria(self, settle: Settle, exact: bool = True) -> list[Equilibrium]:
        """Where the blocks settle, without a backward pass."""
        net = self._quiet(Executor(self._ideal if exact else self.plan, settle, seed=self.seed).double())
        net.train(self.trains)
        self._calibrate(net, torch.float64)
        net(*_as(self.probe.inputs, torch.float64))
        return net.equilibria

    def tied_windows(self, settled: list[Equilibrium]) -> list[TiedWindows]:
        """Windows of maxima whose winner only rounding decides, by block.

        Args:
            settled: Where `exact` has settled.
        """
        return Executor(self._ideal, seed=self.seed).double().tied_windows(settled)

    def other_equilibria(self, settled: list[Equilibrium]) -> list[OtherEquilibria]:
        """Samples that settle elsewhere on another way, by block.

        Args:
            settled: Where `exact` has settled.
        """
        net = Executor(self._ideal, self.settled(), seed=self.seed).double()
        return net.other_equilibria(settled, self.probe.samples)

    def _quiet(self, net: Executor) -> Executor:
        """The certificate tells how blocks settled."""
        net.notices.enabled = False
        return net

    def _calibrate(self, net: Executor, dtype: torch.dtype) -> None:
        if self.probe.calibration is not None:
            inputs, target = self.probe.calibration
            net.calibrate(_as(inputs, dtype), _target(target), self.probe.loss)

    def _gradients(self, net: Executor, dtype: torch.dtype) -> tuple[Grads, list[Equilibrium]]:
        net.train(self.trains)
        self._calibrate(net, dtype)
        inputs = _as(self.probe.inputs, dtype)
        weights = net.weights()
        loss = net.loss(inputs, _target(self.probe.target), self.probe.loss)
        loss.backward()  # type: ignore[no-untyped-call]
        found = {name: w.grad.double() for name, w in weights.items() if w.grad is not None}
        return found, net.equilibria


def _as(inputs: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in inputs)


def _target(classes: Tensor | None) -> Tensor:
    """What `Probe.loss` takes: class numbers, or nothing."""
    return torch.zeros(0) if classes is None else classes


def _with_bits(hardware: Hardware, bits: int) -> Hardware:
    return msgspec.structs.replace(
        hardware, analog=tuple(_group_with_bits(group, bits) for group in hardware.analog)
    )


def _group_with_bits(group: AnalogGroup, bits: int) -> AnalogGroup:
    if not group.tile.has_cells:
        return group
    crossbar = group.tile.crossbar()
    tile = msgspec.structs.replace(crossbar, adc=msgspec.structs.replace(crossbar.adc, bits=bits))
    return msgspec.structs.replace(group, tile=tile)


def cosine(found: Tensor, exact: Tensor) -> float | None:
    """Cosine of a gradient with the exact one; 0 if it is lost, None if there is none."""
    if not float(exact.norm()) > 0:
        return None
    size = float(found.norm() * exact.norm())
    return float((found * exact).sum()) / size if size > 0 else 0.0


def error(found: Tensor, exact: Tensor) -> float | None:
    """Norm of the difference over that of the exact one; None if that is zero."""
    size = float(exact.norm())
    return float((found - exact).norm()) / size if size > 0 else None


def worst(
    found: Mapping[str, Tensor], exact: Mapping[str, Tensor], names: frozenset[str]
) -> tuple[float, float]:
    """Largest error and smallest cosine over some weights; (0, 1) if none has a gradient."""
    errors = [e for n in names if (e := error(found[n], exact[n])) is not None]
    cosines = [c for n in names if (c := cosine(found[n], exact[n])) is not None]
    return max(errors, default=0.0), min(cosines, default=1.0)
