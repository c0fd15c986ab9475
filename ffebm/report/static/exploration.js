/* Points of an exploration: two figures, parallel coordinates, importance, table; a click shows a point. */

const study = embeddedFacts();
const kinds = new Map(study.figures.map((kind) => [kind.name, kind]));
const known = (point, name) => point.figures[name] !== null && point.figures[name] !== undefined;
const allNames = study.figures.map((kind) => kind.name), knownNames = allNames.filter((name) => study.points.some((point) => known(point, name)));
const figureNames = knownNames.length ? knownNames : allNames;
const unitOf = (name) => (["s", "J"].includes(kinds.get(name).unit) ? kinds.get(name).unit : "");
function figureText(name, value) {
  const { unit } = kinds.get(name);
  return unitOf(name) ? quantity(value, unit) : name === "tiles" ? count(value) : `${digits(value)}${unit === "1" ? "" : ` ${unit}`}`;
}
const cost = (point, name) => (kinds.get(name).better === "more" ? -point.figures[name] : point.figures[name]);
const shortKey = (key) => key.split("+").map((name) => name.split(".").slice(-2).join(".")).join("+");
const label = (name) => `${name}${kinds.get(name).better === "more" ? " (more is better)" : ""}`;
const said = (point) => study.knobs.map((knob, at) => `${shortKey(knob.key)} ${knob.values[point.places[at]]}`).join(", ");

let selected = null, kept = study.knobs.map(() => null);
const isKept = (point) => kept.every((place, at) => place === null || point.places[at] === place);
const options = (select, names, chosen) => { select.replaceChildren(...names.map((name) => el("option", { value: name, selected: name === chosen }, label(name)))); };

/* The points that no other one beats in two figures, along the first. */
function frontOf(points, across, up) {
  const sorted = [...points].sort((a, b) => cost(a, across) - cost(b, across) || cost(a, up) - cost(b, up));
  const found = [];
  for (const point of sorted) if (!found.length || cost(point, up) < cost(found[found.length - 1], up)) found.push(point);
  return found;
}

