import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from torch import Tensor, fx, nn
from torch.export import ExportedProgram, export

import ffebm
from ffebm.errors import ModelError, UsageError
from tests.torch_models import (
    CATALOGUE,
    ConvNet,
    InPlace,
    Mobile,
    Nested,
    ResNet,
    Tied,
    encoder,
    normal,
    run,
    same_as_torch,
    without_dropout,
)


@pytest.mark.parametrize("name", CATALOGUE)
def test_outputs_and_gradients_are_torch_s(name: str) -> None:
    torch.manual_seed(0)
    make, example = CATALOGUE[name]
    model, given = without_dropout(make()).double(), example()
    plan = ffebm.compile(model, given, hardware="ideal")
    assert plan.source.format == "torch"
    assert same_as_torch(plan, model, given, ffebm.Implicit()) >= 0.999999
    # so small a nudge that no unit crosses a kink between the two nudged phases
    assert same_as_torch(plan, model, given, ffebm.EP(beta=1e-5)) >= 0.999


@pytest.mark.parametrize("name", ["in place", "mixed", "nested", "resnet", "tied", "transformer"])
def test_a_saved_plan_runs_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, example = CATALOGUE[name]
    model, given = make().double(), example()
    plan = ffebm.compile(model, given)
    plan.save(tmp_path / "plan")
    loaded = ffebm.load_plan(tmp_path / "plan")
    assert loaded == plan
    assert not (tmp_path / "plan" / "source.onnx").exists()
    results = [run(ffebm.Executor(p), given) for p in (plan, loaded)]
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


# --- inputs and outputs ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv net", "in place", "mobile", "recurrent", "transformer"])
def test_the_batch_is_open(name: str) -> None:
    torch.manual_seed(0)
    make, example = CATALOGUE[name]
    model, given = make().double().eval(), example()
    assert isinstance(given, tuple)
    given = tuple(given)
    net = ffebm.Executor(ffebm.compile(model, given, hardware="ideal"))
    assert net.plan.inputs[0].type.shape is not None
    assert net.plan.inputs[0].type.shape[0] == "batch"
    for batch in (1, 7):
        other = (normal(batch, *given[0].shape[1:]),)
        net.reseed(0)
        expected, results = run(copy.deepcopy(model), other), run(net, other)
        if name != "in place":  # whose buffer has counted one run more
            torch.testing.assert_close(results, expected)


def test_an_example_of_one_sample_leaves_the_batch_open() -> None:
    model = ConvNet()
    net = ffebm.Executor(ffebm.compile(model, torch.randn(1, 1, 16, 16), hardware="ideal"))
    x = torch.randn(3, 1, 16, 16)
    torch.testing.assert_close(net(x), model(x))


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(2, 8).tanh() if x.shape[0] == 2 else x


def test_a_model_that_fixes_its_batch_says_so() -> None:
    plan = ffebm.compile(Fixed(), torch.randn(2, 2, 4), hardware="ideal")
    assert plan.inputs[0].type.shape == (2, 2, 4)
    assert any("the batch is fixed at" in note for note in plan.notes)


def test_nested_results_come_back_nested() -> None:
    model = Nested().double()
    data: dict[str, Any] = {"a": normal(3, 4), "b": [normal(3, 4)]}
    extra = normal(3, 1)
    net = ffebm.Executor(ffebm.compile(model, {"data": data, "scale": 2.0, "extra": extra}, hardware="ideal"))
    result = net(data=data, extra=extra)
    assert sorted(result) == ["x", "y"]
    assert result["y"][1][1:] == [None, 3]
    torch.testing.assert_close(result, model(data, 2.0, extra=extra))
    torch.testing.assert_close(net(data["a"], data["b"][0], extra)["x"], result["x"])


# --- modes -------------------------------------------------------------------------------------------


