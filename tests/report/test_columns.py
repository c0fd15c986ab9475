"""Tables of a page as columns: nothing is lost on the way, in Python and in a browser."""

from importlib import resources

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings
from playwright.sync_api import Browser

from ffebm.report.columns import Plain, packed, unpacked

NAMES = st.sampled_from(
    ["a", "b", "@of", "@columns", "@@at", "@rows", "@lengths", "__proto__", "constructor"]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.integers(-(1 << 51), 1 << 51),  # a browser counts to 1 << 53
    st.floats(-1, 1),
    st.sampled_from(["", "a long text that is there twice or more"]),
)


def tables(values: st.SearchStrategy[Plain]) -> st.SearchStrategy[Plain]:
    """Objects, lists, and lists of objects with the same fields."""
    rows = st.lists(NAMES, max_size=3, unique=True).flatmap(
        lambda names: st.lists(st.fixed_dictionaries(dict.fromkeys(names, values)), max_size=9)
    )
    return st.one_of(
        st.lists(values, max_size=9),
        st.lists(st.integers(0, 2), max_size=40),
        st.dictionaries(NAMES, values, max_size=3),
        rows,
    )


ANYTHING = st.recursive(LEAVES, tables, max_leaves=20)


@given(ANYTHING)
def test_what_is_packed_comes_back(part: Plain) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(packed(part)))
    assert msgspec.json.encode(unpacked(sent)) == msgspec.json.encode(part)


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        ([{"a": n, "b": "same text" * 3} for n in range(4)], ["@columns", "@of"]),
        ([{"a": n} for n in range(3)], []),
        ([[{"a": 1}], [], [{"a": 2}, {"a": 3}], [{"a": 4}]], ["@lengths", "@columns"]),
        (["long enough"] * 9, ["@of", "@runs"]),
        ([5, 1, 4, 9, 2], []),
        (list(range(30)), ["@runs"]),
        ([*range(0, 300, 3), *[7] * 99, *range(50, 0, -1)], ["@runs"]),
        ([True] * 9, ["@of", "@runs"]),
        ([1, 2, 3, 4, 0.5], []),
        ({"@of": 1}, ["@@of"]),
    ],
)
def test_what_stands_for_a_list(part: Plain, wanted: list[str]) -> None:
    text = msgspec.json.encode(packed(part)).decode()
    found = [key for key in ("@columns", "@lengths", "@@of", "@of", "@runs") if f'"{key}"' in text]
    assert sorted(found) == sorted(wanted)


def test_rows_of_a_table_take_a_number_each() -> None:
    tiles: Plain = [
        {"id": n, "kind": "crossbar", "pieces": [{"weight": "w" * 40, "row": 0}]} for n in range(1000)
    ]
    text = msgspec.json.encode(packed(tiles))
    assert len(text) < 1000 * len("999,0,1,0,0,") + 200


def test_a_browser_reads_the_same(browser: Browser) -> None:
    script = (resources.files("ffebm.report") / "static" / "columns.js").read_text("utf-8")
    tab = browser.new_page()
    read = f"(text) => {{ {script}\n return JSON.stringify(unpacked(JSON.parse(text))); }}"

    @settings(max_examples=40, deadline=None)
    @given(ANYTHING)
    def check(part: Plain) -> None:
        found = tab.evaluate(read, msgspec.json.encode(packed(part)).decode())
        assert msgspec.json.decode(found) == msgspec.json.decode(msgspec.json.encode(part))

    check()
    tab.close()
