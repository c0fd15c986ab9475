"""Recurrent layers: RNN, GRU and LSTM in one or two directions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ffebm.runtime.kernels.call import Call, Kernel, with_optional

Function = Callable[[Tensor], Tensor]
CellState = tuple[Tensor, ...]
"""What a cell carries to the next step; the first one is its output, [batch, hidden]."""


@dataclass(frozen=True)
class Gates:
    """The parameters of one direction.

    Attributes:
        w: From the input, [gates * hidden, n_in].
        r: From the previous output, [gates * hidden, hidden].
        b: Bias of each, [2 * gates * hidden].
        peepholes: From the cell to the gates, [3 * hidden]; only for LSTM.
        functions: Activations, in ONNX's order.
        clip: Bound of what enters an activation; infinite if there is none.
    """

    w: Tensor
    r: Tensor
    b: Tensor
    peepholes: Tensor
    functions: Sequence[Function]
    clip: float

    def activate(self, index: int, x: Tensor) -> Tensor:
        """The activation at this place, after clipping."""
        return self.functions[index](x.clamp(-self.clip, self.clip))


CellStep = Callable[[Call, Gates, Tensor, CellState], CellState]


def gru_cell(call: Call, gates: Gates, x: Tensor, state: CellState) -> CellState:
    """One step of a gated recurrent unit: update, reset and hidden gates."""
    (h,) = state
    wb, rb = gates.b.chunk(2)
    from_x = functional.linear(x, gates.w, wb).chunk(3, -1)
    r_update, r_reset, r_hidden = gates.r.chunk(3)
    b_update, b_reset, b_hidden = rb.chunk(3)
    update = gates.activate(0, from_x[0] + functional.linear(h, r_update, b_update))
    reset = gates.activate(0, from_x[1] + functional.linear(h, r_reset, b_reset))
    if call.integer("linear_before_reset"):
        recalled = reset * functional.linear(h, r_hidden, b_hidden)
    else:
        recalled = functional.linear(reset * h, r_hidden, b_hidden)
    hidden = gates.activate(1, from_x[2] + recalled)
    return ((1 - update) * hidden + update * h,)


def lstm_cell(call: Call, gates: Gates, x: Tensor, state: CellState) -> CellState:
    """One step of a long short-term memory: input, output and forget gates, and the cell."""
    h, c = state
    wb, rb = gates.b.chunk(2)
    i, o, f, g = (functional.linear(x, gates.w, wb) + functional.linear(h, gates.r, rb)).chunk(4, -1)
    p_input, p_output, p_forget = gates.peepholes.chunk(3)
    i = gates.activate(0, i + p_input * c)
    f = 1 - i if call.integer("input_forget") else gates.activate(0, f + p_forget * c)
    c = f * c + i * gates.activate(1, g)
    o = gates.activate(0, o + p_output * c)
    return o * gates.functions[2](c), c


def rnn_cell(call: Call, gates: Gates, x: Tensor, state: CellState) -> CellState:
    """One step of a simple recurrent layer."""
    (h,) = state
    wb, rb = gates.b.chunk(2)
    return (gates.activate(0, functional.linear(x, gates.w, wb) + functional.linear(h, gates.r, rb)),)


def gru(call: Call, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> CellState:
    """Gated recurrent units over a sequence: all outputs, and the last one."""
    b, lengths, h = with_optional(rest, 3)
    layer = _Layer(call, gru_cell, ("Sigmoid", "Tanh"), (h,))
    return layer.run(x, _per_direction(call, layer, w, r, (b, None)), lengths)


def lstm(call: Call, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> CellState:
    """Long short-term memory over a sequence: all outputs, the last one, and the last cell."""
    b, lengths, h, c, peepholes = with_optional(rest, 5)
    layer = _Layer(call, lstm_cell, ("Sigmoid", "Tanh", "Tanh"), (h, c))
    return layer.run(x, _per_direction(call, layer, w, r, (b, peepholes)), lengths)


def rnn(call: Call, x: Tensor, w: Tensor, r: Tensor, *rest: Tensor | None) -> CellState:
    """A simple recurrent layer over a sequence: all outputs, and the last one."""
    b, lengths, h = with_optional(rest, 3)
    layer = _Layer(call, rnn_cell, ("Tanh",), (h,))
    return layer.run(x, _per_direction(call, layer, w, r, (b, None)), lengths)


@dataclass(frozen=True)
class _Layer:
    """A recurrent layer: its cell, default activations and initial states."""

    call: Call
    cell: CellStep
    activations: tuple[str, ...]
    initial: tuple[Tensor | None, ...]

    def run(self, x: Tensor, directions: Sequence[Gates], lengths: Tensor | None) -> CellState:
        """All outputs and the last state of each direction, in the layout asked for."""
        batch_first = self.call.integer("layout") == 1
        x = x.transpose(0, 1) if batch_first else x
        outputs, lasts = [], []
        for place, gates in enumerate(directions):
            state = tuple(self._initial(start, x, gates, place) for start in self.initial)
            backwards = place == 1 or self.call.text("direction", "forward") == "reverse"
            ys, last = self._over_time(x, gates, state, lengths, backwards=backwards)
            outputs.append(ys)
            lasts.append(last)
        y = torch.stack(outputs, 1)
        ends = [torch.stack(column) for column in zip(*lasts, strict=True)]
        if batch_first:
            return y.permute(2, 0, 1, 3), *(end.transpose(0, 1) for end in ends)
        return y, *ends

    def _initial(self, start: Tensor | None, x: Tensor, gates: Gates, place: int) -> Tensor:
        if start is None:
            return x.new_zeros(x.shape[1], gates.r.shape[-1])
        return start[:, place] if self.call.integer("layout") == 1 else start[place]

    def _over_time(
        self, x: Tensor, gates: Gates, state: CellState, lengths: Tensor | None, *, backwards: bool
    ) -> tuple[Tensor, CellState]:
        """The outputs at all times; a sequence that has ended keeps its state and puts out zeros."""
        steps = range(x.shape[0])
        ys: list[Tensor] = []
        for t in reversed(steps) if backwards else steps:
            new = self.cell(self.call, gates, x[t], state)
            running = None if lengths is None else (t < lengths).unsqueeze(-1)
            if running is None:
                state = new
                ys.append(new[0])
            else:
                state = tuple(torch.where(running, a, b) for a, b in zip(new, state, strict=True))
                ys.append(torch.where(running, new[0], 0))
        if lengths is not None:  # as onnxruntime: a sequence of no step ends in zeros, not in its start
            begun = (lengths > 0).unsqueeze(-1)
            state = tuple(torch.where(begun, s, 0) for s in state)
        return torch.stack(ys[::-1] if backwards else ys), state


def _per_direction(
    call: Call, layer: _Layer, w: Tensor, r: Tensor, optional: tuple[Tensor | None, Tensor | None]
) -> list[Gates]:
    """The parameters of each direction; bias and peepholes that are left out are zero."""
    b, peepholes = optional
    n_directions, rows, hidden = r.shape
    b = r.new_zeros(n_directions, 2 * rows) if b is None else b
    peepholes = r.new_zeros(n_directions, 3 * hidden) if peepholes is None else peepholes
    functions = _functions(call, layer.activations * n_directions)
    each = len(layer.activations)
    clip = call.number("clip", float("inf"))
    return [
        Gates(w[d], r[d], b[d], peepholes[d], functions[d * each : (d + 1) * each], clip)
        for d in range(n_directions)
    ]


def _functions(call: Call, default: tuple[str, ...]) -> list[Function]:
    names = call.texts("activations", default)
    alphas, betas = list(call.numbers("activation_alpha")), list(call.numbers("activation_beta"))
    functions = []
    for name in names:
        make, alpha, beta = _ACTIVATIONS[name.lower()]
        a = alphas.pop(0) if alpha is not None and alphas else alpha or 0.0
        b = betas.pop(0) if beta is not None and betas else beta or 0.0
        functions.append(make(a, b))
    return functions


_ACTIVATIONS: dict[str, tuple[Callable[[float, float], Function], float | None, float | None]] = {
    "affine": (lambda a, b: lambda x: a * x + b, 1.0, 0.0),
    "elu": (lambda a, b: lambda x: functional.elu(x, a), 1.0, None),
    "hardsigmoid": (lambda a, b: lambda x: (a * x + b).clamp(0, 1), 0.2, 0.5),
    "leakyrelu": (lambda a, b: lambda x: functional.leaky_relu(x, a), 0.01, None),
    "relu": (lambda a, b: torch.relu, None, None),
    "scaledtanh": (lambda a, b: lambda x: a * torch.tanh(b * x), 1.0, 1.0),
    "sigmoid": (lambda a, b: torch.sigmoid, None, None),
    "softplus": (lambda a, b: functional.softplus, None, None),
    "softsign": (lambda a, b: functional.softsign, None, None),
    "tanh": (lambda a, b: torch.tanh, None, None),
    "thresholdedrelu": (lambda a, b: lambda x: torch.where(x > a, x, 0), 1.0, None),
}
"""Each with its default alpha and beta; None if it has none."""


RECURRENT: dict[str, Kernel] = {
    "GRU": gru,
    "LSTM": lstm,
    "RNN": rnn,
}
