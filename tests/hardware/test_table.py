"""What is shown of a machine."""

from xml.etree import ElementTree

from msgspec.structs import replace

from ffebm.hardware.description import load_hardware


def test_a_machine_in_one_line() -> None:
    assert repr(load_hardware("reference")) == (
        "<Hardware reference: 64 crossbar tiles of 256 x 256, clocked; 1 digital unit; "
        "45 constants, 30 of them assumptions>"
    )
    assert repr(load_hardware("ideal")) == (
        "<Hardware ideal: 1 exact tile, clocked; 1 digital unit; 21 constants, 21 of them assumptions>"
    )


def test_a_notebook_shows_every_constant_with_its_source() -> None:
    machine = load_hardware("resistive")
    root = ElementTree.fromstring(machine._repr_html_())
    head, *rows = ([cell.text for cell in row] for row in root.iter("tr"))
    assert head == ["constant", "value", "source"]
    constants = list(machine.quantities())
    assert [row[0] for row in rows] == [name for name, _ in constants]
    assert [row[2] for row in rows] == [quantity.source for _, quantity in constants]
    marked = [str(row[1]).endswith("†") for row in rows]
    assert marked == [quantity.assumption for _, quantity in constants]
    values = dict(zip((row[0] for row in rows), (row[1] for row in rows), strict=True))
    assert (
        values["analog.tiles.tile.cell.g_max"] == f"{machine.analog[0].tile.crossbar().cell.g_max.value:g} S"
    )


def test_text_of_a_description_does_no_harm() -> None:
    machine = load_hardware("ideal")
    tile = machine.analog[0].tile
    time = replace(tile.read_time, source="<script>alert(1)</script>")
    tiles = replace(machine.analog[0], tile=replace(tile, read_time=time))
    wicked = replace(machine, name="<b>\x1b[31m", description="<img src=x>", analog=(tiles,))
    root = ElementTree.fromstring(wicked._repr_html_())
    tags = {element.tag for element in root.iter()}
    assert tags == {"div", "table", "thead", "tbody", "tr", "th", "td"}
    assert str(root.text).startswith("<b>␛[31m: 1 exact tile")
    assert "<script>alert(1)</script>" in [cell.text for cell in root.iter("td")]
    assert "\x1b" not in repr(wicked)
