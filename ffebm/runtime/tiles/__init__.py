"""Simulated tiles, and linear maps run on them.

| File | What it knows |
|---|---|
| `tile.py` | what a tile is |
| `ideal.py`, `crossbar.py` | the tiles: exact, analog |
| `sliced.py`, `split.py`, `replicas.py` | several as one: digits of a weight, pieces of a matrix, copies |
| `cells.py`, `wires.py`, `converter.py`, `readout.py`, `noise.py` | what a crossbar is made of |
| `pulses.py`, `trains.py`, `remedies.py` | how cells learn in place |
| `vectors.py` | what a `Linear` puts on the lines of its tile |
| `calibration.py` | what lines carry, for the ranges of their ADCs |
| `window.py` | convolutions as products of a matrix with columns |
| `master.py`, `projection.py` | a `Linear` with its weight on tiles |
| `choice.py` | what a weight lies on instead of the plan's tiles, tiles of one's own included |

Where an effect goes: what a cell holds into `cells.py`, what a line does to its converter into
`converter.py`, what an array adds to a product into `readout.py`.
"""
