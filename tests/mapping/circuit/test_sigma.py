"""Activations in numbers are those of the runtime."""

import numpy as np
import pytest
import torch

from ffebm.graph.energy_block import Activation
from ffebm.mapping.circuit.sigma import SIGMAS, sigma
from ffebm.runtime.blocks.physics.activation import FORMS, activate

ACTIVATIONS = [
    Activation("Clip", 0.7, low=-0.5, high=1.0),
    Activation("Clip", 2.0, low=0.0),
    Activation("Clip", 2.0, high=0.3),
    Activation("HardSigmoid", 1.5, alpha=0.2, beta=0.4),
    Activation("LeakyRelu", 1.0, alpha=0.1),
    Activation("Elu", 1.3, alpha=0.8),
    Activation("Celu", 1.0, alpha=0.5),
    Activation("Selu", 1.0, alpha=1.6, beta=1.05),
    *(Activation(op, 0.9) for op in ("Identity", "Relu", "Sigmoid", "Tanh", "Softplus", "Softsign")),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: f"{a.op} {a.low} {a.high}")
def test_states_are_those_of_the_runtime(activation: Activation) -> None:
    u = np.linspace(-4, 4, 33)
    expected = activate(activation, torch.from_numpy(activation.scale * u)).numpy()
    np.testing.assert_allclose(sigma(activation, u), expected, atol=1e-12)


def test_every_activation_of_the_runtime_is_there() -> None:
    assert {a.op for a in ACTIVATIONS} == set(FORMS) == set(SIGMAS)
