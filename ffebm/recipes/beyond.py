"""Experiments beyond the paper: networks that are no chains, ready to compile and train."""

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from onnx import ModelProto

from ffebm.compiler.driver import compile_model
from ffebm.compiler.options import checked_feedback
from ffebm.errors import UsageError
from ffebm.plan.plan import Plan
from ffebm.plan.schema import Settle
from ffebm.recipes import residual, transformer
from ffebm.recipes.residual import Residual
from ffebm.recipes.transformer import Transformer
from ffebm.training.data.python_manual import manual
from ffebm.training.settings import Training


@dataclass(frozen=True)
class Beyond:
    """One experiment.

    Attributes:
        title: What it is, in a line.
        build: The network as ONNX, with initial weights that follow from a seed.
        block_size: Free layers of its energy blocks.
        digital: What stays digital beside them, by name.
        trainable: Constants that train beside those that are known to.
        settle: How its blocks settle.
        training: How it is trained.
        weaker: The same experiment with another strength of feedback inside its blocks; None where there is
            none to choose.
    """

    title: str
    build: Callable[[int], ModelProto]
    block_size: int | tuple[int, ...]
    digital: tuple[str, ...]
    trainable: tuple[str, ...]
    settle: Settle
    training: Training
    weaker: "Callable[[float], Beyond] | None" = None

    def with_feedback(self, feedback: float) -> "Beyond":
        """The same experiment whose layers feel those above with so much of the strength both ways.

        Raises:
            UsageError: If the strength is out of range, or there is none to choose.
        """
        if self.weaker is None:
            raise UsageError(
                f"no feedback to choose: {self.title}", allowed="recipes whose networks have one"
            )
        checked_feedback(feedback)
        return self.weaker(feedback)

    def plan(self, seed: int, hardware: str = "ideal") -> Plan:
        """The network compiled, with its initial weights.

        Args:
            seed: Of the weights.
            hardware: Shipped name or path of a description.
        """
        return compile_model(
            self.build(seed),
            hardware=hardware,
            block_size=self.block_size,
            digital=self.digital,
            trainable=self.trainable,
            settle=self.settle,
        )

    def settings(self, seed: int) -> Training:
        """How it is trained, with a seed of order and noise."""
        return msgspec.structs.replace(self.training, seed=seed)


def _transformer(seed: int) -> ModelProto:
    return Transformer().model(len(manual().alphabet), seed)


WEAKER = 0.05
"""Feedback of the residual network. Where couplings are felt with a norm of at most 0.5, its maps may have
norms of up to 0.5 / sqrt(0.05) = 2.2; by backpropagation they grow to between 1.3 and 3.9. With a fifth of
the training samples held out, mean of three seeds: 95.95 %; 95.49 with 0.1 and a norm of 0.7; 95.83 by
backpropagation."""


def _residual(feedback: float) -> Beyond:
    """The last layers feel a nudge as much weaker as their slope is, so that it is as much stronger."""
    network = Residual(feedback=feedback)
    return Beyond(
        "residual network on digits, energy blocks of 2 and 3 layers with skips inside and across",
        lambda seed: network.model(10, seed),
        block_size=residual.BLOCK_SIZES,
        digital=network.digital,
        trainable=(),
        settle=Settle(free_sweeps=8, nudged_sweeps=4),
        training=Training(
            data="digits",
            epochs=20,
            batch=64,
            optimizer="Adam",
            lr=4e-3,
            schedule="cosine",
            schedule_by="steps",
            warmup=20,
            beta=0.5 / feedback,
            hold_norm=0.5,
        ),
        weaker=_residual,
    )


BEYOND: dict[str, Beyond] = {
    "transformer": Beyond(
        "transformer over characters, 2 feedforward parts as energy blocks of 2 layers, digital attention",
        _transformer,
        block_size=2,
        digital=(*transformer.ATTENTION, *transformer.SKIPS),
        trainable=transformer.TRAINABLE,
        settle=Settle(free_sweeps=8, nudged_sweeps=4),
        training=Training(
            data="python-manual",
            epochs=4,
            batch=16,
            optimizer="Adam",
            lr=3e-3,
            schedule="cosine",
            schedule_by="steps",
            warmup=20,
            beta=6.4,
            hold_norm=0.8,
        ),
    ),
    "residual": _residual(WEAKER),
}
