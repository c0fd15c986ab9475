"""Blocks that settle, as plans for a machine with continuous settling; and where ngspice is."""

import shutil
from collections.abc import Sequence

import numpy as np
import pytest
from msgspec.structs import replace

from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import Hardware
from ffebm.plan.plan import Plan
from tests.machines import with_tiles
from tests.models import Builder

needs_ngspice = pytest.mark.skipif(
    shutil.which("ngspice") is None, reason="ngspice is not installed: `apt-get install ngspice`"
)
HARD, SOFT = ("Clip", "Relu", "HardSigmoid"), ("Tanh", "Sigmoid", "Softplus", "Softsign", "Elu")


def activated(b: Builder, x: str, op: str) -> str:
    """An activation; one of name "" is none."""
    if not op:
        return x
    return b.clip(x) if op == "Clip" else b.node(op, x)


def dense_plan(sizes: Sequence[int], ops: Sequence[str], gain: float = 0.8, seed: int = 0) -> Plan:
    """A block of dense layers with biases: sizes[0] inputs, then a layer for each activation.

    Normal weights of a gain below 1 keep a block contracting: coupling one way and back has a norm of about
    twice the gain a layer, and slopes of at most 1 are below that for half of the units.
    """
    b = Builder(seed)
    x = b.input("x", "N", sizes[0])
    for n_in, n_out, op in zip(sizes, sizes[1:], ops, strict=False):
        weight = b.weight(n_in, n_out, gain=gain * 0.5)
        bias = b.constant((0.3 + b.rng.standard_normal(n_out) * 0.2).astype(np.float32))
        x = activated(b, b.node("Gemm", x, weight, bias), op)
    return compile_model(b.model(x), hardware="resistive", block_size=len(ops))


def conv_plan(seed: int = 0) -> Plan:
    """Two convolutions, strides and padding, and a dense layer, all in one block: 4 windows and 2."""
    b = Builder(seed)
    x = b.input("x", "N", 1, 4, 3)
    for c_in, c_out, kernel, steps, pads in ((1, 2, 3, 2, [1] * 4), (2, 3, 2, 1, [0, 0, 1, 0])):
        weight = b.weight(c_out, c_in, kernel, kernel, gain=0.5)
        x = b.clip(b.node("Conv", x, weight, b.constant([0.1] * c_out), pads=pads, strides=[steps] * 2))
    y = b.node("MatMul", b.node("Flatten", x), b.weight(6, 3, gain=0.4))
    return compile_model(b.model(y), hardware="resistive", block_size=3)


def lasting(plan: Plan, time_constants: float, amplifier: bool = True) -> Plan:
    """A plan whose phases all last so many time constants; with ideal amplifiers on request."""
    group = plan.hardware.analog[0]
    assert group.relaxation is not None
    count = replace(group.relaxation.time_constants, value=time_constants)
    relaxation = replace(group.relaxation, time_constants=count)
    if not amplifier:
        relaxation = replace(relaxation, amplifier=None)
    machine: Hardware = with_tiles(plan.hardware, relaxation=relaxation)
    blocks = tuple(replace(block, relaxed=None) for block in plan.blocks)
    return replace(plan, hardware=machine, blocks=blocks)
