"""Trained models that other packages carry, with real inputs: rendered text, photographs, files.

Only the packages' model files are read, so that `pip install --no-deps` of them is enough.
"""

import sysconfig
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import sklearn
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_sample_images

Data = NDArray[Any]
LICENSE = Path(__file__).parents[1] / "LICENSE"
INK, PAPER = 20, 255
TEXT_LEVEL = 0.3
"""Probability above which the detector's own package takes a pixel for text."""


@dataclass(frozen=True)
class Packaged:
    """A trained model.

    Attributes:
        package: The package that carries it.
        file: Its file, below the package's folder of models.
        inputs: Makes real inputs for it, [n, ...].
        decide: What its user reads from an output, for each sample.
        decision: What that is, in words.
        dims: Sizes for its open dimensions but the batch, by the input's axis.
    """

    package: str
    file: str
    inputs: Callable[[int], Data]
    decide: Callable[[Data], Data]
    decision: str
    dims: Mapping[str, int] = field(default_factory=dict)

    def path(self) -> Path | None:
        """Where the model lies; None if its package is not installed."""
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations if spec is not None else None
        return Path(folders[0]) / "models" / self.file if folders else None


# --- text --------------------------------------------------------------------------------------------


def _phrases() -> Iterator[str]:
    """The lines of the licence, a few words each."""
    for line in LICENSE.read_text().splitlines():
        words = line.split()
        for start in range(0, len(words) - 2, 3):
            yield " ".join(words[start : start + 3])


def _write(image: Image.Image, place: tuple[int, int], text: str, size: int) -> None:
    ImageDraw.Draw(image).text(place, text, fill=(INK,) * 3, font=ImageFont.load_default(size))


def line_images(count: int, width: int, *, turned: bool = False) -> Data:
    """Lines of text, [count, 3, 48, width] between -1 and 1; every second one upside down if `turned`."""
    lines = []
    for index, phrase in zip(range(count), _phrases(), strict=False):
        image = Image.new("RGB", (width, 48), (PAPER,) * 3)
        _write(image, (6, 6), phrase, 28)
        lines.append(np.asarray(image.rotate(180) if turned and index % 2 else image, np.float32))
    return _channels_first(np.stack(lines) / 127.5 - 1)


def page_images(count: int, size: int = 320) -> Data:
    """Photographs and pages of text in turn, [count, 3, size, size], normalised as ImageNet's."""
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    phrases = _phrases()
    pages = []
    for index in range(count):
        page = Image.new("RGB", (size, size), (PAPER,) * 3)
        if index % 2:
            page = photos[index // 2 % len(photos)].resize((size, size))
        for row in range(16, size - 32, 44 + 4 * (index % 5)):
            _write(page, (12 + 8 * (index % 7), row), next(phrases), 14 + index % 3 * 5)
        pages.append(np.asarray(page, np.float32) / 255)
    scaled = (np.stack(pages) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return _channels_first(scaled)


def _channels_first(images: Data) -> Data:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2).astype(np.float32))


# --- files -------------------------------------------------------------------------------------------


def file_ends(count: int) -> Data:
    """The first and last bytes of files of Python and of packages with data, kinds in turn, [count, 2048]."""
    packages = (Path(str(package.__file__)).parent for package in (np, onnx, sklearn))
    folders = [Path(sysconfig.get_path("stdlib")), *packages]
    kinds: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(f for folder in folders for f in folder.rglob("*")):
        kinds[file.suffix].append(file)
    held = (filter(_is_held, kinds[kind]) for kind in sorted(kinds))  # those that are taken are looked at
    in_turn = chain.from_iterable(zip_longest(*held))
    chosen = [*islice((file for file in in_turn if file is not None), count)]
    return np.stack([_ends(file.read_bytes()) for file in chosen])


def _is_held(file: Path) -> bool:
    """It is a file with contents."""
    return file.is_file() and file.stat().st_size > 0


def _ends(content: bytes, size: int = 1024) -> Data:
    """The first and the last bytes of a file without the blanks around it, filled up with 256."""
    ends = np.full(2 * size, 256, np.int32)
    begin, end = content[: 4 * size].lstrip()[:size], content[-4 * size :].rstrip()[-size:]
    ends[: len(begin)] = list(begin)
    ends[2 * size - len(end) :] = list(end)
    return ends


# --- the models --------------------------------------------------------------------------------------


def _label(output: Data) -> Data:
    """The likeliest label, [n]; in each place of a line, [n, places]."""
    return np.asarray(output.argmax(-1))


def _is_text(output: Data) -> Data:
    """Which pixels are text, [n, height, width]."""
    return np.asarray(output[:, 0] > TEXT_LEVEL)


MODELS: dict[str, Packaged] = {
    "which way up": Packaged(
        "rapidocr_onnxruntime",
        "ch_ppocr_mobile_v2.0_cls_infer.onnx",
        lambda count: line_images(count, 192, turned=True),
        _label,
        "lines with the same label",
        {"x_2": 48, "x_3": 192},
    ),
    "where text is": Packaged(
        "rapidocr_onnxruntime",
        "ch_PP-OCRv4_det_infer.onnx",
        page_images,
        _is_text,
        "pixels taken for text by both, of those by either",
        {"x_2": 320, "x_3": 320},
    ),
    "what text says": Packaged(
        "rapidocr_onnxruntime",
        "ch_PP-OCRv4_rec_infer.onnx",
        lambda count: line_images(count, 320),
        _label,
        "places in a line with the same character",
        {"x_2": 48, "x_3": 320},
    ),
    "kinds of files": Packaged(
        "magika", "standard_v3_3/model.onnx", file_ends, _label, "files with the same label"
    ),
}
"""The three models of rapidocr-onnxruntime, and magika's."""


def agreement(found: Data, expected: Data) -> float:
    """Share of decisions that are the same; of yes or no, the share of yes that both say."""
    if expected.dtype == bool:
        return float((found & expected).sum() / max(1, (found | expected).sum()))
    return float((found == expected).mean())
