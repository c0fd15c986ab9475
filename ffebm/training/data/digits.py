"""The digits that come with scikit-learn: 1,797 images of 8x8."""

import numpy as np

from ffebm.errors import UsageError
from ffebm.training.data.samples import Data, held_out


def digits() -> Data:
    """The digits, in 0 to 1; a fifth of them held out.

    Raises:
        UsageError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UsageError(
            "the digits come with scikit-learn, which is not installed", hint="pip install ffebm[digits]"
        ) from None
    bunch = load_digits()
    x = (bunch.data.reshape(-1, 1, 8, 8) / 16.0).astype(np.float32)
    return held_out("digits", x, bunch.target.astype(np.int64))
