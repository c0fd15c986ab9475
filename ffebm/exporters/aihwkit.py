"""aihwkit exporter: a Python module that maps each layer on tiles to its configuration.

Source of the format: the configuration classes of IBM/aihwkit 1.x, as its torch tiles read them.
"""

import math
import textwrap
from collections.abc import Iterator

import numpy as np
import safetensors.numpy

from ffebm.exporters.export import (
    ADC_NOISE,
    SCALES,
    Export,
    held_matrix,
    layer_name,
    linears,
    missing_notes,
    replica_notes,
    settling_notes,
    sharing_notes,
    slice_ranges,
    source_line,
    used_group,
)
from ffebm.graph.energy_block import Linear
from ffebm.graph.tensor import Array
from ffebm.hardware.description import Crossbar
from ffebm.plan.checks.left_out import needs_weights
from ffebm.plan.conductance import range_scale, to_matrix
from ffebm.plan.plan import Plan

MODULE, WEIGHTS = "rpu.py", "weights.safetensors"

HEADER = '''\
"""aihwkit configurations of the layers on tiles, for aihwkit >= 1.0, < 2.

Source: {source}

    model.load_state_dict(safetensors.torch.load_file("weights.safetensors"), strict=False)
    analog = convert_to_analog(
        model, rpu.BASE, specific_rpu_config_fun=rpu.config_of, exclude_modules=rpu.EXCLUDE
    )

Layers are named by the weights of the source model: "fc" owns "fc.weight". The weights beside this file lie
on the levels of the cells. Read noise acts in training mode only; programming noise acts once
`analog.program_analog_weights()` has been called in eval mode.

What this cannot express:
{notes}
"""

from copy import deepcopy

from aihwkit.simulator.configs import TorchInferenceRPUConfig
'''

CROSSBAR = '''\
from aihwkit.inference.converter.conductance import SinglePairConductanceConverter
from aihwkit.inference.noise.pcm import PCMLikeNoiseModel
from aihwkit.simulator.parameters import (
    IOParameters,
    MappingParameter,
    WeightModifierParameter,
)
from aihwkit.simulator.parameters.enums import (
    BoundManagementType,
    NoiseManagementType,
    WeightModifierType,
)

G_MIN, G_MAX = {g_min}, {g_max}  # microsiemens
PROGRAMMING_NOISE = {programming}  # microsiemens, of a cell
READ_NOISE = {read}  # of a pair, in units of the conductance range


def _config(out_bound: float, omega: float = 1.0) -> TorchInferenceRPUConfig:
    """A crossbar whose ADCs reach `out_bound`, in units of the range of weights times the largest input.

    The largest weight takes the share `omega` of the range of weights.
    """
    config = TorchInferenceRPUConfig(
        mapping=MappingParameter(
            digital_bias=True,
            weight_scaling_omega=omega,
            weight_scaling_columnwise={by_column},
            max_input_size={rows},
            max_output_size={cols},
        ),
        forward=IOParameters(
            inp_bound=1.0,
            inp_res=1.0 / {dac_steps},
            inp_noise=0.0,
            out_bound=out_bound,
            out_res=1.0 / {adc_steps},
            out_noise={adc_noise} * out_bound,
            noise_management=NoiseManagementType.ABS_MAX,
            bound_management=BoundManagementType.NONE,
        ),
        noise_model=PCMLikeNoiseModel(
            prog_coeff=[PROGRAMMING_NOISE],
            g_converter=SinglePairConductanceConverter(g_max=G_MAX, g_min=G_MIN),
            read_noise_scale=0.0,
            drift_scale=0.0,
        ),
        drift_compensation=None,
    )
    if READ_NOISE:
        config.modifier = WeightModifierParameter(
            type=WeightModifierType.ADD_NORMAL,
            std_dev=READ_NOISE,
            per_batch_sample=True,
            rel_to_actual_wmax=False,
            assumed_wmax=1.0,
        )
    return config


'''

EXACT = '''\
from aihwkit.simulator.parameters import IOParameters, MappingParameter


def _config() -> TorchInferenceRPUConfig:
    """An exact tile of any size."""
    return TorchInferenceRPUConfig(
        mapping=MappingParameter(max_input_size=0, max_output_size=0), forward=IOParameters(is_perfect=True)
    )


'''

FOOTER = '''\
BASE = {base}


def config_of(name, module, base):
    """The configuration of a layer, for `specific_rpu_config_fun`; containers keep the base."""
    if name not in RPU and getattr(module, "weight", None) is not None:
        raise KeyError(f"layer {{name!r}} is in neither RPU nor EXCLUDE")
    return deepcopy(RPU.get(name, base))
'''


def export_aihwkit(plan: Plan) -> Export:
    """A plan as a Python module for aihwkit, and the weights on the levels of its cells beside it."""
    needs_weights(plan)
    maps = linears(plan)
    kept = {weight: linear for weight, linear in maps.items() if _expressible(linear)}
    notes = tuple(_notes(plan, maps, kept))
    tile = used_group(plan).tile
    weights = {f"{layer_name(w)}.weight": _torch_weight(plan, linear) for w, linear in kept.items()}
    shown = "\n".join(textwrap.fill(note, 100, initial_indent="- ", subsequent_indent="  ") for note in notes)
    text = HEADER.format(source=_plain(source_line(plan)), notes=_plain(shown))
    text += _crossbar(tile.crossbar()) if tile.has_cells else EXACT
    text += "RPU = {\n" + "".join(f"    {line},\n" for line in _entries(plan, kept)) + "}\n\n"
    text += "EXCLUDE = [\n" + "".join(f"    {name!r},\n" for name in _excluded(plan, kept)) + "]\n\n"
    text += FOOTER.format(base="_config(1.0)" if tile.has_cells else "_config()")
    files = {MODULE: text.encode(), WEIGHTS: safetensors.numpy.save(weights)}
    return Export(marker=MODULE, files=files, notes=notes)