def test_dropout_follows_the_mode() -> None:
    torch.manual_seed(0)
    model, x = encoder(), torch.randn(3, 5, 16)
    net = ffebm.Executor(ffebm.compile(model, x, hardware="ideal"))
    torch.testing.assert_close(net(x), net(x), rtol=0, atol=0)
    attention = [n for n in net.plan.nodes if n.op == "aten.scaled_dot_product_attention.default"]
    assert len(attention) == 2
    net.train()
    assert not torch.allclose(net(x), net(x))
    net.eval()
    torch.testing.assert_close(net(x), model.eval()(x), rtol=1e-5, atol=1e-5)


def test_exporting_leaves_the_model_as_it_was() -> None:
    model = Mobile()
    model.blocks[0].eval()
    before = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    ffebm.compile(model, torch.randn(2, 3, 16, 16))
    assert [module.training for module in model.modules()] == before
    torch.testing.assert_close(dict(model.state_dict()), state, rtol=0, atol=0)


class Fickle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x))
        return y.tanh() if self.training else y.relu()


def test_a_model_that_runs_other_ops_in_training_says_so() -> None:
    model, x = Fickle(), torch.randn(5, 4)
    plan = ffebm.compile(model, x, hardware="ideal")
    assert [note for note in plan.notes if note.startswith("in training the model runs other ops")]
    net = ffebm.Executor(plan)
    torch.testing.assert_close(net(x), model.eval()(x))
    model.norm.train()
    torch.testing.assert_close(net.train()(x), model(x))


class Unfolded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x)) * 1.0
        y.unfold(1, 2, 2)[:, 0].mul_(2.0)
        return y


def test_a_write_through_a_view_without_an_inverse_here() -> None:
    torch.manual_seed(0)
    model, x = Unfolded().double(), normal(5, 4)
    plan = ffebm.compile(model, x, hardware="ideal")
    assert same_as_torch(plan, model, (x,), ffebm.Implicit()) >= 0.999999


class Always(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.5, training=True)


def test_dropout_that_is_always_on_stays_on() -> None:
    net = ffebm.Executor(ffebm.compile(Always(), torch.ones(4, 50), hardware="ideal"))
    for training in (False, True):
        zeros = (net.train(training)(torch.ones(4, 50)) == 0).double().mean()
        assert 0.2 < float(zeros) < 0.8


def test_training_steps_are_torch_s_and_go_back_into_the_module() -> None:
    torch.manual_seed(0)
    model = ResNet().double()
    net = ffebm.Executor(
        ffebm.compile(model, normal(4, 3, 8, 8), hardware="ideal"), gradient=ffebm.Implicit()
    )
    twin = copy.deepcopy(model).train()
    net.train()
    ours = torch.optim.SGD(net.weights().values(), 0.05)
    theirs = torch.optim.SGD(twin.parameters(), 0.05)
    for _ in range(3):
        x = normal(4, 3, 8, 8)
        for optimiser, trained in ((ours, net), (theirs, twin)):
            optimiser.zero_grad()
            trained(x).square().mean().backward()
            optimiser.step()
    missing = model.load_state_dict({**net.weights(), **net.running_statistics()}, strict=False)
    assert missing.unexpected_keys == []
    torch.testing.assert_close(dict(model.state_dict()), dict(twin.state_dict()))


def test_a_buffer_that_counts_counts_on() -> None:
    net = ffebm.Executor(ffebm.compile(InPlace(), torch.randn(3, 6), hardware="ideal"))
    for _ in range(3):
        net(torch.randn(3, 6))
    assert net.running_statistics()["runs"].tolist() == [3.0, 3.0]


# --- names and places --------------------------------------------------------------------------------


def test_parameters_keep_their_names_and_tied_ones_have_one_owner() -> None:
    model = Tied()
    plan = ffebm.compile(model, torch.randint(0, 11, (2, 5)))
    assert set(plan.trainable) == {name for name, _ in model.named_parameters()}
    assert "out.weight" not in plan.weights
    turned = [node for node in plan.nodes if "another way round" in node.reason]
    assert [node.op for node in turned] == ["MatMul"]


