"""Small torch models with one odd thing each, held against torch in both modes."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, nn
from torch._higher_order_ops.map import map as torch_map
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop
from torch.utils.checkpoint import checkpoint

import ffebm
from tests.torch_models import Example, normal, run, same_as_torch


class Model(nn.Module):
    """A function of the module's parts and its inputs."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            elif isinstance(part, nn.Parameter):
                self.register_parameter(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor, *rest: Tensor) -> Any:
        return self.function(self, x, *rest)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(normal(*shape) / 2)


def dense(n_in: int = 4, n_out: int = 3) -> nn.Module:
    return nn.Linear(n_in, n_out).double()


def not_contiguous() -> nn.Module:
    layer = dense(4, 6)
    layer.weight = nn.Parameter(normal(4, 6).t())
    return nn.Sequential(layer, nn.ReLU())


def tied() -> nn.Module:
    layer = dense(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.Tanh(), layer)


def literals(m: Any, x: Tensor) -> Tensor:
    """Literals are new at each run, whatever is written into them."""
    y = torch.zeros(x.shape[0], 6, dtype=x.dtype)
    y[:, torch.tensor([1, 3, 5])] = m.dense(x)
    y.index_add_(1, torch.tensor([0, 0, 2]), m.dense(x))
    total = torch.tensor([0.0], dtype=x.dtype)
    total.add_(x.sum())
    return y * total


def masked(m: Any, x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 0] = 0
    x[x > 0.5] *= 2
    y: Tensor = torch.where((x > 0) & (x < 1), x, x.new_tensor(0.5)) @ m.w
    return y


