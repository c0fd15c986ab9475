import math
from itertools import pairwise
from typing import Any, Literal

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.nn import functional

from ffebm import EP, Executor, Implicit, Plan, Settle
from ffebm import compile as compile_plan
from ffebm.errors import UsageError
from ffebm.hardware.description import Crossbar, Hardware
from ffebm.runtime.blocks.edge import Edge
from ffebm.runtime.tiles.lines.converter import line_errors, top_code
from ffebm.runtime.tiles.lines.readout import readout
from ffebm.runtime.tiles.noise import FrozenNoise
from tests.machines import continuous, crossbars, ratio, with_tiles
from tests.models import Builder
from tests.runtime.tiles.bench import convert, crossbar, random, source, with_adc, with_dac


def machine(*, bits: int = 8, reading: float = 0.0, **adc: Any) -> Hardware:
    """Continuous settling on tiles that miss nothing in programming."""
    base = crossbars(16, 16, 16)
    assert isinstance(base.analog[0].tile, Crossbar)
    tile = crossbar(levels=2**20, bits=bits, reading=reading)
    tile = replace(with_adc(tile, **adc), rows=base.analog[0].tile.rows, cols=base.analog[0].tile.cols)
    return continuous(with_tiles(base, tile=tile))


def chain(hardware: Hardware | str, sizes: tuple[int, ...] = (6, 12, 10, 4), block_size: int = 3) -> Plan:
    """Products with clips between them, scaled so that blocks settle."""
    b = Builder()
    y = b.input("x", "N", sizes[0])
    for n_in, n_out in pairwise(sizes):
        y = b.node("MatMul", y, b.constant(random(n_in, n_out, seed=n_in).float().numpy() * 0.6 / n_in**0.5))
        y = b.node("Sigmoid", y)
    return compile_plan(b.model(y), hardware=hardware, block_size=block_size)


def inputs(batch: int = 5, n: int = 6) -> Tensor:
    return random(batch, n, seed=3, dtype=torch.float32)


def edge(tile: Crossbar) -> Edge:
    return Edge(tile, FrozenNoise(source()), "machine")


def test_what_leaves_is_read_under_noise_of_the_adcs() -> None:
    tile = with_adc(crossbar(bits=16), noise=ratio(0.002), range="maximal")
    s, reads = random(1, 20), 5_000
    block = edge(tile)
    block.begin_phase()
    found = block.sense("s", s.expand(reads, 20)) / s.abs().max()
    inner = found[:, (s[0].abs() < 0.98 * s.abs().max())]
    assert inner.std(0).tolist() == pytest.approx([0.002] * inner.shape[1], rel=0.05)
    assert (torch.corrcoef(inner.T) - torch.eye(inner.shape[1])).abs().max() < 5 / reads**0.5


@pytest.mark.parametrize("sigmas", [100.0, 1.5])
def test_what_leaves_is_a_code_of_the_range(sigmas: float) -> None:
    tile = replace(crossbar(bits=5), adc_sigmas=ratio(sigmas))
    s = random(4, 3, 7)
    largest = s.abs().amax((1, 2), keepdim=True)
    deviation = s.square().mean((1, 2), keepdim=True).sqrt()
    limit = torch.minimum(largest, sigmas * deviation)
    torch.testing.assert_close(edge(tile).sense("s", s), convert(s, limit, 5))
    torch.testing.assert_close(edge(with_adc(tile, range="maximal")).sense("s", s), convert(s, largest, 5))
    torch.testing.assert_close(edge(tile).drive("s", s), convert(s, largest, 5))
    assert torch.equal(edge(tile).sense("s", 0 * s), 0 * s)


