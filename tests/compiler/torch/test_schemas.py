"""Ops that write, and the op that makes the same value: over all that torch has."""

from collections.abc import Iterator
from typing import Any

import torch

from ffebm.compiler.torch.schemas import functional_of

NO_FORM = {
    # lists of tensors or of numbers, and what torch's optimisers and quantisers write
    "_amp", "_foreach", "_fused", "add_.t", "copy_.int", "copy_.float", "mul_.t", "copy_.Tensor",
    # metadata, memory and random states
    "_fill_mem_eff_dropout_mask_", "_no_grad", "_sobol_engine", "requires_grad_", "rrelu_with_noise_",
    "set_.source_Tensor_storage_offset", "_index_put_impl_.hacked_twin",
    "fill_diagonal_",  # torch takes it apart itself
}  # fmt: skip
"""Ops of torch that no functional overload computes, by how their names begin."""
MEMORY = {"resize_", "resize_as_", "resize_as_sparse_", "set_"}
"""Ops that change what memory a tensor has, so their values are not comparable."""


def in_place() -> list[Any]:
    """Every overload of aten that writes its first argument."""
    names = {s.name.removeprefix("aten::") for s in torch._C._jit_get_all_schemas() if s.is_mutable}
    packets = [getattr(torch.ops.aten, n) for n in sorted(names) if n.endswith("_") and "::" not in n]
    overloads = [getattr(packet, overload) for packet in packets for overload in packet.overloads()]
    return [o for o in overloads if o._schema.is_mutable and not any(a.is_out for a in o._schema.arguments)]


def samples(kind: str, name: str, size: tuple[int, ...], dtype: torch.dtype) -> Any:
    """A value for an argument of a schema."""
    if kind == "Tensor":
        if name in {"index", "indices"}:
            return torch.zeros(size, dtype=torch.long)
        if name == "mask":
            return torch.rand(size) > 0.5
        values = torch.rand(size) + 1.1
        return values.to(dtype) if dtype != torch.bool else values > 1.6
    plain: dict[str, Any] = {"number": 2, "int": 1, "SymInt": 1, "float": 0.5, "bool": True, "str": "sum"}
    if kind in plain:
        return plain[kind]
    if kind.startswith("List["):
        inner = samples(kind[5:-1].removeprefix("Optional[").removesuffix("]"), name, size, dtype)
        return [torch.zeros(1, dtype=torch.long)] if isinstance(inner, torch.Tensor) else [inner - 1, inner]
    raise NotImplementedError(kind)


def calls(overload: Any) -> Iterator[dict[str, Any]]:
    """Arguments of a call, of several sizes and element types, until one fits."""
    for dtype in (torch.float32, torch.int64, torch.bool, torch.float64):
        for size in ((3, 3), (1, 3), (3,), (2, 1, 3, 3)):
            torch.manual_seed(0)
            try:
                yield {
                    a.name: samples(str(a.real_type), a.name, size, dtype)
                    for a in overload._schema.arguments
                    if not a.has_default_value()
                }
            except NotImplementedError:
                return


def written(overload: Any, given: dict[str, Any]) -> torch.Tensor | None:
    """What an op leaves in the tensor that it writes; None if it refuses these arguments."""
    torch.manual_seed(1)
    own = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    try:
        overload(**own)
    except (RuntimeError, NotImplementedError, IndexError, TypeError):
        return None
    found: torch.Tensor = own[overload._schema.arguments[0].name]
    return found


def test_every_op_that_writes_in_place_has_the_op_that_makes_the_same_value() -> None:
    unlike, unread, checked = [], [], 0
    for overload in in_place():
        form = functional_of(overload)
        name = str(overload).removeprefix("aten.")
        if form is None:
            unread += [] if name.startswith(tuple(NO_FORM)) else [name]
            continue
        assert not form.target._schema.is_mutable
        if name.split(".")[0] in MEMORY:
            continue
        for given in calls(overload):
            expected = written(overload, given)
            if expected is not None:
                torch.manual_seed(1)
                made = form.target(**form.arguments(given)).to(expected.dtype)
                checked += 1
                if not torch.equal(made.nan_to_num(), expected.nan_to_num()):
                    unlike.append(name)
                break
    assert (unlike, unread) == ([], [])
    assert checked > 200
