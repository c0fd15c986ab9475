"""The page in headless Chromium: it opens, answers, and says what the plan says."""

from collections.abc import Callable

import msgspec
import pytest
from playwright.sync_api import Page

from ffebm.compiler.driver import compile_model
from ffebm.plan.plan import Plan
from ffebm.plan.summary import binary
from ffebm.report.facts.comparison import comparison
from ffebm.report.facts.facts import facts, quantity
from ffebm.report.facts.timeline import layer_bands
from ffebm.report.page import comparison_page
from tests.models import Builder
from tests.report.digits import digits_model
from tests.scheduling.lagging import four_copies_in_a_core

Open = Callable[..., Page]
HOSTILE = [
    "</script><script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title='taken'\">",
    "'\"&<>`${alert(1)}",
    "😀 émoji\u202e \u2028",
    "x" * 300,
]


def shown(tab: Page) -> list[str]:
    return tab.eval_on_selector_all("#graph .item", "all => all.map(g => g.dataset.ref)")  # type: ignore[no-any-return]


def labels(tab: Page) -> list[str]:
    return tab.eval_on_selector_all("#graph .item", "all => all.map(g => g.ariaLabel)")  # type: ignore[no-any-return]


@pytest.mark.parametrize("dark", [False, True])
def test_every_view_opens_without_a_message_or_a_request(digits: Plan, show: Open, dark: bool) -> None:
    tab = show(digits, dark=dark)
    for view in ("tiles", "timeline", "memory", "bill", "nodes", "machine", "graph"):
        tab.click(f"#{view}-tab")
        assert tab.is_visible(f"#{view}-view")
        assert tab.eval_on_selector_all("main > section:not([hidden])", "all => all.length") == 1
        width = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width == [1366, 1366]


