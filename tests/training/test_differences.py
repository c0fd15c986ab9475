from msgspec.structs import replace

from ffebm.training.differences import differing
from ffebm.training.settings import Training

ONE = Training(data="digits", lr=0.1)


def test_only_what_differs_is_named() -> None:
    assert differing(ONE, ONE) == ("", "")
    other = replace(ONE, lr=0.2, optimizer="SGD", clip_norm=1.0)
    assert differing(ONE, other) == (
        "optimizer = 'Adam', lr = 0.1, clip_norm = None",
        "optimizer = 'SGD', lr = 0.2, clip_norm = 1.0",
    )
