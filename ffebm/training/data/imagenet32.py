"""ImageNet32: 1.28 million colour images of 32x32 in ten .npz files, and 50,000 to validate.

Each holds `data`, [images, 3072] bytes, channel by channel, and `labels` from 1 to 1000. The version for
Python is pickled; reading a pickle runs code, so it is refused.

Source: Chrabaszcz, Loshchilov & Hutter 2017 (arXiv 1707.08819).
"""

from pathlib import Path

import numpy as np

from ffebm.errors import Location, UsageError
from ffebm.graph.tensor import Array
from ffebm.training.data.npz import read_npz
from ffebm.training.data.samples import Data, tensors

N_BATCHES, N_CLASSES = 10, 1000
IMAGE = (3, 32, 32)


def imagenet32(folder: Path | None = None) -> Data:
    """ImageNet32 from a folder of .npz files; the published validation set is the test set.

    Raises:
        UsageError: If files are missing or damaged.
    """
    if folder is None:
        raise UsageError(
            "imagenet32 is not on this machine by itself",
            hint="unpack the .npz version of its training and validation data into one folder and name it "
            "with --data-folder",
        )
    first = folder / "train_data_batch_1"
    if first.is_file() and not first.with_name("train_data_batch_1.npz").is_file():
        raise UsageError(
            f"{first.name} is a pickle, which is not read: it can run any code",
            allowed="the .npz version of imagenet32",
            hint="unpack Imagenet32_train_npz.zip and Imagenet32_val_npz.zip and name their folder",
            location=Location(str(folder)),
        )
    parts = [_batch(folder / f"train_data_batch_{n}.npz") for n in range(1, N_BATCHES + 1)]
    train = (np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts]))
    return tensors("imagenet32", train, _batch(folder / "val_data.npz"))


def _batch(path: Path) -> tuple[Array, Array]:
    """Images and class numbers of a file."""
    where = Location(str(path))
    held = read_npz(path, ("data", "labels"), "an .npz file with arrays data and labels")
    if not {"data", "labels"} <= held.keys():
        raise UsageError("it lacks data or labels", allowed="arrays data and labels", location=where)
    data, labels = held["data"], held["labels"]
    n = len(labels) if labels.ndim == 1 else -1
    if data.dtype != np.uint8 or data.shape != (n, 3 * 32 * 32) or labels.dtype.kind not in "iu" or n < 1:
        raise UsageError(
            f"data is {data.dtype}{list(data.shape)}, labels is {labels.dtype}{list(labels.shape)}",
            allowed="data uint8[images, 3072], labels one whole number an image",
            location=where,
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 1 or high > N_CLASSES:
        raise UsageError(
            f"labels run from {low} to {high}", allowed=f"class numbers from 1 to {N_CLASSES}", location=where
        )
    return data.reshape(-1, *IMAGE), labels.astype(np.int64) - 1
