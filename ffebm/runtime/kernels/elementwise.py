"""Arithmetic, comparison and logic, element by element with broadcasting."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from ffebm.runtime.kernels.call import Call, Kernel
from ffebm.runtime.kernels.dtypes import ordered, unordered, wide

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Tensor, Tensor], Tensor]


def unary(function: Unary) -> Kernel:
    """A kernel of one operand."""

    def kernel(call: Call, x: Tensor) -> Tensor:
        return function(wide(x)).to(x.dtype)

    return kernel


def arithmetic(function: Binary) -> Kernel:
    """A kernel of two operands whose result has the type of the first."""

    def kernel(call: Call, a: Tensor, b: Tensor) -> Tensor:
        return function(wide(a), wide(b)).to(a.dtype)

    return kernel


def predicate(function: Binary) -> Kernel:
    """A kernel that compares two operands."""

    def kernel(call: Call, a: Tensor, b: Tensor) -> Tensor:
        return function(ordered(a), ordered(b))

    return kernel


def folded(function: Binary) -> Kernel:
    """A kernel that combines one or more operands from the left."""

    def kernel(call: Call, *inputs: Tensor) -> Tensor:
        return reduce(function, (wide(x) for x in inputs)).to(inputs[0].dtype)

    return kernel


def extremum(function: Binary) -> Kernel:
    """A kernel for the largest or smallest of its operands."""

    def kernel(call: Call, *inputs: Tensor) -> Tensor:
        return unordered(reduce(function, (ordered(x) for x in inputs)), inputs[0].dtype)

    return kernel


def add(a: Tensor, b: Tensor) -> Tensor:
    """Computes a + b."""
    return a + b


def divide(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Computes a / b; integers round towards zero."""
    if a.is_floating_point():
        return a / b
    if a.dtype == torch.uint64:
        return _unsigned_quotient(wide(a), wide(b)).to(a.dtype)
    return torch.div(wide(a), wide(b), rounding_mode="trunc").to(a.dtype)


def _unsigned_quotient(a: Tensor, b: Tensor) -> Tensor:
    """Quotient of 64-bit unsigned numbers that are held in signed ones."""
    half = (a >> 1) & torch.iinfo(torch.int64).max
    quotient = torch.where(b < 0, 0, torch.div(half, b, rounding_mode="trunc") << 1)
    rest = (a - quotient * b).to(torch.uint64)
    return quotient + (ordered(rest) >= ordered(b.to(torch.uint64)))


def mean(call: Call, *inputs: Tensor) -> Tensor:
    """Mean of the operands."""
    return reduce(add, inputs) / len(inputs)


def modulo(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Remainder with the sign of the divisor, or with fmod of the dividend."""
    if a.dtype == torch.uint64:
        return (wide(a) - _unsigned_quotient(wide(a), wide(b)) * wide(b)).to(a.dtype)
    remainder = torch.fmod if call.integer("fmod") else torch.remainder
    return remainder(wide(a), wide(b)).to(a.dtype)


def power(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Computes a to the power b, in the type of a."""
    return torch.pow(wide(a), wide(b)).to(a.dtype)


def bit_shift(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Shifts bits; zeros come in."""
    if call.text("direction") == "LEFT":
        return (wide(a) << wide(b)).to(a.dtype)
    shifted = wide(a) >> wide(b)
    if a.dtype == torch.uint64:  # held as int64, whose sign bit would come in
        sign_bits = torch.where(wide(b) > 0, torch.bitwise_left_shift(-1, (64 - wide(b)).clamp(0, 63)), 0)
        shifted = shifted & ~sign_bits
    return shifted.to(a.dtype)


def is_inf(call: Call, x: Tensor) -> Tensor:
    """Where x is infinite, of the signs asked for."""
    positive, negative = call.integer("detect_positive", 1), call.integer("detect_negative", 1)
    return (torch.isposinf(x) & bool(positive)) | (torch.isneginf(x) & bool(negative))


def is_nan(call: Call, x: Tensor) -> Tensor:
    """Where x is not a number."""
    return torch.isnan(x)


def logical_not(call: Call, x: Tensor) -> Tensor:
    """Where x is false."""
    return torch.logical_not(x)


def where(call: Call, condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """`x` where the condition holds, else y."""
    return torch.where(condition, x, y)


ELEMENTWISE: dict[str, Kernel] = {
    "Abs": unary(torch.abs),
    "Acos": unary(torch.acos),
    "Acosh": unary(torch.acosh),
    "Add": arithmetic(add),
    "And": predicate(torch.logical_and),
    "Asin": unary(torch.asin),
    "Asinh": unary(torch.asinh),
    "Atan": unary(torch.atan),
    "Atanh": unary(torch.atanh),
    "BitShift": bit_shift,
    "BitwiseAnd": arithmetic(torch.bitwise_and),
    "BitwiseNot": unary(torch.bitwise_not),
    "BitwiseOr": arithmetic(torch.bitwise_or),
    "BitwiseXor": arithmetic(torch.bitwise_xor),
    "Ceil": unary(torch.ceil),
    "Cos": unary(torch.cos),
    "Cosh": unary(torch.cosh),
    "Div": divide,
    "Equal": predicate(torch.eq),
    "Erf": unary(torch.erf),
    "Exp": unary(torch.exp),
    "Floor": unary(torch.floor),
    "Greater": predicate(torch.gt),
    "GreaterOrEqual": predicate(torch.ge),
    "IsInf": is_inf,
    "IsNaN": is_nan,
    "Less": predicate(torch.lt),
    "LessOrEqual": predicate(torch.le),
    "Log": unary(torch.log),
    "Max": extremum(torch.maximum),
    "Mean": mean,
    "Min": extremum(torch.minimum),
    "Mod": modulo,
    "Mul": arithmetic(torch.mul),
    "Neg": unary(torch.neg),
    "Not": logical_not,
    "Or": predicate(torch.logical_or),
    "Pow": power,
    "Reciprocal": unary(torch.reciprocal),
    "Round": unary(torch.round),
    "Sign": unary(torch.sign),
    "Sin": unary(torch.sin),
    "Sinh": unary(torch.sinh),
    "Sqrt": unary(torch.sqrt),
    "Sub": arithmetic(torch.sub),
    "Sum": folded(add),
    "Tan": unary(torch.tan),
    "Where": where,
    "Xor": predicate(torch.logical_xor),
}
