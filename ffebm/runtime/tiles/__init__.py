"""Simulated tiles, and linear maps run on them.

| File | What it knows |
|---|---|
| `tile.py` | what a tile is |
| `ideal.py`, `crossbar.py`, `split.py` | the tiles: exact, analog, several of equal kind as one |
| `cells.py`, `converter.py`, `readout.py`, `noise.py` | what a crossbar is made of |
| `window.py` | convolutions as products of a matrix with columns |
| `master.py`, `projection.py` | a `Linear` with its weight on tiles |

Where an effect goes: what a cell holds (variation between devices, stuck cells, drift) into `cells.py`,
what a line does to its converter (offset, gain) into `converter.py`, what an array adds to a product (wire
resistance, a mismatch of the two directions) into `readout.py`; several arrays for a weight (bit slices) are
a tile made of tiles, as `split.py` is.
"""
