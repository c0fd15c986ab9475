from ffebm.ops import OPS
from ffebm.runtime.kernels import KERNELS


def test_every_op_has_a_kernel_and_every_kernel_an_op() -> None:
    assert set(OPS) == set(KERNELS)
