"""Runs a plan: a torch module that follows the plan's own steps.

Digital nodes run by their kernels, energy blocks settle on their tiles; both are differentiable, so
`loss.backward()` computes the hybrid gradient and any torch optimiser trains the weights.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ffebm.errors import UsageError
from ffebm.limits import as_number, is_whole
from ffebm.mapping.circuit.moving import require_circuits
from ffebm.plan.checks.left_out import needs_weights
from ffebm.plan.pictures.notebook import plan_html
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Settle, checked_settle
from ffebm.plan.structure import nested
from ffebm.runtime.blocks.block_runtime import BlockRuntime
from ffebm.runtime.blocks.estimators.gradient import EP, Gradient, known_gradient
from ffebm.runtime.blocks.other_equilibria import OtherEquilibria
from ffebm.runtime.blocks.outer_products import OuterProducts
from ffebm.runtime.blocks.physics.catalogue import known_physics
from ffebm.runtime.blocks.physics.physics import Physics
from ffebm.runtime.blocks.settling.settling import Equilibrium
from ffebm.runtime.blocks.tied_windows import TiedWindows
from ffebm.runtime.inputs import LossFunction, check_calibration, check_types, inputs_by_name
from ffebm.runtime.kernels.call import Together
from ffebm.runtime.kernels.dtypes import tensor_of
from ffebm.runtime.machine import Machine
from ffebm.runtime.recomputed import drawing_alike, drawing_once, may_be_repeated
from ffebm.runtime.save_onnx import save_onnx
from ffebm.runtime.state import (
    MACHINE,
    RANDOM,
    TILE,
    Findings,
    Origin,
    is_own,
    known_device,
    origin_of,
    restore_generator,
    torch_state,
    under,
)
from ffebm.runtime.steps import BlockStep, inference_steps
from ffebm.runtime.tiles.choice import TileChoice, known_tiles
from ffebm.runtime.tiles.noise import machine_source
from ffebm.runtime.tiles.tile import Health
from ffebm.runtime.trace import Trace
from ffebm.runtime.uncompiled import uncompiled
from ffebm.runtime.unsettled import Notices
from ffebm.visible import visible


class Executor(nn.Module):
    """A plan that runs.

    It starts in evaluation mode, where batch normalisation uses its running statistics and dropout is off, so
    that it computes what the source model computes; `net.train()` and `net.eval()` mean what they mean in
    torch.

    Args:
        plan: What to run.
        settle: How energy blocks settle; None takes the plan's own settings.
        gradient: How gradients of energy blocks are estimated.
        seed: Seed of everything random: programming and read noise, dropout; and of the machine, which stays
            the same when the rest is reseeded: its devices' variation, stuck cells, converter errors.
        tiles: What weights lie on instead of the plan's tiles, by source name: a tile, also one of your own
            (an object with the methods of `Tile`, of which each piece gets a copy, or an `OwnTile`); or the
            tiles of a hardware description; or a name or file of these. None computes exactly. Blocks settle
            as the plan's do.
        physics: What the energy of the blocks is, instead of what the plan says; the plan is one whose blocks
            were formed for its admission.

    Raises:
        UsageError: If the plan holds no weights.
    """

    def __init__(
        self,
        plan: Plan,
        settle: Settle | None = None,
        gradient: Gradient | None = None,
        seed: int = 0,
        tiles: Mapping[str, TileChoice] | None = None,
        physics: Physics | None = None,
    ) -> None:
        super().__init__()
        _check_types(plan, settle, seed)
        needs_weights(plan)
        self.plan = plan
        self.settle = plan.settle if settle is None else checked_settle(settle)
        self.gradient = EP() if gradient is None else known_gradient(gradient)
        self._settled: dict[int, Equilibrium] = {}
        self._has_run, self._batches = False, 0
        self.calibrating = False
        self.notices = Notices()
        self._seed = seed
        self._tiles = known_tiles(plan, {} if tiles is None else tiles)
        self._name = str(seed)
        self._physics = None if physics is None else known_physics(physics)
        self._machine: Machine | None = None
        self._elapsed: float | None = None
        self.trace: Trace | None = None
        self.together: Together | None = None  # of the processes that share a batch
        self.updates: dict[str, Tensor] = {}
        self._names = {name: f"w:{name.replace('%', '%25').replace('.', '%2E')}" for name in plan.weights}
        with torch.inference_mode(mode=False):  # weights outlive the mode in which they are made
            self._register(plan)
        require_circuits(self.settle, plan.blocks, plan.weights, plan.hardware)
        if self._physics is not None and self.settle.settling == "circuit":
            raise UsageError("settling='circuit' with a physics of one's own", allowed="that of the plan")
        self._steps = inference_steps(plan)
        self.device = torch.device("cpu")
        self.reseed(seed)
        self.eval()

    def _register(self, plan: Plan) -> None:
        trainable = set(plan.trainable)
        for name, array in plan.weights.items():
            tensor = tensor_of(array)
            if name in trainable:
                self.register_parameter(self._names[name], nn.Parameter(tensor))
            else:
                self.register_buffer(self._names[name], tensor)

    def unprogrammed(self) -> "Executor":
        """Another network of the same plan and machine; nothing is programmed, weights are the plan's."""
        return Executor(self.plan, self.settle, self.gradient, int(self._name), self._tiles, self._physics)

    def extra_repr(self) -> str:
        """What torch prints of this module: the plan, and how it runs."""
        weights = self._trainable().values()
        return "\n".join(
            (
                f"{self.plan!r}",
                f"gradient {self.gradient!r}",
                f"settling: {self._settling}",
                f"{len(weights)} weights of {sum(w.numel() for w in weights):,} numbers train; "
                f"{'training' if self.training else 'evaluation'} mode, seed {self._seed}",
            )
        )

    @property
    def _settling(self) -> str:
        """In words."""
        if self.settle.settling == "circuit":
            return "as circuits, in their own time"
        return f"up to {self.settle.free_sweeps} free, {self.settle.nudged_sweeps} nudged sweeps"

    def _repr_html_(self) -> str:
        """What a notebook shows: how it runs, the picture of the partition, and the plan's summary."""
        return plan_html(self.plan, repr(self))

    # --- weights -------------------------------------------------------------------------------------

    def weights(self) -> dict[str, nn.Parameter]:
        """The trainable weights by their names in the source model.

        One that is pruned or parametrised is the value that the module computes with, not a parameter.

        Where cells learn in place, a weight that has changed since the last run is a step of its cells, and
        gets the value that they now hold.
        """
        found = self._trainable()
        if not self._has_run:
            return found
        self.machine.set_ranges(self._tensor)
        self.machine.learn(found)
        computed: dict[str, Any] = {
            name: self.machine.value(name, weight)
            for name, weight in found.items()
            if not isinstance(weight, nn.Parameter)
        }
        return {**found, **computed}

    def constrain(self) -> None:
        """Put the weights of energy blocks, in place, where the nearest circuits that can be built have them.

        A trainer does so after each step of its optimiser. In a Hopfield network any weights will do.
        """
        for block in self.blocks.values():
            block.constrain({name: self._tensor(name) for name in block.block.weights()})

    def _trainable(self) -> dict[str, nn.Parameter]:
        return {name: getattr(self, self._names[name]) for name in self.plan.trainable}

    def running_statistics(self) -> dict[str, Tensor]:
        """The running statistics of batch normalisation by their names in the source model."""
        return {name: self._tensor(name) for name in self.plan.buffers}

    def torch_state(self, module: nn.Module) -> dict[str, Any]:
        """All that torch needs to go on: `module.load_state_dict(net.torch_state(module))`.

        Args:
            module: The one that the plan was compiled from, or one like it. What the plan does not hold stays
                as it is there; counters of batches go on from theirs.

        Raises:
            UsageError: If the module lacks what this plan trains.
        """
        return torch_state(module, {**self.weights(), **self.running_statistics()}, self._batches)

    def _tensor(self, name: str) -> Tensor:
        tensor: Tensor = getattr(self, self._names[name])
        return tensor

    def save_onnx(self, path: str | Path) -> None:
        """Write the source model with the trained weights and running statistics.

        Raises:
            UsageError: If the plan was not compiled from ONNX, or holds folded weights.
        """
        learnt = {**self.weights(), **self.running_statistics()}
        save_onnx(self.plan, {k: v.detach().cpu().numpy() for k, v in learnt.items()}, Path(path))

    @property
    def equilibria(self) -> list[Equilibrium]:
        """Where each block settled in the last run, one a block, in the blocks' order."""
        return [self._settled[block] for block in sorted(self._settled)]

    @torch.no_grad()
    def energies(self) -> list[Tensor]:
        """The energy of each block where it settled in the last run, [batch], in the blocks' order.

        It is that of the weights as they are now: the energy at an equilibrium while no weight has changed.
        `net.blocks[k].energy` gives it at any other state. On noisy tiles its products are read anew.
        """
        found = []
        for number in sorted(self._settled):
            block, equilibrium = self.blocks[number], self._settled[number]
            weights = {name: self._tensor(name) for name in block.block.weights()}
            with torch.autocast(self.device.type, enabled=False):
                found.append(block.energy(equilibrium.inputs, weights, equilibrium.state))
        return found

    @torch.no_grad()
    def tied_windows(self, settled: Sequence[Equilibrium] | None = None) -> list[TiedWindows]:
        """Windows of maxima whose winner only rounding decides, in the blocks' order.

        They are counted by the weights as they are now, and exactly: on no tile, without noise.

        Args:
            settled: Where each block has settled; None is the last run.
        """
        found = []
        for equilibrium, number in zip(settled or self.equilibria, sorted(self.blocks), strict=True):
            block = self.blocks[number]
            weights = {name: self._tensor(name) for name in block.block.weights()}
            with torch.autocast(self.device.type, enabled=False):
                found.append(block.tied_windows(equilibrium, weights))
        return found

    @torch.no_grad()
    def other_equilibria(
        self, settled: Sequence[Equilibrium] | None = None, most: int = 32
    ) -> list[OtherEquilibria]:
        """Samples that settle elsewhere from another's state, or when all layers move together, by block.

        Each block has the inputs that it had, its weights as they are now, and is computed exactly: on no
        tile, without noise, in 64 bits.

        Args:
            settled: Where each block has settled; None is the last run.
            most: Look at so many samples at most, the first ones.
        """
        found = []
        for equilibrium, number in zip(settled or self.equilibria, sorted(self.blocks), strict=True):
            block = self.blocks[number]
            weights = {name: self._tensor(name) for name in block.block.weights()}
            with torch.autocast(self.device.type, enabled=False):
                found.append(block.other_equilibria(equilibrium, weights, self.settle, most))
        return found

    # --- running -------------------------------------------------------------------------------------

    def reseed(self, seed: int) -> None:
        """Start the randomness of runs anew; tiles are programmed again, unless cells learn in place.

        The model's own random ops, as dropout, and the noise of tiles have sources of their own: at one seed
        every machine, the exact one too, sees the same dropout.

        ADC ranges are those for uniform inputs again, until `calibrate` sets them.
        """
        kept = {} if self._machine is None else self._machine.learnt()
        self._build(seed)
        self.machine.take_up(kept, self._tensor)

    def _build(self, seed: int) -> None:
        """A machine that holds nothing yet, and all randomness at its start."""
        self._seed = seed
        own = machine_source(f"{seed}/model").initial_seed()
        self.generator = torch.Generator(self.device).manual_seed(own)
        self._noise = torch.Generator(self.device).manual_seed(seed)
        self._machine = Machine(self.plan, self._noise, self._name, self._tiles, self._physics)
        self._machine.at(self._elapsed)
        self.notices.watch(self._machine.blocks.values(), self.settle)

    @property
    def machine(self) -> Machine:
        """The blocks on their tiles."""
        assert self._machine is not None  # the constructor seeds
        return self._machine

    @property
    def blocks(self) -> dict[int, BlockRuntime]:
        """The energy blocks by their ids."""
        return self.machine.blocks

    def check_gradient(self) -> None:
        """Refuse an estimator that a block cannot have, before anything runs.

        Raises:
            UsageError: If there is such a block.
        """
        steps = [step for step in self._steps if isinstance(step, BlockStep)]
        for step in steps:
            block = self.blocks[step.block.id]
            block.check_gradient(self.gradient, self.settle, by_cost=step is steps[-1])

    @contextmanager
    def outer_products(self) -> Iterator[OuterProducts]:
        """Inside, backward passes leave outer products for cells that take them; `pulse` has them taken.

        Weights on other cells have gradients as ever; outside, all have. Without cells that take outer
        products (`tile.update.pulsed_by` in the hardware description) nothing is left.

        Raises:
            UsageError: If gradients are not estimated by equilibrium propagation from two states, or if those
                of a block are not made of outer products.
        """
        products = OuterProducts(self.machine.forms)
        if self.machine.forms and not (isinstance(self.gradient, EP) and self.gradient.points <= 2):
            raise UsageError(
                f"cells that take outer products, and gradients by {self.gradient}",
                allowed="EP(points=2) or EP(points=1): two phases, which both lines of an array see",
                hint="--gradient ep, or tile.update.pulsed_by = 'matrix' in the hardware description",
            )
        machine = self.machine
        machine.leave_products(products)
        try:
            yield products
        finally:
            products.complete()
            machine.leave_products(None)

    def pulse(self, products: OuterProducts, lr: float) -> None:
        """Have cells take outer products: -lr times what would have been the gradient, in the mean.

        Weights get the values that the cells then hold. Products are taken once, behind the `with` that they
        were collected in.

        Args:
            products: What `outer_products` gave.
            lr: Learning rate.

        Raises:
            UsageError: If the rate is negative or no number, products are those of another network, were
                taken before or are still collected, or a weight is computed from others.
        """
        rate = as_number(lr)
        if not 0 <= rate < math.inf:
            raise UsageError(f"lr is {visible(repr(lr))}", allowed="a finite number of at least 0")
        if not isinstance(products, OuterProducts):
            raise UsageError(
                f"products are a {type(products).__name__}", allowed="what `Executor.outer_products` gave"
            )
        self.machine.pulse(products, rate, self._tensor)

    def restore_cells(self, cells: Mapping[str, Tensor]) -> None:
        """Take up what `machine.cells()` returned; weights get the values that their cells hold."""
        self.machine.restore(cells, self._tensor)

    def remap(self) -> None:
        """Write cells that learn in place anew, in ranges that follow the weights as they are now.

        Their ranges, and with them the size of a pulse, are else those of the weights that were programmed
        first. Writing has programming noise and rounds to levels; what a remedy has collected stays.

        Raises:
            UsageError: If no cells learn in place.
        """
        self.machine.remap(self._tensor)

    def health(self) -> dict[str, Health]:
        """What has met an end of its range since each weight was programmed, by its name in the source model.

        Weights at the end of their range, clipped inputs of DACs and readings of ADCs, and steps below a
        pulse of cells that learn in place.
        """
        return self.machine.health()

    @contextmanager
    def at(self, seconds: float) -> Iterator[None]:
        """Inside, tiles are read as they are so long after they were programmed; nothing is written for it.

        Drift is a function of the time since programming, so times may come in any order. Until the start of
        drift, cells hold what was programmed. A digital compensation of drift is that of the time.

        Args:
            seconds: From programming to every read, instead of `drift.elapsed` of the hardware description.

        Raises:
            UsageError: If the time is negative or no number, or if no cell drifts.
        """
        self.machine.check_time(seconds)
        before, self._elapsed = self._elapsed, float(seconds)
        self.machine.at(self._elapsed)
        try:
            yield
        finally:
            self._elapsed = before
            self.machine.at(before)

    # --- state ---------------------------------------------------------------------------------------

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        machine = self.machine
        found = (machine.programmed, machine.meaning(), self._batches)
        origin = Origin(str(self._seed), self._name, str(self.device), *found)
        destination[prefix + MACHINE] = origin.as_tensor()
        for name, generator in self._generators().items():
            destination[prefix + name] = generator.get_state()
        for name, tensor in machine.state().items():
            destination[f"{prefix}{TILE}{name}"] = tensor.detach()

    def _load_from_state_dict(  # noqa: PLR0913 -- as torch calls it
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        mine = {k: v for k, v in under(state_dict, prefix).items() if is_own(k)}
        rest = {k: v for k, v in state_dict.items() if k.removeprefix(prefix) not in mine}
        super()._load_from_state_dict(
            rest, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        findings = self._load_machine(mine)
        if strict:
            missing_keys += [prefix + key for key in findings.missing]
            unexpected_keys += [prefix + key for key in findings.unexpected]
        error_msgs += findings.errors

    def _load_machine(self, state: Mapping[str, Tensor]) -> Findings:
        """Take up what a state dictionary holds beside weights.

        Without it, tiles are programmed with what weights have changed; these are no steps of cells.
        """
        if MACHINE not in state:
            self.machine.renew()
            return Findings(missing=[MACHINE], unexpected=list(state))
        origin = origin_of(state[MACHINE])
        if origin is None:
            return Findings(errors=[f"{MACHINE} is not the origin of a state dictionary"])
        ours = self.machine.meaning()
        if origin.cells != ours:
            return Findings(errors=[f"the state is that of other tiles: {origin.cells}; these are {ours}"])
        self.device, self._name = known_device(origin.device), origin.machine
        self._build(int(origin.seed))
        findings = self.machine.load(state, origin.programmed, self._tensor)
        self._has_run, self._batches = bool(self.machine.programmed), origin.batches
        if str(self.device) == origin.device:
            for name, generator in self._generators().items():
                restore_generator(generator, state, name, findings)
        return findings

    def _generators(self) -> dict[str, torch.Generator]:
        return {f"{RANDOM}model": self.generator, f"{RANDOM}tiles": self._noise}

    # --- calibration ---------------------------------------------------------------------------------

    def calibrate(
        self,
        x: Tensor | tuple[Tensor, ...],
        target: Tensor | None = None,
        loss_fn: LossFunction | None = None,
    ) -> None:
        """Set ADC ranges that follow data by what lines carry for some samples.

        The samples pass through the plan while these ADCs neither clip nor round. Each range then is
        `deviations` standard deviations of what its line, or the heaviest line of a piece, carried, in each
        direction for itself; so are the ranges of DACs that follow data, in forward reads. Without a loss
        there is no backward pass: transposed reads that only a gradient
        needs keep their ranges. Weights, running statistics and what the model's own random ops draw next
        stay as they are. Ranges follow the weights when these are programmed again, but not a change of the
        data's course: calibrate again after some training. Without ADCs whose ranges follow data, nothing
        runs.

        Args:
            x: The input; a tuple if the model takes several. Each holds at least one sample.
            target: What `loss_fn` compares the outputs with; None without it.
            loss_fn: As for `loss`; None runs forward only.

        Raises:
            UsageError: If there is a target without a loss or a loss without a target, if inputs are missing,
                unknown, of another shape, hold no samples or a NaN, or if a line carries what is not finite.
        """
        inputs = x if isinstance(x, tuple) else (x,)
        check_calibration(self.plan.inputs, inputs, target, loss_fn)
        if not self.machine.follows_data:
            return
        self._prepared(inputs, {})  # on their device
        gradient = self.gradient
        if isinstance(gradient, EP) and gradient.beta == "auto":
            self.gradient = replace(gradient, beta=EP().beta)  # the noise is to be measured with converters
        self.calibrating, random = True, self.generator.get_state()
        try:
            with self.machine.calibration():
                self._pass(x, target, loss_fn)
        finally:
            self.gradient, self.calibrating = gradient, False
            self.generator.set_state(random)

    def _pass(
        self, x: Tensor | tuple[Tensor, ...], target: Tensor | None, loss_fn: LossFunction | None
    ) -> None:
        """Forward; with a loss also backward, to nowhere."""
        if loss_fn is None or target is None:
            with torch.no_grad():
                self(*(x if isinstance(x, tuple) else (x,)))
            return
        with torch.enable_grad():
            loss = self.loss(x, target, loss_fn)
        weights = [w for w in self._trainable().values() if w.requires_grad]
        if loss.requires_grad and weights:
            torch.autograd.grad(loss, weights, allow_unused=True)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Run one inference.

        Args:
            inputs: In the model's order, [batch, …]; nested ones as the torch model takes them.
            named: Or by name.

        Returns:
            The model's output; a tuple if it has several; nested as the torch model nests its results.

        Raises:
            UsageError: If inputs are missing, unknown or of another shape.
        """
        if torch.compiler.is_compiling():
            return uncompiled(self._run, inputs, named)
        return self._run(inputs, named)

    def _run(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
        values = self._prepared(inputs, named)
        with self._drawing():
            for step in self._steps:
                step.run(self, values)
                for name in step.last_reads:
                    values.pop(name, None)
        self._update_buffers()
        return self.outputs_of(values)

    def outputs_of(self, values: Mapping[str, Tensor]) -> Any:
        """The model's outputs among the values of a run, in the model's structure."""
        structure = self.plan.structure
        if structure is None:
            outputs = tuple(self.lookup(values, port.name) for port in self.plan.outputs)
            return outputs[0] if len(outputs) == 1 else outputs
        leaves = [self.lookup(values, leaf) if isinstance(leaf, str) else leaf for leaf in structure.leaves]
        return nested(structure, leaves)

    def _update_buffers(self) -> None:
        """What the model keeps for its next run; what this run has read stays as it was, for backward."""
        self._batches += self.training and not self.calibrating
        for name, value in self.updates.items():
            if self._names[name] in self._buffers:
                with torch.inference_mode(mode=False):
                    self._buffers[self._names[name]] = value.detach().clone()
            else:
                with torch.no_grad():
                    self._tensor(name).copy_(value)
        self.updates = {}

    def loss(self, x: Tensor | tuple[Tensor, ...], target: Tensor, loss_fn: LossFunction) -> Tensor:
        """The loss of a batch; with `EP(cost=True)` it is the loss itself that nudges the last block.

        Args:
            x: The input; a tuple if the model takes several.
            target: What `loss_fn` compares the outputs with.
            loss_fn: loss_fn(outputs, target) -> scalar, a mean over the batch. What else it reads (weights
                that it penalises, parameters of its own) gets a gradient too.
        """
        inputs = x if isinstance(x, tuple) else (x,)
        if not (isinstance(self.gradient, EP) and self.gradient.cost and self.blocks):
            return loss_fn(self(*inputs), target)
        if torch.compiler.is_compiling():
            loss: Tensor = uncompiled(self._loss_with_cost, inputs, target, loss_fn)
            return loss
        return self._loss_with_cost(inputs, target, loss_fn)

    def _loss_with_cost(self, inputs: tuple[Tensor, ...], target: Tensor, loss_fn: LossFunction) -> Tensor:
        values = self._prepared(inputs, {})
        last = max(i for i, step in enumerate(self._steps) if isinstance(step, BlockStep))
        with self._drawing():
            for step in self._steps[:last]:
                step.run(self, values)
            block = self._steps[last]
            assert isinstance(block, BlockStep)  # `last` was chosen so
            loss = block.run_with_cost(self, values, self._steps[last + 1 :], lambda y: loss_fn(y, target))
        self._update_buffers()
        return loss

    def _prepared(self, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs as values of a new run, on whose device everything random then is."""
        values = inputs_by_name(self.plan.inputs, inputs, named)
        check_types(self.plan, values, lambda name: self._tensor(name).dtype)
        device = next(iter(values.values())).device if values else self.device
        if device != self.device:
            self.device = device
            self.reseed(self._seed)
        self._settled, self._has_run = {}, True
        self.machine.set_ranges(self._tensor)
        self.machine.learn(self._trainable())
        return values

    def _drawing(self) -> AbstractContextManager[None]:
        """The context of a run: one that a checkpoint repeats draws the same random numbers again."""
        if not may_be_repeated():
            return drawing_once(self._generators())
        self.machine.program(self._tensor)  # what is programmed in the first run would not be in the other
        return drawing_alike(self._generators(), self._seed)

    # --- tracing -------------------------------------------------------------------------------------

    @contextmanager
    def record(self) -> Iterator[Trace]:
        """Record the steps that run, forward and backward, to hold them against the plan's schedule."""
        self.trace = Trace()
        try:
            yield self.trace
        finally:
            self.trace = None

    def note_equilibrium(self, block: int, equilibrium: Equilibrium) -> None:
        """Keep how a block settled."""
        self._settled[block] = equilibrium

    def lookup(self, values: Mapping[str, Tensor], name: str) -> Tensor:
        """A value of this run, or a weight."""
        return values[name] if name in values else self._tensor(name)


def _check_types(plan: object, settle: object, seed: object) -> None:
    """Refuse arguments of another type."""
    if not isinstance(plan, Plan):
        raise UsageError(
            f"plan is a {type(plan).__name__}", allowed="what `ffebm.compile` or `ffebm.load_plan` gave"
        )
    if not isinstance(settle, Settle | None):
        raise UsageError(f"settle is a {type(settle).__name__}", allowed="Settle(…), or None: the plan's own")
    if not is_whole(seed):
        raise UsageError(f"seed is {visible(repr(seed))}", allowed="a whole number")