def test_converters_of_an_edge_have_their_own_errors() -> None:
    errors = {"gain": ratio(0.02), "offset": ratio(0.01)}
    tile = with_dac(with_adc(crossbar(bits=20), **errors), **errors)
    s = random(4, 7).clamp(-0.8, 0.8)
    s[:, 0] = 2.0  # the range
    known = line_errors(tile.adc, (7,), s, "machine/s/adc")
    assert known.gain is not None
    assert known.offset is not None
    expected = (known.gain[:, 0] * s + 2.0 * known.offset[:, 0]).clamp(-2, 2)
    torch.testing.assert_close(edge(tile).sense("s", s), expected, rtol=1e-4, atol=1e-4)
    assert not torch.equal(edge(tile).sense("s", s), edge(tile).sense("t", s))
    assert not torch.equal(edge(tile).sense("s", s), edge(tile).drive("s", s))


def test_noise_stays_during_a_phase_and_differs_between_phases() -> None:
    frozen = FrozenNoise(source())

    def drawn(reader: int) -> Tensor:
        frozen.announce(reader)
        return torch.randn(2000, generator=frozen.reads)

    frozen.begin_phase()
    first, other_reader, again = drawn(2), drawn(3), drawn(2)
    assert torch.equal(first, again)
    frozen.begin_phase()
    correlations = torch.corrcoef(torch.stack([first, other_reader, drawn(2)]))
    assert (correlations - torch.eye(3)).abs().max() < 4 / 2000**0.5


def test_no_phase_meets_the_noise_of_another() -> None:
    frozen, first = FrozenNoise(source()), set()
    for _ in range(2000):
        frozen.begin_phase()
        for reader in range(2):
            frozen.announce(reader)
            first.add(float(torch.rand((), generator=frozen.reads, dtype=torch.float64)))
    assert len(first) == 4000


def test_with_fine_converters_and_no_noise_the_circuit_is_the_exact_block() -> None:
    settle = Settle(free_sweeps=200, nudged_sweeps=100, tol=1e-6)
    noisy = Executor(chain(machine(bits=22)), settle=settle)
    exact = Executor(chain("ideal"), settle=settle)
    x = inputs()
    torch.testing.assert_close(noisy(x), exact(x), rtol=1e-4, atol=1e-4)
    for net in (noisy, exact):
        net(x).sum().backward()
    for name, weight in noisy.weights().items():
        torch.testing.assert_close(weight.grad, exact.weights()[name].grad, rtol=0.02, atol=1e-3)


@pytest.mark.parametrize("tol", [None, 1e-5])
def test_a_noisy_circuit_stands_still_where_a_clocked_one_does_not(tol: float | None) -> None:
    settle = Settle(free_sweeps=60, tol=tol)
    hardware = machine(reading=0.01)
    clocked = with_tiles(hardware, settling="clocked", relaxation=None)
    found = {}
    for name, kind in (("continuous", hardware), ("clocked", clocked)):
        net = Executor(chain(kind), settle=settle)
        net(inputs())
        (found[name],) = net.equilibria
    assert bool((found["continuous"].residual <= 1e-4).all())
    assert found["continuous"].noise == 0
    assert bool((found["clocked"].residual > 1e-4).all())
    assert bool(found["clocked"].converged.all())  # but for noise
    assert found["clocked"].noise > 0


def test_samples_that_settle_early_keep_the_noise_of_their_phase() -> None:
    """Stopping sample by sample must end where sweeping on ends."""
    plan, x = chain(machine(bits=20, reading=0.01)), inputs()
    x[1] = 0.0  # settles sooner than the others
    found = [Executor(plan, settle=Settle(free_sweeps=200, tol=tol))(x) for tol in (None, 1e-6)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)


def test_the_outputs_of_a_layer_vary_from_phase_to_phase_as_the_noise_of_its_line() -> None:
    sigma = 0.01
    b = Builder()
    weight = random(6, 4, seed=1).float().numpy()
    y = b.node("MatMul", b.input("x", "N", 6), b.constant(weight))
    plan = compile_plan(b.model(y), hardware=machine(bits=20, reading=sigma))
    net, x = Executor(plan), inputs(4000)[:1].expand(4000, 6)
    out = torch.cat([net(x) for _ in range(2)]).detach()
    expected = math.sqrt(2) * sigma * float(abs(weight).max()) * float(x[0].norm())
    assert out.std(0).tolist() == pytest.approx([expected] * 4, rel=0.03)
    halves = torch.corrcoef(torch.stack([out[:4000, 0], out[4000:, 0]]))
    assert abs(float(halves[0, 1])) < 4 / 4000**0.5


