"""The pictures of the documentation."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_picture_is_there_and_small_and_shown() -> None:
    shown = re.findall(r"!\[[^\]]*\]\((gallery/[^)]+)\)", (ROOT / "docs/report.md").read_text("utf-8"))
    there = sorted(f"gallery/{path.name}" for path in (ROOT / "docs/gallery").iterdir())
    assert sorted(shown) == there
    assert all((ROOT / "docs" / name).stat().st_size < 300_000 for name in there)
