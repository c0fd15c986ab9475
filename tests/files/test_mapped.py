"""Arrays that map a file."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffebm.files.mapped import let_go, mapped


def resident(path: Path) -> int:
    """Bytes of a file that this process has in memory, as Linux counts them."""
    held, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.partition(" ")[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            held += 1024 * int(line.split()[1])
    return held


@given(start=st.integers(0, 9000), size=st.integers(1, 9000))
@settings(max_examples=30)
def test_it_holds_what_the_file_holds(
    tmp_path_factory: pytest.TempPathFactory, start: int, size: int
) -> None:
    content = np.random.default_rng(0).integers(0, 256, 18_000, np.uint8).tobytes()
    path = tmp_path_factory.getbasetemp() / "content"
    path.write_bytes(content)
    assert mapped(path, start, size).tobytes() == content[start : start + size]


def test_what_is_let_go_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    numbers = np.arange(1 << 18, dtype=np.float32)
    path.write_bytes(b"odd" + numbers.tobytes())
    view = mapped(path, 3, numbers.nbytes).view(np.float32).reshape(512, 512).T
    assert view.sum() == numbers.sum()
    if Path("/proc/self/smaps").exists():
        assert resident(path) >= numbers.nbytes
        let_go(view)
        assert resident(path) == 0
    let_go(view)
    assert view[1, 0] == 1
    let_go(numbers)  # of no file: stays
    assert numbers[5] == 5


def test_a_file_that_is_too_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"abc")
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        mapped(path, 0, 4)
