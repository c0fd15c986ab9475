"""Simulated tiles, and linear maps run on them.

| File | What it knows |
|---|---|
| `tile.py` | what a tile is |
| `ideal.py`, `crossbar.py`, `split.py` | the tiles: exact, analog, several of equal kind as one |
| `cells.py`, `converter.py`, `readout.py`, `noise.py` | what a crossbar is made of |
| `window.py` | convolutions as products of a matrix with columns |
| `master.py`, `projection.py` | a `Linear` with its weight on tiles |
"""