def test_a_small_model_opens_unfolded(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.click("#fit")
    found = {ref for ref in shown(tab) if ref.startswith("n")}
    assert found == {f"n{index}" for index in range(14)}


def test_a_click_shows_what_a_block_could_have_been(digits: Plan, show: Open) -> None:
    """Each option with its price, the taken one marked; of a node as of its block's frame."""
    assert digits.mapping is not None
    tab = show(digits)
    tab.click("#fit")
    some = digits.mapping.blocks[0]
    node = next(n for n, one in enumerate(digits.nodes) if one.name in some.nodes)
    block = f"block{digits.nodes[node].block}"
    frame = next(f"f{one.id}" for one in facts(digits).frames if one.name == block)
    for ref in (f"n{node}", frame):
        tab.dispatch_event(f"#graph .item[data-ref={ref}]", "click")
        tab.wait_for_selector("#detail .choices")
        assert tab.locator("#detail .choices tbody tr").count() == len(some.options)
        assert tab.locator("#detail .choices tr.taken").count() == 1
        taken = tab.inner_text("#detail .choices tr.taken")
        assert taken.startswith("▸ tiles: ")
        assert "1 ×" in taken
    digital = next(n for n, one in enumerate(digits.nodes) if one.unit == "digital")
    tab.dispatch_event(f"#graph .item[data-ref=n{digital}]", "click")
    tab.wait_for_selector("#detail .choices", state="detached")


def test_frames_fold_and_unfold(deep: Plan, show: Open) -> None:
    tab = show(deep)
    tab.click("#fold")
    tab.click("#fit")
    tree = facts(deep).frames
    inner = tree[0].frames[0]
    assert f"f{inner}" in shown(tab)
    before = set(shown(tab))
    frame = f'[data-ref="f{inner}"]'
    assert tab.get_attribute(frame, "aria-expanded") == "false"
    tab.click(frame, position={"x": 30, "y": 12})
    assert tab.get_attribute(frame, "aria-expanded") == "true"
    inside = {f"f{f}" for f in tree[inner].frames} | {f"n{n}" for n in tree[inner].nodes}
    assert set(shown(tab)) - before <= inside
    assert set(shown(tab)) - before
    tab.click(frame, position={"x": 30, "y": 8})
    assert tab.get_attribute(frame, "aria-expanded") == "false"
    tab.click("#fit")
    assert set(shown(tab)) == before


def test_a_click_opens_the_node(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.click('[data-ref="n2"]')
    node = digits.nodes[2]
    text = tab.inner_text("#detail")
    for part in (node.name, node.op, node.reason, node.location, "segment0", "N×32×4×4"):
        assert part in text
    seconds, joules = facts(digits).nodes[2].inference or (0, 0)
    assert f"{seconds * 1e9:.4g} ns" in text
    assert f"{joules * 1e9:.4g} nJ" in text
    tab.keyboard.press("Escape")
    assert "What kept work off the tiles" in tab.inner_text("#detail")


def test_search_reveals_a_folded_node(deep: Plan, show: Open) -> None:
    tab = show(deep)
    tab.click("#fold")
    name = deep.nodes[-1].name
    assert f"n{len(deep.nodes) - 1}" not in shown(tab)
    tab.fill("#search", name)
    tab.press("#search", "Enter")
    assert tab.get_attribute(f'[data-ref="n{len(deep.nodes) - 1}"]', "class") == "item digital hit selected"
    assert tab.inner_text("#detail h2") == name
    assert tab.inner_text("#found") == "1 of 1"


def test_zoom_by_buttons_wheel_and_keys(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.click("#zoom-in")
    assert tab.inner_text("#zoom-level") == "125 %"
    tab.click("#zoom-out")
    assert tab.inner_text("#zoom-level") == "100 %"
    tab.hover("#graph")
    tab.mouse.wheel(0, -60)
    tab.wait_for_function("document.getElementById('zoom-level').textContent === '122 %'")
    tab.focus("#graph")
    tab.keyboard.press("-")
    assert tab.inner_text("#zoom-level") == "98 %"


def test_the_graph_works_by_keyboard(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.focus("#graph")
    for _ in range(3):
        tab.keyboard.press("ArrowDown")
    first = tab.evaluate("document.activeElement.dataset.ref")
    assert first == "n0"
    assert tab.inner_text("#detail h2") == "conv1"
    tab.keyboard.press("ArrowUp")
    assert tab.evaluate("document.activeElement.dataset.ref") == "f1"
    tab.keyboard.press("Enter")
    assert tab.get_attribute('[data-ref="f1"]', "aria-expanded") == "false"


def test_tabs_work_by_keyboard(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.focus("#graph-tab")
    tab.keyboard.press("ArrowRight")
    assert tab.get_attribute("#tiles-tab", "aria-selected") == "true"
    assert tab.is_visible("#tiles-view")


def test_tiles_show_pieces_and_conductances(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.click("#tiles-tab")
    assert tab.eval_on_selector_all("#tile-grid button", "all => all.length") == len(digits.tiles)
    tile = digits.tiles[1]
    tab.click(f'#tile-grid [data-tile="{tile.id}"]')
    text = tab.inner_text("#tile-facts")
    assert f"{tile.used:,} pairs used" in text
    assert all(piece.weight in text for piece in tile.pieces)
    plain = tab.evaluate("document.getElementById('tile-large').toDataURL()")
    tab.check("input[value=map]")
    assert tab.evaluate("document.getElementById('tile-large').toDataURL()") != plain
    assert "downsampled" in tab.inner_text("#tile-facts")


GRID = """() => [...document.querySelectorAll("#tile-grid button")].map((one) => Number(one.dataset.tile))"""


def test_thumbnails_are_there_where_they_are_seen(deep: Plan, show: Open) -> None:
    tab = show(deep)
    tab.set_viewport_size({"width": 700, "height": 420})
    tab.click("#tiles-tab")
    every = [tile.id for tile in deep.tiles]
    first = tab.evaluate(GRID)
    assert first == every[: len(first)]
    assert 0 < len(first) < len(every)
    assert tab.evaluate(
        "() => [...document.querySelectorAll('#tile-grid canvas')].every((one) => one.width !== 300)"
    )
    high = tab.eval_on_selector("#tile-grid", "grid => grid.scrollHeight")
    tab.eval_on_selector("#tile-grid", "grid => grid.scrollTo(0, grid.scrollHeight)")
    tab.wait_for_selector(f'#tile-grid [data-tile="{every[-1]}"]')
    last = tab.evaluate(GRID)
    assert last == every[-len(last) :]
    assert tab.eval_on_selector("#tile-grid", "grid => grid.scrollHeight") == high
    end = tab.locator(f'#tile-grid [data-tile="{every[-1]}"]').bounding_box()
    room = tab.locator("#tile-grid").bounding_box()
    assert end is not None
    assert room is not None
    assert end["y"] + end["height"] <= room["y"] + room["height"]
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate(GRID) == every


def test_the_keyboard_walks_through_all_tiles(deep: Plan, show: Open) -> None:
    tab = show(deep)
    tab.set_viewport_size({"width": 700, "height": 420})
    tab.click("#tiles-tab")
    tab.focus("#tile-grid button")
    walked = []
    for _ in deep.tiles:
        walked.append(tab.evaluate("Number(document.activeElement.dataset.tile)"))
        tab.keyboard.press("Tab")
        tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert walked == [tile.id for tile in deep.tiles]


def test_a_node_opens_a_tile_far_down(deep: Plan, show: Open) -> None:
    tab = show(deep)
    tile = deep.tiles[-1].id
    holder = next(one for one in facts(deep).nodes if tile in one.tiles)
    tab.fill("#search", holder.name)
    tab.press("#search", "Enter")
    tab.get_by_role("button", name=f"tile {tile}", exact=True).click()
    assert tab.evaluate("document.activeElement.dataset.tile") == str(tile)
    assert tab.inner_text("#tile-facts h2") == f"tile {tile}"
    assert tab.get_attribute(f'#tile-grid [data-tile="{tile}"]', "aria-pressed") == "true"


def test_a_view_fits_a_window_that_changed_behind_it(deep: Plan, show: Open) -> None:
    tab = show(deep)
    for view in ("tiles", "timeline", "nodes"):
        tab.click(f"#{view}-tab")
    tab.set_viewport_size({"width": 800, "height": 420})
    for view, inner, outer in (
        ("timeline", "#timeline", "#lanes"),
        ("tiles", "#tile-grid > div", "#tile-grid"),
    ):
        tab.click(f"#{view}-tab")
        width = "document.querySelector('{}').clientWidth"
        assert tab.evaluate(width.format(inner)) <= tab.evaluate(width.format(outer))
    columns = tab.eval_on_selector(
        "#tile-grid > div", "one => getComputedStyle(one).gridTemplateColumns.split(' ')"
    )
    assert all(float(one.removesuffix("px")) >= 100 for one in columns)


def test_the_tiles_of_a_node_are_ranges(show: Open) -> None:
    b = Builder()
    x = b.node("MatMul", b.input("x", "N", 1100), b.weight(1100, 16))
    plan = compile_model(b.model(b.node("MatMul", b.node("Softmax", x), b.weight(16, 4))), replicas=1)
    tab = show(plan)
    tab.click("#nodes-tab")
    titles = tab.eval_on_selector_all(
        "#node-rows tbody tr[aria-rowindex]", "all => all.map(one => one.children[8].title)"
    )
    long, one = (one.tiles for one in facts(plan).nodes if one.tiles)
    assert len(long) > 2
    assert list(long) == list(range(long[0], long[-1] + 1))
    assert [title for title in titles if title] == [f"{long[0]}\u2013{long[-1]}", f"{one[0]}"]


def test_tables_keep_their_room_in_a_low_window(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.set_viewport_size({"width": 1366, "height": 560})
    for view, rows in (("bill", "#bill-rows"), ("nodes", "#node-rows")):
        tab.click(f"#{view}-tab")
        tab.eval_on_selector(f"#{view}-view", "view => view.scrollTo(0, view.scrollHeight)")
        inside = tab.locator(rows).bounding_box()
        assert inside is not None
        assert inside["height"] >= 200
        assert inside["y"] + inside["height"] <= 560


@pytest.mark.parametrize("schedule", ["inference", "training"])
def test_no_cost_is_cut_before_its_unit(digits: Plan, show: Open, schedule: str) -> None:
    tab = show(digits)
    tab.click("#bill-tab")
    tab.select_option("#bill-view select.schedule", schedule)
    cut = "all => all.filter(cell => cell.scrollWidth > cell.clientWidth).map(cell => cell.innerText)"
    assert tab.eval_on_selector_all("#bill-rows tbody td", cut) == []
    widest = """all => all.forEach(cell => cell.querySelectorAll('.assumed-mark')
        .forEach(mark => { mark.textContent = '888.8 mJ'; }))"""
    tab.eval_on_selector_all("#bill-rows tbody td", widest)
    assert tab.eval_on_selector_all("#bill-rows tbody td", cut) == []


def test_the_schedule_switches_everywhere(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.click("#timeline-tab")
    assert f"{len(digits.inference.steps):,} steps" in tab.inner_text("#timeline-facts")
    assert "nudged phase" not in tab.inner_text("#kind-legend")
    tab.select_option("#timeline-view select", "training")
    assert f"{len(digits.training.steps):,} steps" in tab.inner_text("#timeline-facts")
    assert "nudged phase" in tab.inner_text("#kind-legend")
    tab.click("#bill-tab")
    assert tab.input_value("#bill-view select") == "training"
    assert "digital backward" in tab.inner_text("#time-kinds")


def test_a_step_is_chosen_by_mouse_and_keys(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.click("#timeline-tab")
    tab.focus("#timeline")
    tab.keyboard.press("ArrowRight")
    assert "transfer: image" in tab.inner_text("#step")
    tab.keyboard.press("ArrowRight")
    assert "free phase: block0" in tab.inner_text("#step")
    first = next(step for step in digits.inference.steps if step.kind == "free")
    assert first.rows is not None
    assert f"{first.rows[0]} to {first.rows[1] - 1}" in tab.inner_text("#step")
    tab.click("#step .link")
    assert "4 of 1 row, " in tab.inner_text("#detail")
    tab.click("#timeline-tab")
    tab.click("#timeline", position={"x": 700, "y": 24 + 11})
    assert "free phase: block1" in tab.inner_text("#step")
    tab.click("#step .link")
    assert tab.is_visible("#graph-view")
    assert tab.inner_text("#detail h2") == "block1"
    for line in (facts(digits).inference, facts(digits).training):
        (own,) = [layer for layer in layer_bands(line) if layer.name == "block1"]
        assert own.bands == 1
        part = f"limits {100 * own.limits_s / line.makespan_s:.1f} % of the time"
        assert f"none, done at once, {quantity(own.start_s, 's')}" in tab.inner_text("#detail")
        assert part in tab.inner_text("#detail")


def test_memory_over_time(digits: Plan, show: Open) -> None:
    """Peak, bound and capacity as in the plan; a buffer says what it holds, by mouse and by keys."""
    tab = show(digits)
    tab.click("#memory-tab")
    (use,) = digits.memory.inference.uses
    cells = tab.eval_on_selector_all("#memory-uses td", "all => all.map(td => td.textContent)")
    ratio = f"{use.peak / use.bound:.3f}"
    assert cells == [use.memory, binary(use.peak), binary(use.bound), binary(use.capacity), ratio]
    tab.focus("#memory")
    tab.keyboard.press("ArrowRight")
    first = digits.memory.inference.buffers[0]
    assert tab.inner_text("#memory-buffer").startswith(f"value {first.name}: {binary(first.size)} at byte ")
    box = tab.locator("#memory").bounding_box()
    assert box is not None
    told = set()
    for part in range(1, 10):  # along the lowest sixth, which holds 1 KiB of 6
        tab.hover("#memory", position={"x": part * box["width"] / 10, "y": 0.85 * box["height"]})
        told.add(tab.inner_text("#memory-buffer").split()[0])
    assert "value" in told
    tab.select_option("#memory-view select.schedule", "training")
    assert tab.inner_text("#memory-buffer") == "Point at a buffer, or walk with the arrow keys."
    contents = {buffer.content for buffer in digits.memory.training.buffers}
    assert tab.eval_on_selector_all("#memory-legend span", "all => all.length") == len(contents) == 5


def test_nodes_sort_and_filter(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.click("#nodes-tab")

    def names() -> list[str]:
        found: list[str] = tab.eval_on_selector_all(
            "#node-rows tbody tr[aria-rowindex]", "all => all.map(tr => tr.children[1].textContent)"
        )
        return found

    assert names() == [node.name for node in digits.nodes]
    tab.click("#node-rows th:nth-child(7) button")
    tab.click("#node-rows th:nth-child(7) button")
    ranked = sorted(digits.nodes, key=lambda node: -node.macs)
    assert names()[:4] == [node.name for node in ranked[:4]]
    assert tab.get_attribute("#node-rows th:nth-child(7)", "aria-sort") == "descending"
    tab.select_option("#filter-unit", "digital")
    assert sorted(names()) == sorted(node.name for node in digits.nodes if node.unit == "digital")
    tab.fill("#filter", "random")
    assert names() == ["dropout"]
    assert tab.inner_text("#filtered") == "1 of 14 nodes"
    tab.click("#node-rows tbody tr[aria-rowindex]")
    assert tab.inner_text("#detail h2") == "dropout"


def test_figures_say_where_they_come_from(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.hover(".figures dd[data-basis*='tile.read_time']")
    text = tab.inner_text("#tip")
    assert "analog.tiles.tile.read_time = 2.56e-7 s" in text
    assert "rows x 1 ns, rows = 256: Aayush-Ankit/puma-simulator" in text
    assert "assumption:" in text
    tab.click("#bill-tab")
    tab.focus("#energy-kinds [data-basis]")
    assert "analog.tiles.tile.cell.read_energy = 4.687e-15 J" in tab.inner_text("#tip")


def test_dark_mode_repaints(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.click("#timeline-tab")
    shot = "document.getElementById('timeline').toDataURL()"
    ground = "getComputedStyle(document.body).backgroundColor"
    light, page_light = tab.evaluate(shot), tab.evaluate(ground)
    tab.click("#theme")
    assert tab.evaluate(ground) != page_light
    assert tab.evaluate(shot) != light
    tab.click("#theme")
    assert tab.evaluate(shot) == light


def test_hostile_names_do_no_harm(show: Open) -> None:
    b = Builder()
    x = b.input(HOSTILE[0], "N", 4)
    for name in HOSTILE[1:]:
        x = b.node("Relu", b.node("MatMul", x, b.weight(4, 4)), out=name, name=f"node {name}")
    plan = compile_model(b.model(x))
    source = msgspec.structs.replace(plan.source, name=HOSTILE[0])
    tab = show(msgspec.structs.replace(plan, source=source))
    tab.click("#fit")
    assert tab.title() == f"{HOSTILE[0]} on reference"
    assert tab.eval_on_selector_all("script", "all => all.length") == 3
    assert tab.eval_on_selector_all("img", "all => all.length") == 0
    for index, node in enumerate(plan.nodes):
        tab.fill("#search", node.name[:60])
        tab.press("#search", "Enter")
        tab.eval_on_selector(f'[data-ref="n{index}"]', "g => g.dispatchEvent(new Event('x'))")
    for view in ("tiles", "timeline", "bill", "nodes", "machine"):
        tab.click(f"#{view}-tab")
        assert tab.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [1366, 1366]
    assert any("node " + HOSTILE[4][:50] in label for label in labels(tab))


def test_the_map_stands_beside_the_graph_and_folds_away(digits: Plan, show: Open) -> None:
    tab = show(digits)
    graph, small = tab.locator("#graph-canvas").bounding_box(), tab.locator("#minimap").bounding_box()
    assert graph is not None
    assert small is not None
    assert small["x"] >= graph["x"] + graph["width"]
    assert small["y"] + small["height"] <= 768
    tab.click("#map-fold")
    assert not tab.is_visible("#minimap")
    assert tab.get_attribute("#map-fold", "aria-expanded") == "false"
    tab.click("#map-fold")
    assert tab.is_visible("#minimap")
    before = tab.get_attribute("#graph-world", "transform")
    tab.click("#minimap", position={"x": 5, "y": small["height"] - 5})
    assert tab.get_attribute("#graph-world", "transform") != before
    tab.click("#fit")
    assert not tab.is_visible("#map-box")


def test_everything_is_on_paper(digits: Plan, show: Open) -> None:
    tab = show(digits)
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    for view in ("graph", "tiles", "timeline", "bill", "nodes", "machine"):
        assert tab.is_visible(f"#{view}-view")
    assert tab.eval_on_selector_all("#node-rows tbody tr[aria-rowindex]", "all => all.length") == 14
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    tab.emulate_media(media="screen")
    assert not tab.is_visible("#nodes-view")


def test_two_plans_side_by_side(digits: Plan, deep: Plan, show: Open) -> None:
    nodes = tuple(msgspec.structs.replace(n, unit="digital", block=None, segment=0) for n in digits.nodes[:2])
    other = msgspec.structs.replace(digits, nodes=(*nodes, *digits.nodes[2:]))
    tab = show(comparison_page(comparison(digits, other, ("a.plan", "<b>.plan"))))
    rows = tab.eval_on_selector_all(
        "#moved-rows tbody tr[aria-rowindex]", "all => all.map(tr => tr.innerText.split('\\t'))"
    )
    assert [(row[0], row[2], row[4], row[5]) for row in rows] == [
        ("conv1", "to digital", "block0", "digital"),
        ("pool1", "to digital", "block0", "digital"),
    ]
    assert "nodes on tiles\t11\t9\t0.8182" in tab.inner_text("#lines")
    assert "<b>.plan" in tab.inner_text("header")
    tab.hover("#lines [data-basis*='tile.read_time'][data-plan=b]")
    tip = tab.inner_text("#tip")
    assert "inference: time of B, computed from" in tip
    assert "analog.tiles.tile.read_time = 2.56e-7 s" in tip
    tab.fill("#filter", "pool")
    assert tab.inner_text("#filtered") == "1 node of 2; 12 run where they ran"
    assert tab.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [1366, 1366]


def test_constants_that_differ_show_their_sources(digits: Plan, show: Open) -> None:
    other = compile_model(digits_model(), hardware="resistive", block_size=2)
    tab = show(comparison_page(comparison(digits, other, ("a", "b"))))
    tab.hover("#settings tr:has(th:text-is('analog.tiles.tile.read_time')) [data-plan=a]")
    assert "rows x 1 ns, rows = 256: Aayush-Ankit/puma-simulator" in tab.inner_text("#tip")
    tab.focus("#settings tr:has(th:text-is('analog.tiles.tile.read_time')) [data-plan=b]")
    assert "analog.tiles.tile.read_time of B" in tab.inner_text("#tip")


def test_what_a_block_takes_is_of_one_run_in_flight(show: Open) -> None:
    """Beside what its own work takes digitally; eight bands of 2.2 us each start 1.6 us behind another."""
    plan = four_copies_in_a_core(batch=3)
    frame = next(f"f{one.id}" for one in facts(plan).frames if one.name == "block0")
    joules = sum(s.cost.energy for s in plan.inference.steps if s.kind == "free" and not s.sample)
    tab = show(plan)
    tab.click("#fit")
    tab.dispatch_event(f"#graph .item[data-ref={frame}]", "click")
    assert f"13.4 µs, {quantity(joules, 'J')}" in tab.inner_text("#detail")
