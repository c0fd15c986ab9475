"""aihwkit's analog SGD on the cells of a machine: backpropagation, outer products of activations and errors.

Converters and read noise of a layer are what `ffebm export --to aihwkit` writes of them. The reading of a
layer's transpose has the same ones, its range found by repetition. Where a fast array is transferred, it is
counted from its symmetric point.
"""

import importlib
import importlib.util
import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.exporters.aihwkit import MODULE, export_aihwkit
from ffebm.hardware.description import Crossbar, Transfer, Update
from ffebm.plan.plan import Plan
from ffebm.training.classification import fitted
from ffebm.training.data import Data
from ffebm.training.data.samples import floats, split_off
from ffebm.training.optimization.rates import Rates
from ffebm.training.settings import Training


def is_present() -> bool:
    """An aihwkit whose compiled tiles run with this torch."""
    if importlib.util.find_spec("aihwkit") is None:
        return False
    try:
        layer = importlib.import_module("aihwkit.nn").AnalogLinear(2, 2, bias=False)
        layer.set_weights(torch.zeros(2, 2))
    except (ImportError, RuntimeError):
        return False
    return True


@dataclass
class Device:
    """One kind of cell in one layer.

    Attributes:
        tile: What its tiles are.
        law: How its cells learn; its remedy is what is done about asymmetric pulses.
        n_in: Inputs of the layer.
        batch: Samples of an update.
    """

    tile: Crossbar
    law: Update
    n_in: int
    batch: int

    def __post_init__(self) -> None:
        self.configs = importlib.import_module("aihwkit.simulator.configs")

    def pulsed(self, *, fast: bool = False) -> Any:
        """A cell: pulses up are those of aihwkit's smallest change, those down its share 1 - up_down."""
        a, variation = self.law.asymmetry.value, self.tile.cell.variation
        settings: dict[str, Any] = {
            "dw_min": self.law.pulse.value * (1 + a),
            "up_down": 1 - (1 - a) / (1 + a),
            "dw_min_std": self.law.noise.value,
            "dw_min_dtod": 0.0 if variation is None else variation.value,
            "w_max": 1.0,
            "w_min": -1.0,
            "w_max_dtod": 0.0,
            "w_min_dtod": 0.0,
            "up_down_dtod": 0.0,
        }
        if self.law.bounds == "hard":
            return self.configs.ConstantStepDevice(**settings)
        if fast:
            return self.configs.SoftBoundsReferenceDevice(**settings, subtract_symmetry_point=True)
        return self.configs.SoftBoundsDevice(**settings)

    def update(self) -> Any:
        """Trains of pulses, as they are here: as long as the largest product asks for."""
        return self.configs.UpdateParameters(desired_bl=self.law.pulses)

    def config(self, forward: Any, mapping: Any) -> Any:
        """The configuration of the layer.

        Args:
            forward: Converters of its reading.
            mapping: Of its weights.
        """
        remedy = self.law.remedy
        backward = deepcopy(forward)
        backward.bound_management = self.configs.BoundManagementType.ITERATIVE
        shared = {"forward": forward, "backward": backward, "mapping": mapping, "update": self.update()}
        if remedy is None:
            return self.configs.SingleRPUConfig(device=self.pulsed(), **shared)
        if isinstance(remedy, Transfer):
            return self.configs.UnitCellRPUConfig(device=self.transfer(remedy, forward), **shared)
        mixed = self.configs.MixedPrecisionCompound(device=self.pulsed())  # a transfer an update
        return self.configs.DigitalRankUpdateRPUConfig(device=mixed, **shared)

    def transfer(self, remedy: Transfer, forward: Any) -> Any:
        """Two arrays of cells, and what moves on from the fast one to the slow one.

        A chopped one is read a line after the other, all as often as it can be done: at most once a sample.
        """
        settings: dict[str, Any] = {
            "unit_cell_devices": [self.pulsed(fast=True), self.pulsed()],
            "transfer_forward": deepcopy(forward),
            "transfer_update": self.update(),
            "transfer_lr": remedy.rate.value,
            "scale_transfer_lr": False,
        }
        together = {"transfer_every": float(remedy.every), "n_reads_per_transfer": self.n_in}
        buffer = {"momentum": 0.0, "forget_buffer": False}
        if remedy.chopper is not None:
            every = max(1.0, float(round(remedy.every * self.batch / self.n_in)))
            return self.configs.ChoppedTransferCompound(
                **settings,
                **buffer,
                transfer_every=every,
                units_in_mbatch=False,
                in_chop_prob=remedy.chopper.inputs.value,
                in_chop_random=not remedy.chopper.regular,
                out_chop_prob=0.0 if remedy.chopper.outputs is None else remedy.chopper.outputs.value,
                no_buffer=not remedy.buffered,
            )
        if remedy.buffered:
            return self.configs.BufferedTransferCompound(**settings, **together, **buffer)
        return self.configs.TransferCompound(**settings, **together)


