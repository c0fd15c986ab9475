"""A hardware description: the reference machine with tiles of 4 x 4.

A package may as well offer the path of a TOML file, `SMALL = Path(__file__).with_name("small.toml")`.
"""

from msgspec.structs import replace

from ffebm.hardware.description import Hardware, load_hardware

_REFERENCE = load_hardware("reference")
_TILE = replace(_REFERENCE.analog[0].tile.crossbar(), rows=4, cols=4)

SMALL: Hardware = replace(
    _REFERENCE,
    name="small",
    description="The reference machine with tiles of 4 x 4.",
    analog=(replace(_REFERENCE.analog[0], tile=_TILE),),
)
