"""How accuracy and gradients depend on the tiles, and which part of a plan to keep off them.

`units` says what is varied on its own, `effects` how a tile is made better or worse, `meter` measures,
`superposition` predicts sets of units from each alone, `search` looks for partitions, `study` does it all and
keeps a `record`, `picture` draws it.
"""