def test_what_leaves_the_block_has_passed_an_adc() -> None:
    net, x = Executor(chain(machine(bits=4))), inputs()
    y = net(x)
    codes = y / y.abs().amax(1, keepdim=True) * top_code(4)
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-4)
    (equilibrium,) = net.equilibria
    inside = list(equilibrium.state.values())[-1]
    assert not torch.allclose(inside, y)  # the circuit itself is not quantised


@pytest.mark.parametrize("points", [1, 2])
def test_gradients_of_a_circuit(points: int) -> None:
    x = inputs(20)
    net = Executor(chain(machine(bits=18)), gradient=EP(beta=0.1, points=points))
    exact = Executor(chain("ideal"), gradient=Implicit())
    for each in (net, exact):
        each(x).square().sum().backward()
    for name, weight in net.weights().items():
        truth = exact.weights()[name].grad
        assert weight.grad is not None
        assert truth is not None
        cosine = torch.cosine_similarity(weight.grad.flatten(), truth.flatten(), 0)
        assert float(cosine) > 0.99


def test_the_error_current_leaves_through_one_read() -> None:
    x = inputs().requires_grad_()
    net = Executor(chain(machine(bits=12), sizes=(6, 5)))
    net(x).sum().backward()
    y = x.detach().clone().requires_grad_()
    exact = Executor(chain("ideal", sizes=(6, 5)), gradient=Implicit())
    exact(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0.05, atol=5e-3)


@pytest.mark.parametrize(
    ("gradient", "nudge"), [(EP(cost=True), "the cost itself"), (EP(points=4), "4 nudging points")]
)
def test_a_circuit_is_nudged_by_a_current(gradient: EP, nudge: str) -> None:
    net = Executor(chain(machine()), gradient=gradient)
    loss = net.loss(inputs(), torch.zeros(5, 4), torch.nn.functional.mse_loss)
    with pytest.raises(UsageError) as caught:
        loss.backward()  # type: ignore[no-untyped-call]
    hint = "\n  hint: leave cost=True out: --no-cost, or cost = false in the settings"
    assert str(caught.value) == (
        f"block0 settles by itself and cannot be nudged by {nudge}; "
        f"a constant current: EP(points=2) or EP(points=1){hint if gradient.cost else ''}"
    )


def test_the_rounding_of_what_leaves_is_foretold() -> None:
    for tile in (
        replace(crossbar(bits=6), adc_sigmas=ratio(2.0)),
        with_adc(crossbar(bits=6), range="maximal"),
    ):
        s = random(50, 3, 70).clamp(-1.5, 1.5)
        read = edge(tile).sense("s", s)
        off = (read - s)[read.abs() < read.abs().amax((1, 2), keepdim=True)]  # but for what was clipped
        expected = edge(tile).rounding(s) / s.numel() ** 0.5
        assert float(off.square().mean().sqrt()) == pytest.approx(float(expected), rel=0.02)