def test_frozen_parameters_are_constants() -> None:
    model = ConvNet()
    model.first.requires_grad_(False)
    plan = ffebm.compile(model, torch.randn(2, 1, 16, 16))
    assert "first.weight" in plan.weights
    assert not {"first.weight", "first.bias"} & set(plan.trainable)


def test_nodes_say_where_they_came_from() -> None:
    plan = ffebm.compile(Mobile(), torch.randn(2, 3, 16, 16))
    conv = next(node for node in plan.nodes if node.inputs[1:2] == ("blocks.0.body.3.weight",))
    assert conv.op == "Conv"
    assert conv.location.startswith("Mobile:blocks.0.body.3 (torch_models.py:")
    for node in plan.nodes:
        assert node.reason
        assert node.location.startswith("Mobile")


def test_the_layers_of_a_conv_net_are_blocks() -> None:
    plan = ffebm.compile(ConvNet(), torch.randn(2, 1, 16, 16), block_size=4)
    assert [(len(block.layers), block.layers[0].activation.op) for block in plan.blocks] == [(4, "Relu")]
    assert {node.op for node in plan.nodes if node.unit == "digital"} <= {"Flatten", "Reshape"}


# --- other forms of a model --------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_an_exported_program_follows_the_mode_of_the_net(training: bool) -> None:
    torch.manual_seed(0)
    model, x = ResNet().double().train(training), normal(4, 3, 8, 8)
    program: ExportedProgram = export(model, (x,))
    plan = ffebm.compile(program, hardware="ideal")
    assert same_as_torch(plan, model, (x,), ffebm.Implicit()) >= 0.999999


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch warns of itself when it decomposes
@pytest.mark.parametrize("training", [False, True])
def test_a_decomposed_program_computes_the_same(training: bool) -> None:
    torch.manual_seed(0)
    model, x = ResNet().double().train(training), normal(4, 3, 8, 8)
    plan = ffebm.compile(export(model, (x,)).run_decompositions(), hardware="ideal")
    assert same_as_torch(plan, model, (x,), ffebm.Implicit()) >= 0.999999
    assert any(node.op == "Conv" and node.unit == "tile" for node in plan.nodes)


def test_a_traced_module_is_a_module() -> None:
    torch.manual_seed(0)
    model, x = ConvNet().double(), normal(2, 1, 16, 16)
    plan = ffebm.compile(fx.symbolic_trace(model), x, hardware="ideal")
    assert same_as_torch(plan, model, (x,), ffebm.Implicit()) >= 0.999999


# --- what is refused ---------------------------------------------------------------------------------


def test_examples_are_needed() -> None:
    with pytest.raises(UsageError, match="ConvNet: example inputs are missing"):
        ffebm.compile(ConvNet())


def test_an_onnx_file_takes_no_examples() -> None:
    with pytest.raises(UsageError, match=r"example inputs of type str for an ONNX model[\s\S]*hardware="):
        ffebm.compile("model.onnx", "ideal")


def test_something_else_is_no_model() -> None:
    with pytest.raises(UsageError, match="a model of type int"):
        ffebm.compile(3)


class Undecided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if float(x.sum()) > 0 else x


def test_python_that_branches_on_values_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Undecided: torch\.export refuses it"):
        ffebm.compile(Undecided(), torch.randn(2, 3))


def test_numbers_that_no_array_holds_are_refused() -> None:
    model = ConvNet()
    model.register_buffer("narrow", torch.zeros(2).to(torch.float8_e5m2))
    model.forward = lambda x: x + model.narrow.float().sum()  # type: ignore[method-assign, operator]
    with pytest.raises(ModelError, match=r"'narrow' is torch.float8_e5m2; bfloat16, and element types that"):
        ffebm.compile(model, torch.randn(2, 1, 16, 16))