def _plain(text: str) -> str:
    """Text that ends no docstring."""
    return text.replace("\\", "\\\\").replace('"""', "'''")


def _crossbar(tile: Crossbar) -> str:
    cell, micro = tile.cell, 1e6
    # Slices stand for less and less of a weight; an offset column leaves half of a range to it.
    ranges = math.sqrt(sum(range_scale(1.0, tile, index) ** 2 for index in range(tile.slices)))
    g_min, g_max = cell.g_min.value * micro, cell.g_max.value * micro
    return CROSSBAR.format(
        g_min=repr(g_min),
        g_max=repr(g_max),
        programming=repr(cell.programming_deviation / math.sqrt(cell.devices) * (g_max - g_min) * ranges),
        read=repr(math.sqrt(2.0) * cell.read_deviation * ranges),
        rows=tile.rows,
        cols=tile.cols,
        by_column=tile.scale == "column",
        dac_steps=2**tile.dac.bits - 2,
        adc_steps=2**tile.adc.bits - 2,
        adc_noise=repr(tile.adc.deviation / tile.adc.top if _has_one_reading(tile) else 0.0),
    )


def _has_one_reading(tile: Crossbar) -> bool:
    """A product is one reading of an ADC; aihwkit adds noise to a product once."""
    return tile.slices == 1 and tile.dac.slices == 1


def _expressible(linear: Linear) -> bool:
    """What `convert_to_analog` converts: dense layers, and convolutions in one group."""
    return linear.op != "ConvTranspose" and linear.groups == 1


def _ranges(plan: Plan, weight: str) -> list[float]:
    """The ADC range of each piece, its slices added, in units of its range of weights."""
    tile = used_group(plan).tile.crossbar()
    return [
        sum(limit * range_scale(1.0, tile, index) for index, limit in enumerate(slice_ranges(plan, piece)))
        for _, piece in plan.pieces()
        if piece.weight == weight and not piece.transposed
    ]


def _entries(plan: Plan, kept: dict[str, Linear]) -> Iterator[str]:
    """A layer a line; all tiles of a layer share one ADC range, the largest of its pieces."""
    exact = not used_group(plan).tile.has_cells
    for weight in kept:
        settings = [] if exact else [repr(max(_ranges(plan, weight))), *_omega(plan, kept[weight])]
        yield f"{layer_name(weight)!r}: _config({', '.join(settings)})"


def _omega(plan: Plan, linear: Linear) -> list[str]:
    """The share of the range of weights that the largest weight takes, of the piece that uses most of it."""
    tile = used_group(plan).tile.crossbar()
    if tile.update is None:
        return [f"omega={tile.omega}"] if tile.omega != 1.0 else []
    matrices = to_matrix(linear, plan.weights[linear.weight])
    shares = [
        abs(matrices[p.group, slice(*p.outputs), slice(*p.inputs)]).max() * range_scale(1.0, tile) / p.scale
        for _, p in plan.pieces()
        if p.weight == linear.weight and not p.transposed
    ]
    return [f"omega={max(shares):.6g}"] if max(shares) > 0 else []


def _excluded(plan: Plan, kept: dict[str, Linear]) -> list[str]:
    """Layers that stay torch: those with weights on digital units, and those that have no configuration."""
    digital = [w for node in plan.nodes if node.unit == "digital" for w in node.inputs]
    weights = [*digital, *(weight for weight in linears(plan) if weight not in kept)]
    names = [layer_name(w) for w in weights if w in plan.trainable and plan.weights[w].ndim >= 2]
    return list(dict.fromkeys(name for name in names if name not in map(layer_name, kept)))


def _torch_weight(plan: Plan, linear: Linear) -> Array:
    """As torch stores it: [out, in] of a dense layer, [out, in, *kernel] of a convolution."""
    matrix: Array = held_matrix(plan, linear)[0]
    if linear.op == "MatMul":
        return matrix
    kernel: Array = matrix.reshape(plan.weights[linear.weight].shape)
    return np.ascontiguousarray(kernel)


def _notes(plan: Plan, maps: dict[str, Linear], kept: dict[str, Linear]) -> Iterator[str]:
    yield from settling_notes(plan)
    yield from replica_notes(plan)
    yield from sharing_notes(plan)
    tile = used_group(plan).tile
    known = {ADC_NOISE} if tile.has_cells and _has_one_reading(tile.crossbar()) else set()
    yield from missing_notes(plan, frozenset({SCALES, *known}))
    for weight in maps:
        if weight not in kept:
            kind = "transposed" if maps[weight].op == "ConvTranspose" else "grouped"
            yield f"{layer_name(weight)!r} stays torch: aihwkit converts no {kind} convolutions"
    if not tile.has_cells:
        return
    for weight in kept:
        low, high = min(_ranges(plan, weight)), max(_ranges(plan, weight))
        if low < high:
            yield (
                f"{layer_name(weight)!r} lies on tiles with ADC ranges from {low:.4g} to {high:.4g}; a layer "
                "has one in aihwkit, here the largest, so the others read more coarsely"
            )
    yield (
        "the transposed read has no converters and no noise: the torch tiles backpropagate exactly through "
        "the weights that were read"
    )
    yield "the torch tiles draw read noise in training mode only, once for each sample, not for each window"
    yield "energies and times of the hardware description have no place in aihwkit"