function drawScatter() {
  const across = byId("across").value, up = byId("up").value, log = byId("log").checked;
  const points = study.points.filter((point) => known(point, across) && known(point, up) && isKept(point));
  byId("scatter-key").replaceChildren();
  if (!points.length) {
    byId("scatter").replaceChildren(el("p", { class: "muted" }, "No point that is kept has both figures."));
    return;
  }
  const wide = PLOT.width - PLOT.left - PLOT.right, high = PLOT.height - PLOT.top - PLOT.bottom;
  const can = (name) => log && points.every((point) => point.figures[name] > 0);
  const scales = [across, up].map((name) => axis(points.map((point) => point.figures[name]), { log: can(name) }));
  const x = (part) => PLOT.left + wide * part, y = (part) => PLOT.top + high * (1 - part);
  const tick = (name, value) => (typeof value === "string" ? value : figureText(name, Number(value.toPrecision(6))));
  const skip = Math.ceil(scales[0].ticks.length / 6);
  const frame = [
    scales[1].ticks.map(([part, value]) => [svg("line", { class: "grid", x1: x(0), x2: x(1), y1: y(part), y2: y(part) }),
      svg("text", { x: x(0) - 6, y: y(part) + 4, "text-anchor": "end" }, tick(up, value))]),
    scales[0].ticks.map(([part, value], at) => (at % skip ? [] : [svg("text", // the last one ends where the picture does
      { x: part === 1 ? PLOT.width - 1 : x(part), y: y(0) + 15, "text-anchor": part === 1 ? "end" : "middle" }, tick(across, value))])),
    svg("text", { class: "name", x: x(0.5), y: PLOT.height - 6, "text-anchor": "middle" }, label(across)),
    svg("path", { class: "axis", d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}` }),
  ].flat(3);
  const at = (point) => [x(scales[0].at(point.figures[across])), y(scales[1].at(point.figures[up]))];
  const front = frontOf(points, across, up), ahead = new Set(front);
  const line = front.map((point) => at(point).map((v) => v.toFixed(1)).join(",")).join(" ");
  const dot = (point) => {
    const [cx, cy] = at(point), tone = point.front ? "k-digital_backward" : "k-free";
    return svg("circle", { class: "dot", cx: cx.toFixed(1), cy: cy.toFixed(1), r: ahead.has(point) ? 5 : 3.5, "data-point": point.number,
      style: `fill:var(--${tone});stroke:var(--${point === selected ? "ink" : "panel"});stroke-width:${point === selected ? 3 : 1}`, onclick: () => choose(point) },
    svg("title", {}, `${point.number}: ${said(point)}; ${figureText(across, point.figures[across])}, ${figureText(up, point.figures[up])}`));
  };
  const behind = [...points].sort((a, b) => Number(ahead.has(a)) - Number(ahead.has(b)));
  byId("scatter").replaceChildren(svg("svg", { class: "chart", viewBox: `0 0 ${PLOT.width} ${PLOT.height}`, role: "group", "aria-label": `${up} against ${across} of ${plural(points.length, "point")}` },
    frame, svg("polyline", { class: "line", style: "stroke:var(--k-digital_backward)", "stroke-dasharray": "6 3", points: line }), behind.map(dot)));
  const key = (tone, text) => el("span", {}, svg("svg", { width: 14, height: 12, "aria-hidden": "true" }, svg("circle", { cx: 6, cy: 6, r: 4, style: `fill:var(--${tone})` })), text);
  byId("scatter-key").replaceChildren(el("span", {}, `up: ${label(up)}`), key("k-free", "a point"), key("k-digital_backward", `on the front of ${study.front.join(", ")}`),
    el("span", {}, `dashed: front of these two, ${plural(front.length, "point")}`));
}

/* Axes of knobs and figures side by side, a line a point. */
function drawParallel() {
  const names = study.front.filter((name) => figureNames.includes(name));
  const points = study.points.filter((point) => !point.refused);
  byId("kept").textContent = `${plural(points.filter(isKept).length, "point")} of ${count(points.length)}`;
  if (!points.length) return;
  const scales = new Map(names.map((name) => [name, axis(points.map((point) => point.figures[name]), { log: points.every((point) => point.figures[name] > 0) && spread(points, name) > 10 })]));
  const axes = study.knobs.length + names.length, width = Math.max(640, 150 * axes), height = 300, top = 34, bottom = 20;
  const x = (at) => 70 + ((width - 140) * at) / Math.max(1, axes - 1), y = (part) => top + (height - top - bottom) * (1 - part);
  const part = (place, knob) => (knob.values.length > 1 ? place / (knob.values.length - 1) : 0.5);
  const path = (point) => [...study.knobs.map((knob, at) => part(point.places[at], knob)), ...names.map((name) => scales.get(name).at(point.figures[name]))]
    .map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const rest = points.filter((point) => isKept(point) && !point.front).map(path).join("");
  const front = points.filter((point) => isKept(point) && point.front);
  const values = (knob, at) => knob.values.map((value, place) => svg("text", { class: kept[at] === place ? "value on" : "value", x: x(at) - 7, y: y(part(place, knob)) + 4, "text-anchor": "end", tabindex: "0", role: "button",
    "aria-pressed": String(kept[at] === place), onclick: () => keep(at, place), onkeydown: (event) => { if (event.key === "Enter") keep(at, place); } }, value));
  const rulers = [
    study.knobs.map((knob, at) => [svg("path", { class: "axis", d: `M${x(at)} ${y(0)}V${y(1)}` }), svg("text", { class: "name", x: x(at), y: 16, "text-anchor": "middle" }, fit(shortKey(knob.key), 140, "name"), svg("title", {}, knob.key)), values(knob, at)]),
    names.map((name, i) => {
      const at = study.knobs.length + i, ticks = scales.get(name).ticks;
      const shown = [ticks[0], ticks[ticks.length - 1]];
      return [svg("path", { class: "axis", d: `M${x(at)} ${y(0)}V${y(1)}` }), svg("text", { class: "name", x: x(at), y: 16, "text-anchor": "middle" }, name),
        shown.map(([place, value]) => svg("text", { x: x(at) + 6, y: y(place) + 4 }, typeof value === "string" ? value : figureText(name, Number(value.toPrecision(4)))))];
    }),
  ].flat(4);
  byId("parallel").replaceChildren(svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `parallel coordinates of ${plural(points.length, "point")}` },
    svg("path", { class: "line faint", d: rest || "M0 0" }),
    front.map((point) => svg("path", { class: "line picked", d: path(point), style: "stroke:var(--k-digital_backward)", onclick: () => choose(point) }, svg("title", {}, `${point.number}: ${said(point)}`))),
    selected && !selected.refused ? svg("path", { class: "line", d: path(selected), style: "stroke:var(--ink);stroke-width:3" }) : null, rulers));
}
const spread = (points, name) => Math.max(...points.map((point) => point.figures[name])) / Math.min(...points.map((point) => point.figures[name]));
function keep(at, place) {
  kept[at] = kept[at] === place ? null : place;
  redraw();
}

function drawImportance() {
  const name = byId("figure").value;
  const sorted = [...study.knobs].sort((a, b) => b.importance[name] - a.importance[name]);
  byId("importance").querySelector("tbody").replaceChildren(...sorted.map((knob) => el("tr", {}, el("th", { scope: "row" }, knob.key),
    el("td", {}, el("span", { class: "gauge", "aria-hidden": "true" }, el("span", { style: `width:${100 * knob.importance[name]}%` }))),
    el("td", { class: "n" }, `${(100 * knob.importance[name]).toFixed(1)} %`))));
}

function drawDetail() {
  const place = byId("detail");
  if (!selected) {
    place.replaceChildren(el("p", { class: "muted" }, "A click on a point, a line or a row shows it here."));
    return;
  }
  const list = (rows) => el("dl", { class: "facts" }, rows.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  const figures = figureNames.filter((name) => known(selected, name)).map((name) => [name, figureText(name, selected.figures[name])]);
  place.replaceChildren(...[
    el("p", {}, el("b", {}, `point ${selected.number}`), selected.front ? ", on the front" : ""),
    list(study.knobs.map((knob, at) => [knob.key, knob.values[selected.places[at]]])),
    selected.refused ? el("p", { class: "note" }, selected.refused) : null,
    figures.length ? list(figures) : null,
    selected.summary.length ? el("ul", {}, selected.summary.map((line) => el("li", {}, line))) : null,
    selected.command ? el("div", {}, el("h3", {}, "its plan is made by"), el("pre", { class: "command", tabindex: "0" }, selected.command)) : null,
  ].filter(Boolean));
}

const shownFigures = [...new Set([...study.front, ...figureNames])].filter((name) => figureNames.includes(name));
const last = (point, name) => (known(point, name) ? point.figures[name] : Infinity);
const POINT_COLUMNS = [
  { label: "#", width: "56px", n: true, value: (p) => p.number, cell: (p) => count(p.number) },
  { label: "front", width: "56px", value: (p) => (p.front ? 0 : 1), cell: (p) => (p.front ? "●" : "") },
  ...study.knobs.map((knob, at) => ({ label: shortKey(knob.key), help: knob.key, width: "120px", value: (p) => p.places[at], cell: (p) => knob.values[p.places[at]] })),
  ...shownFigures.map((name) => ({ label: name, help: kinds.get(name).meaning, width: "118px", n: true, value: (p) => last(p, name),
    cell: (p) => (known(p, name) ? figureText(name, p.figures[name]) : "-") })),
  { label: "refused", width: "260px", value: (p) => p.refused, cell: (p) => p.refused, title: (p) => p.refused },
];
const table = new Table(byId("point-rows"), POINT_COLUMNS, study.points, "points", (point) => choose(point));

function choose(point) {
  selected = point;
  drawScatter();
  drawParallel();
  drawDetail();
}
function redraw() {
  drawScatter();
  drawParallel();
  table.where((point) => isKept(point) && (!byId("only-front").checked || point.front));
  byId("filtered").textContent = `${count(table.rows.length)} of ${plural(study.points.length, "point")}`;
}

options(byId("across"), figureNames, study.front[0]);
options(byId("up"), figureNames, study.front[1] || figureNames.find((name) => name !== study.front[0]));
options(byId("figure"), figureNames, study.front[0]);
byId("log").checked = [byId("across").value, byId("up").value].some((name) => spread(study.points.filter((point) => known(point, name)), name) > 10);
for (const id of ["across", "up", "log"]) byId(id).addEventListener("change", drawScatter);
byId("figure").addEventListener("change", drawImportance);
byId("only-front").addEventListener("change", redraw);
byId("all").addEventListener("click", () => { kept = study.knobs.map(() => null); redraw(); });
addEventListener("resize", () => table.draw());
addEventListener("beforeprint", () => table.draw(true));
selected = frontOf(study.points.filter((point) => point.front), byId("across").value, byId("up").value)[0] || null;
redraw();
drawImportance();
drawDetail();
watchTheme();
document.documentElement.dataset.ready = "yes";
