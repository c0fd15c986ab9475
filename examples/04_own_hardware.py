"""Small crossbars: a hardware description of one's own, and what it changes."""

from importlib import resources
from pathlib import Path

from digits_model import digits_model

import ffebm

text = (resources.files("ffebm") / "hardware/reference.toml").read_text(encoding="utf-8")
text = text.replace('name = "reference"', 'name = "small"').replace("= 256\n", "= 64\n")
path = Path("out/small.toml")
path.parent.mkdir(exist_ok=True)
path.write_text(text, encoding="utf-8")

for hardware in ("reference", path):
    plan = ffebm.compile(digits_model(), hardware=hardware)
    tile, cost = plan.tiles[0], plan.inference.cost
    print(
        f"{plan.hardware.name}: {len(plan.tiles)} tiles of {tile.rows} x {tile.cols}, "
        f"{cost.adc_count} conversions, {cost.energy:.3g} J, {plan.inference.makespan_s:.3g} s"
    )
