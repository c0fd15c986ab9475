"""Random-weight models of `transformers` in tiny sizes; `pip install ffebm[models]` brings it."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import ffebm
from tests.torch_models import Example, normal, same_as_torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package warns of itself
    transformers: Any = pytest.importorskip(
        "transformers", reason="transformers is not installed: pip install ffebm[models]"
    )

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def vit() -> tuple[nn.Module, Example]:
    config = transformers.ViTConfig(image_size=16, patch_size=8, num_labels=3, **SIZES, **NO_DROPOUT)
    return transformers.ViTForImageClassification(config), (normal(2, 3, 16, 16),)


def bert() -> tuple[nn.Module, Example]:
    config = transformers.BertConfig(vocab_size=50, max_position_embeddings=20, **SIZES, **NO_DROPOUT)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    inputs = {"input_ids": torch.randint(1, 50, (2, 7)), "attention_mask": mask}
    return transformers.BertForSequenceClassification(config), inputs


def gpt2() -> tuple[nn.Module, Example]:
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    sizes = {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 20}
    tokens = {"bos_token_id": 0, "eos_token_id": 0, "use_cache": False}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **dropout, **tokens))
    return model, {"input_ids": torch.randint(0, 50, (2, 7))}


def resnet() -> tuple[nn.Module, Example]:
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=3, layer_type="basic"
    )
    return transformers.ResNetForImageClassification(config), (normal(3, 3, 32, 32),)


@pytest.mark.parametrize(
    ("make", "on_tiles"), [(vit, 0.9), (bert, 0.9), (gpt2, 0.9), (resnet, 1.0)], ids=lambda p: str(p)[:14]
)
def test_outputs_and_gradients_are_torch_s(
    make: Callable[[], tuple[nn.Module, Example]], on_tiles: float
) -> None:
    torch.manual_seed(0)
    model, example = make()
    model = model.double()
    plan = ffebm.compile(model, dict(example) if isinstance(example, dict) else example, hardware="ideal")
    assert same_as_torch(plan, model, example, ffebm.Implicit()) >= 0.999999
    # so small a nudge that no unit crosses a kink between the two nudged phases
    assert same_as_torch(plan, model, example, ffebm.EP(beta=1e-5)) >= 0.999
    work = sum(node.macs for node in plan.nodes)
    assert sum(node.macs for node in plan.nodes if node.unit == "tile") >= on_tiles * work


def test_results_have_the_names_of_the_model_s_own_class() -> None:
    model, example = bert()
    assert isinstance(example, dict)
    net = ffebm.Executor(ffebm.compile(model, example, hardware="ideal"))
    result, expected = net(**example), model.eval()(**example)
    assert repr(result).startswith("SequenceClassifierOutput(logits=")
    assert list(result) == list(expected)
    assert result[0] is result["logits"] is result.logits
    torch.testing.assert_close(result.logits, expected.logits, rtol=1e-5, atol=1e-5)