def moving_mean(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
    y: Tensor = m.dense(x - m.mean)
    return y


def assigned_buffer(m: Any, x: Tensor) -> Tensor:
    m.total = m.total + x.mean(0).detach()
    y: Tensor = m.dense(x - m.total)
    return y


def cells(m: Any, x: Tensor) -> Tensor:
    h = c = torch.zeros(x.shape[0], 3, dtype=x.dtype)
    for t in range(x.shape[1]):
        h, c = m.cell(x[:, t], (h, c))
    return h


def pools(m: Any, x: Tensor) -> tuple[Tensor, ...]:
    y = m.conv(x)
    best, index = F.max_pool2d(y, 2, return_indices=True)
    return (
        F.adaptive_max_pool2d(y, 2),
        F.avg_pool2d(y, 3, stride=1, padding=1, count_include_pad=False),
        F.max_unpool2d(best, index, (2, 2)),
        F.lp_pool2d(y, 2, 2),
        F.adaptive_avg_pool2d(y, (3, 2)),
    )


def scanned(m: Any, x: Tensor) -> Any:
    def step(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        new = torch.tanh(state @ m.w + row)
        return new, new.clone()

    return scan(step, torch.zeros(2, 4, dtype=x.dtype), x, dim=0)


def warped(m: Any, x: Tensor) -> Tensor:
    grid = F.affine_grid(m.dense(x.flatten(1)).view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def repeated(m: Any, x: Tensor) -> Tensor:
    y: Tensor = m.dense(x)
    y = y.repeat(2, 1).reshape(2, -1, 3).repeat_interleave(2, 0)
    return torch.cumsum(y.roll(1, 0).flip(2), 2)


ACTIVATIONS = (
    *(
        nn.ELU(0.5),
        nn.CELU(0.7),
        nn.SELU(),
        nn.Softplus(2.0),
        nn.Softsign(),
        nn.Hardtanh(-0.5, 0.7),
        nn.ReLU6(),
    ),
    *(nn.Hardsigmoid(), nn.LogSigmoid(), nn.Tanhshrink(), nn.Softshrink(0.1), nn.GELU("tanh"), nn.SiLU()),
    *(nn.Mish(), nn.Threshold(0.1, 0.2), nn.PReLU(), nn.Softmax(1), nn.Hardswish(), nn.LeakyReLU(0.3)),
)

MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Example]]] = {
    "activations": (
        lambda: Model(
            lambda m, x: torch.cat([f(m.dense(x)) for f in m.each], 1),
            dense=dense(),
            each=nn.ModuleList(ACTIVATIONS).double(),
        ),
        lambda: (normal(3, 4),),
    ),
    "assigned buffer": (
        lambda: Model(assigned_buffer, total=torch.zeros(4, dtype=torch.float64), dense=dense()),
        lambda: (normal(3, 4),),
    ),
    "batch norm without statistics": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.ReLU()),
        lambda: (normal(2, 2, 6, 6),),
    ),
    "batch norm without weights": (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, affine=False), nn.ReLU()),
        lambda: (normal(5, 4),),
    ),
    "bilinear and einsum": (
        lambda: Model(
            lambda m, x, y: torch.einsum("bo,ok->bk", m.both(x, y), m.w),
            both=nn.Bilinear(4, 5, 3).double(),
            w=weight(3, 2),
        ),
        lambda: (normal(2, 4), normal(2, 5)),
    ),
    "checkpointed": (
        lambda: Model(
            lambda m, x: checkpoint(lambda v: m.dense(v).relu(), x, use_reentrant=False), dense=dense()
        ),
        lambda: (normal(3, 4),),
    ),
    "circular padding": (
        lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.ReLU()),
        lambda: (normal(2, 2, 5, 5),),
    ),
    "complex": (
        lambda: Model(lambda m, x: torch.fft.rfft(m.dense(x)).abs(), dense=dense()),
        lambda: (normal(3, 4),),
    ),
    "embedding bag": (
        lambda: Model(lambda m, x: m.dense(m.bag(x)), bag=nn.EmbeddingBag(10, 4).double(), dense=dense()),
        lambda: (torch.randint(0, 10, (3, 5)),),
    ),
    "in three dimensions": (
        lambda: nn.Sequential(
            nn.Conv3d(2, 3, 2), nn.ReLU(), nn.MaxPool3d(2), nn.InstanceNorm3d(3, affine=True)
        ),
        lambda: (normal(2, 2, 7, 7, 7),),
    ),
    "literals": (lambda: Model(literals, dense=dense()), lambda: (normal(3, 4),)),
    "mapped": (
        lambda: Model(lambda m, x: torch_map(lambda row, w: (w @ row).relu(), x, m.w), w=weight(3, 4)),
        lambda: (normal(3, 4),),
    ),
    "masked": (lambda: Model(masked, w=weight(4, 3)), lambda: (normal(3, 4),)),
    "moving mean": (
        lambda: Model(moving_mean, mean=torch.zeros(4, dtype=torch.float64), dense=dense()),
        lambda: (normal(3, 4),),
    ),
    "not contiguous": (not_contiguous, lambda: (normal(3, 4),)),
    "one dimension": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 4, 3, padding=1), nn.Tanh(), nn.ConvTranspose1d(4, 2, 4, stride=2)
        ),
        lambda: (normal(2, 3, 8),),
    ),
    "parametrised weight": (
        lambda: nn.utils.parametrizations.weight_norm(dense()),
        lambda: (normal(3, 4),),
    ),
    "parts of a weight": (
        lambda: Model(lambda m, x: F.linear(x, m.w[:2]) + F.linear(x, m.w[2:]).relu(), w=weight(4, 4)),
        lambda: (normal(3, 4),),
    ),
    "pools": (
        lambda: Model(pools, conv=nn.Conv2d(2, 3, 3, padding=1).double()),
        lambda: (normal(2, 2, 6, 6),),
    ),
    "recurrent cell": (lambda: Model(cells, cell=nn.LSTMCell(4, 3).double()), lambda: (normal(2, 5, 4),)),
    "repeated": (lambda: Model(repeated, dense=dense()), lambda: (normal(3, 4),)),
    "results that are inputs and weights": (
        lambda: Model(lambda m, x: [x, (m.dense(x),) * 2, m.dense.weight], dense=dense()),
        lambda: (normal(3, 4),),
    ),
    "scanned": (lambda: Model(scanned, w=weight(4, 4)), lambda: (normal(5, 2, 4),)),
    "single precision at the end": (
        lambda: Model(lambda m, x: m.dense(x.float().double()).to(torch.float32), dense=dense()),
        lambda: (normal(3, 4),),
    ),
    "tied convolution": (
        lambda: Model(
            lambda m, x: F.conv_transpose2d(m.conv(x).relu(), m.conv.weight), conv=nn.Conv2d(2, 3, 3).double()
        ),
        lambda: (normal(2, 2, 6, 6),),
    ),
    "tied three times": (tied, lambda: (normal(3, 4),)),
    "upsampled": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1), nn.PixelShuffle(2), nn.Upsample(scale_factor=2, mode="bilinear")
        ),
        lambda: (normal(2, 2, 4, 4),),
    ),
    "warped": (lambda: Model(warped, dense=dense(32, 6)), lambda: (normal(2, 2, 4, 4),)),
    "without batch": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU()), lambda: (normal(2, 5, 5),)),
}
"""Every model with the arguments of a call."""


