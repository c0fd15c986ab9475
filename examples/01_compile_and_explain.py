"""Compile the digits CNN at block sizes 1, 2 and 3, and see what becomes of it."""

from digits_model import digits_model

import ffebm

for block_size in (1, 2, 3):
    plan = ffebm.compile(digits_model(), hardware="reference", block_size=block_size)
    print(f"block size {block_size}")
    for block in plan.blocks:
        print(f"  {block.name}: {', '.join(layer.value for layer in block.layers)}")
    for node in plan.nodes:
        if node.unit == "digital":
            print(f"  digital: {node.name} ({node.op}), {node.reason}")

print(plan.summary())
