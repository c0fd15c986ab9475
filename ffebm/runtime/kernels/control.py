"""Control flow: subgraphs that run once, repeatedly or over slices."""

import torch
from torch import Tensor

from ffebm.errors import ModelError
from ffebm.limits import LOOP_ROUNDS
from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import axis_of


def if_(call: Call, condition: Tensor) -> tuple[Tensor, ...]:
    """One of two subgraphs."""
    branch = "then_branch" if bool(condition) else "else_branch"
    return call.graphs[branch]()


def loop(
    call: Call, max_trips: Tensor | None, condition: Tensor | None, *state: Tensor
) -> tuple[Tensor, ...]:
    """A subgraph repeated while its condition holds; what it scans out is stacked."""
    body = call.graphs["body"]
    n_state = len(state)
    n_scans = call.n_outputs - n_state
    device = state[0].device if state else None
    going = torch.ones((), dtype=torch.bool, device=device) if condition is None else condition
    scanned: list[list[Tensor]] = [[] for _ in range(n_scans)]
    trip = 0
    while bool(going) and (max_trips is None or trip < int(max_trips)):
        LOOP_ROUNDS.check(trip + 1, "a loop that goes on and on")
        going, *results = body(torch.tensor(trip, device=device), going, *state)
        state = tuple(results[:n_state])
        for column, value in zip(scanned, results[n_state:], strict=True):
            column.append(value)
        trip += 1
    if trip or not n_scans:
        return (*state, *map(torch.stack, scanned))
    _, *results = _tried(call, torch.tensor(0, device=device), going, *state)
    return (*state, *(result.new_zeros(0, *result.shape) for result in results[n_state:]))


def _tried(call: Call, *inputs: Tensor) -> tuple[Tensor, ...]:
    """What a body that runs in no round would give, whose shapes and types its outputs have."""
    try:
        with torch.no_grad():
            return call.graphs["body"](*inputs)
    except (ModelError, RuntimeError) as error:
        raise ModelError(
            f"{call.op} runs in no round, and its body does not tell the shapes of what it scans: {error}",
            hint="run it for at least one round",
        ) from error


def scan(call: Call, *inputs: Tensor) -> tuple[Tensor, ...]:
    """A subgraph over slices of its last inputs, carrying state from one to the next."""
    n_scanned = call.integer("num_scan_inputs")
    state, sequences = inputs[: len(inputs) - n_scanned], inputs[len(inputs) - n_scanned :]
    n_outputs = call.n_outputs - len(state)
    axes = call.integers("scan_input_axes", (0,) * n_scanned)
    out_axes = call.integers("scan_output_axes", (0,) * n_outputs)
    backwards = call.integers("scan_input_directions", (0,) * n_scanned)
    if not sequences[0].shape[axis_of(axes[0], sequences[0].ndim)]:
        empty = [x.new_zeros(x.sum(axis).shape) for x, axis in zip(sequences, axes, strict=True)]
        shown = _tried(call, *state, *empty)[len(state) :]
        return (*state, *(_none_along(value, axis) for value, axis in zip(shown, out_axes, strict=True)))
    slices = [
        x.unbind(axis)[::-1] if back else x.unbind(axis)
        for x, axis, back in zip(sequences, axes, backwards, strict=True)
    ]
    scanned: list[list[Tensor]] = [[] for _ in range(n_outputs)]
    for step in zip(*slices, strict=True):
        found = call.graphs["body"](*state, *step)
        state = tuple(found[: len(state)])
        for column, value in zip(scanned, found[len(state) :], strict=True):
            column.append(value)
    out_backwards = call.integers("scan_output_directions", (0,) * n_outputs)
    stacked = [
        torch.stack(column[::-1] if back else column, axis_of(axis, column[0].ndim + 1))
        for column, axis, back in zip(scanned, out_axes, out_backwards, strict=True)
    ]
    return (*state, *stacked)


def _none_along(value: Tensor, axis: int) -> Tensor:
    """No values of this shape, along a new axis."""
    place = axis_of(axis, value.ndim + 1)
    return value.new_zeros(*value.shape[:place], 0, *value.shape[place:])


CONTROL: dict[str, Kernel] = {
    "If": if_,
    "Loop": loop,
    "Scan": scan,
}