@pytest.mark.parametrize("name", MODELS)
def test_outputs_buffers_and_gradients_are_torch_s(name: str) -> None:
    torch.manual_seed(0)
    make, example = MODELS[name]
    model, given = make().double(), example()
    plan = ffebm.compile(model, given, hardware="ideal")
    assert same_as_torch(plan, model, given, ffebm.Implicit()) >= 0.999999


def test_a_while_loop_has_the_gradient_of_its_rounds() -> None:
    """Torch's own loop has none that could be compared, so the rounds are written out."""
    torch.manual_seed(0)
    w, x = weight(4, 4), normal(2, 4)

    def loop(m: Any, x: Tensor) -> Any:
        return while_loop(  # type: ignore[no-untyped-call]
            lambda i, v: i < 3, lambda i, v: (i + 1, torch.tanh(v @ m.w)), (torch.tensor(0), x)
        )[1]

    net = ffebm.Executor(ffebm.compile(Model(loop, w=w), x, hardware="ideal"), gradient=ffebm.Implicit())
    assert [(n.op, n.macs, n.weights) for n in net.plan.nodes if n.weights] == [("Loop", 16, 16)]
    expected = x
    for _ in range(3):
        expected = torch.tanh(expected @ w)
    result = net(x)
    torch.testing.assert_close(result, expected)
    result.square().sum().backward()
    expected.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(net.weights()["w"].grad, w.grad)


@pytest.mark.parametrize(
    ("function", "example"),
    [
        (lambda m, x: x.relu().sum(1), normal(3, 4)),
        (lambda m, x: x, normal(3, 4)),
        (lambda m, x: (x * 2, torch.ones(3)), normal(3, 4)),
        (lambda m, x: x * 2 + 1, torch.randint(0, 9, (3, 4))),
    ],
    ids=["function", "identity", "constant result", "integers"],
)
def test_models_without_parameters(function: Callable[..., Any], example: Tensor) -> None:
    model = Model(function)
    net = ffebm.Executor(ffebm.compile(model, example, hardware="ideal"))
    assert net.weights() == {}
    torch.testing.assert_close(run(net, (example,)), run(model, (example,)), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_element_types(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).to(dtype)
    x = torch.randn(3, 4).to(dtype)
    net = ffebm.Executor(ffebm.compile(model, x, hardware="ideal"), gradient=ffebm.Implicit())
    assert {node.unit for node in net.plan.nodes} == {"tile"}
    twin = copy.deepcopy(model)
    result, expected = net(x), twin(x)
    torch.testing.assert_close(result, expected)
    result.square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(net.weights()[name].grad, parameter.grad)
    model.load_state_dict(net.weights())
    net.plan.save(tmp_path / "plan")
    loaded = ffebm.load_plan(tmp_path / "plan")
    assert loaded == net.plan
    torch.testing.assert_close(ffebm.Executor(loaded)(x), result, rtol=0, atol=0)


class Cast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y: Tensor = self.dense(x)
        return y.float() * 2


def test_an_autocast_is_casts() -> None:
    torch.manual_seed(0)
    model, x = Cast(), torch.randn(3, 4)
    plan = ffebm.compile(model, x, hardware="ideal")
    assert {"Cast"} <= {node.op for node in plan.nodes}
    # bfloat16 keeps 8 bits; torch adds the bias before it rounds
    torch.testing.assert_close(ffebm.Executor(plan)(x), model(x), rtol=2**-7, atol=2**-7)


def test_an_average_over_all_batches_says_that_it_stays() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, momentum=None))
    plan = ffebm.compile(model, torch.randn(5, 4), hardware="ideal")
    assert plan.notes[-1] == (
        "running statistics of 1 stay as they are: momentum=None averages over all batches, which "
        "torch.export refuses"
    )


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x


def test_a_refused_model_is_one_message(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        ffebm.FfebmError, match=r"^Undecided: torch\.export refuses it: Could not guard on data"
    ):
        ffebm.compile(Undecided(), torch.randn(2, 3))
    assert capfd.readouterr() == ("", "")