def converted(model: torch.nn.Module, plan: Plan, batch: int) -> torch.nn.Module:
    """A model of dense layers on aihwkit's compiled tiles.

    Args:
        model: The model that the plan was compiled from.
        plan: On one kind of crossbar whose cells learn.
        batch: Samples of an update.
    """
    written: dict[str, Any] = {}
    exec(compile(export_aihwkit(plan).files[MODULE], MODULE, "exec"), written)
    configs = importlib.import_module("aihwkit.simulator.configs")
    tile = plan.hardware.analog[0].tile.crossbar()
    assert tile.update is not None
    law = tile.update

    def config_of(name: str, module: torch.nn.Module, base: Any) -> Any:
        if not isinstance(module, torch.nn.Linear):
            return base
        exported = written["config_of"](name, module, base)
        forward = exported.forward
        if written["READ_NOISE"]:
            forward.w_noise = written["READ_NOISE"]
            forward.w_noise_type = configs.WeightNoiseType.ADDITIVE_CONSTANT
        mapping = configs.MappingParameter(weight_scaling_omega=exported.mapping.weight_scaling_omega)
        return Device(tile, law, module.in_features, batch).config(forward, mapping)

    conversion = importlib.import_module("aihwkit.nn.conversion")
    analog: torch.nn.Module = conversion.convert_to_analog(
        model, configs.SingleRPUConfig(), specific_rpu_config_fun=config_of
    )
    return analog


def trained(
    model: torch.nn.Module, plan: Plan, data: Data, training: Training, *, analog: bool
) -> list[list[float | None]]:
    """Train by backpropagation; of each epoch its number, loss, and training, test and held-out accuracy.

    The seed is that of the order of samples; aihwkit's cells draw by a generator of their own.

    Args:
        model: Dense layers.
        plan: That was compiled from it.
        data: Samples.
        training: The settings.
        analog: On the cells of the plan; else exactly, by torch alone.
    """
    torch.manual_seed(training.seed)
    data, held = split_off(fitted(plan, data), training.validation, training.seed)
    net = converted(model, plan, training.batch) if analog else model
    optimizer: Any = torch.optim.SGD(net.parameters(), lr=training.lr)
    if analog:
        optimizer = importlib.import_module("aihwkit.optim").AnalogSGD(net.parameters(), lr=training.lr)
        optimizer.regroup_param_groups(net)
    rates = Rates(training, optimizer, math.ceil(len(data.x_train) / training.batch))
    found: list[list[float | None]] = []
    for number in range(1, training.epochs + 1):
        net.train()
        total, right = 0.0, 0
        for picked in torch.randperm(len(data.x_train)).split(training.batch):
            x, y = floats(data.x_train[picked]), data.y_train[picked]
            optimizer.zero_grad()
            out = net(x)
            loss = functional.cross_entropy(out, y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            rates.stepped()
            total, right = total + float(loss.detach()) * len(y), right + int((out.argmax(1) == y).sum())
        rates.ended(0.0)
        test = accuracy(net, data.x_test, data.y_test)
        kept = None if held is None else accuracy(net, held[0][0], held[1])
        found.append([number, total / len(data.x_train), right / len(data.x_train), test, kept])
    return found


@torch.no_grad()
def accuracy(net: torch.nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of samples whose largest output is that of their class."""
    net.eval()
    return float((net(floats(x)).argmax(1) == y).double().mean())
