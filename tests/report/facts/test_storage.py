"""Storage is what the plan says of buffers, column by column."""

from msgspec.structs import replace

from ffebm.compiler.driver import compile_model
from ffebm.hardware.description import Capacity, load_hardware
from ffebm.report.facts.storage import storage
from tests.report.digits import digits_model


def test_columns_are_those_of_the_plan() -> None:
    machine = load_hardware("reference")
    sram, dram = machine.memory
    small = replace(sram, capacity=Capacity(value=8 * 20_000, source="chosen for a test", unit="bit"))
    plan = compile_model(digits_model(), hardware=replace(machine, memory=(small, dram)), block_size=2)
    memory = plan.memory.training
    found = storage(memory)
    assert [name for name, _ in found.homes] == [use.memory for use in memory.uses] == ["sram", "dram"]
    for n, buffer in enumerate(memory.buffers):
        assert found.homes[found.home[n]] == (buffer.memory, buffer.unit)
        assert (found.contents[found.content[n]], found.names[found.name[n]]) == (buffer.content, buffer.name)
        assert (found.offset[n], found.size[n]) == (buffer.offset, buffer.size)
        assert (found.first[n], found.last[n]) == (buffer.first, buffer.last)
    (way,) = found.spills
    assert (way.wanted, way.memory, way.count) == ("sram", "dram", len(memory.spills))
    assert way.traffic == sum(spill.traffic for spill in memory.spills)
    assert way.joules == sum(spill.joules for spill in memory.spills)