@pytest.mark.parametrize("beta", [0.1, "auto"])
def test_the_unit_of_the_loss_does_not_change_the_direction(beta: float | Literal["auto"]) -> None:
    x, y = inputs(64), torch.arange(64) % 4

    def gradients(factor: float) -> Tensor:
        net = Executor(chain(machine(bits=8, reading=0.001)), gradient=EP(beta))
        (factor * functional.cross_entropy(net(x), y)).backward()  # type: ignore[no-untyped-call]
        return torch.cat([w.grad.flatten() for w in net.weights().values() if w.grad is not None]) / factor

    whole = gradients(1.0)
    for factor in (0.1, 0.01, 0.001):
        assert float((gradients(factor) - whole).norm() / whole.norm()) < 1e-2
    assert torch.equal(gradients(2.0**-20), whole)


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize(("bits", "reading"), [(8, 0.0), (8, 0.001), (12, 0.002)])
def test_a_circuit_gets_a_strength_that_no_other_much_betters(bits: int, reading: float, points: int) -> None:
    """Where a nudge moves states by less than a step of the ADCs, all tries read the same wrong answer."""
    x, y = inputs(64), torch.arange(64) % 4
    exact = Executor(chain("ideal"), gradient=Implicit())
    functional.cross_entropy(exact(x), y).backward()  # type: ignore[no-untyped-call]

    def fidelity(beta: float | Literal["auto"], seed: int = 0) -> float:
        """Mean over weights of the cosine to the exact gradient."""
        net = Executor(chain(machine(bits=bits, reading=reading)), gradient=EP(beta, points), seed=seed)
        functional.cross_entropy(net(x), y).backward()  # type: ignore[no-untyped-call]
        pairs = zip(net.weights().values(), exact.weights().values(), strict=True)
        grads = [
            (a.grad.flatten(), b.grad.flatten())
            for a, b in pairs
            if a.grad is not None and b.grad is not None
        ]
        assert len(grads) == 3
        return sum(float(torch.cosine_similarity(a, b, 0)) for a, b in grads) / 3

    found = fidelity("auto")
    assert found > 0.9 * max(fidelity(beta) for beta in (0.001, 0.1, 0.5, 1.0, 2.0, 5.0))
    # a weak nudge has the cosine that its noise happens to have, up to 0.2 from its mean
    seeds = range(3 if reading else 1)
    weak = sum(fidelity(0.01, seed) for seed in seeds)
    assert sum(fidelity("auto", seed) for seed in seeds) > weak + 0.4 * len(seeds)


@pytest.mark.parametrize("shape", [(12,), (3, 2, 2)])
def test_an_edge_and_an_array_have_the_same_converters(shape: tuple[int, ...]) -> None:
    """An array of ones on the diagonal, between converters, hands on what converters alone make."""
    errors = {"gain": ratio(0.02), "offset": ratio(0.01)}
    x = random(1, *shape)
    one, largest = torch.ones(1, 1).double(), x.abs().max()

    def by_array(tile: Crossbar, limit: float) -> Tensor:
        array = readout(torch.eye(12).double(), one, limit * one, tile, name="machine/s")
        return array.read(x.flatten(1), source())[0].reshape(x.shape)

    driven = with_adc(with_dac(crossbar(bits=6), **errors), bits=24)
    torch.testing.assert_close(edge(driven).drive("s", x), by_array(driven, 2.0), rtol=0, atol=1e-6)
    sensed = with_dac(with_adc(crossbar(bits=6), range="maximal", **errors), bits=24)
    codes = edge(sensed).sense("s", x) / largest * 31
    torch.testing.assert_close(codes, codes.round(), rtol=0, atol=1e-9)
    torch.testing.assert_close(codes, by_array(sensed, 1.0) / largest * 31, rtol=0, atol=1e-5)


def test_a_dac_errs_behind_its_codes() -> None:
    """The voltage of a code: gain v + offset of a whole code, which is no code itself."""
    tile = with_dac(crossbar(bits=4), gain=ratio(0.1), offset=ratio(0.05))
    x = torch.linspace(-1.0, 1.0, 9).double()[None]
    known = line_errors(tile.dac, (9,), x, "machine/s/dac")
    assert known.gain is not None
    assert known.offset is not None
    expected = convert(x, 1.0, 4) * known.gain[:, 0] + known.offset[:, 0]
    torch.testing.assert_close(edge(tile).drive("s", x), expected)
    assert edge(tile).drive("s", x[:0]).shape == edge(tile).sense("s", x[:0]).shape == (0, 9)
