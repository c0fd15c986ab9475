/* Line charts: series told apart by colour, dashes and marks; linear or logarithmic axes with labels. */

const PLOT = { width: 560, height: 250, left: 66, right: 14, top: 10, bottom: 40 };
const TONES = ["k-free", "k-digital_backward", "k-contrast", "k-update", "k-digital", "k-loss"];
const DASHES = [null, "7 3", "2 3", "9 3 2 3", "5 2", "1 4"];
const POINTS = ["circle", "square", "triangle", "diamond", "cross", "plus"];
const MOST = TONES.length;

const look = (number) => ({ tone: TONES[number % MOST], dash: DASHES[number % MOST], point: POINTS[number % MOST] });
const SHAPES = {
  square: (s) => `M${-s} ${-s}H${s}V${s}H${-s}Z`, triangle: (s) => `M0 ${-1.2 * s}L${1.2 * s} ${s}H${-1.2 * s}Z`,
  diamond: (s) => `M0 ${-1.4 * s}L${1.4 * s} 0L0 ${1.4 * s}L${-1.4 * s} 0Z`,
  cross: (s) => `M${-s} ${-s}L${s} ${s}M${-s} ${s}L${s} ${-s}`, plus: (s) => `M0 ${-1.3 * s}V${1.3 * s}M${-1.3 * s} 0H${1.3 * s}`,
};
function mark({ tone, point }, x, y, text) {
  const place = `translate(${x.toFixed(1)} ${y.toFixed(1)})`, style = `fill:var(--${tone});stroke:var(--${tone})`;
  const title = text ? svg("title", {}, text) : null;
  if (point === "ring") return svg("circle", { class: "point", r: 5.5, transform: place, style: `fill:none;stroke:var(--${tone})` }, title);
  return point === "circle" ? svg("circle", { class: "point", r: 3.2, transform: place, style }, title)
    : svg("path", { class: "point", d: SHAPES[point](3), transform: place, style }, title);
}

const SUPERSCRIPTS = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
const decade = (power) => (power === 0 ? "1" : power === 1 ? "10" : `10${[...String(power)].map((sign) => SUPERSCRIPTS[sign]).join("")}`);

/* An axis from values: where they lie between 0 and 1, and ticks. Zeros of a logarithmic axis lie at its lower end. */
function axis(values, { log, low, high }) {
  if (log) {
    const known = values.filter((v) => v > 0).map(Math.log10);
    const [a, b] = known.length ? [Math.floor(Math.min(...known) + 1e-9), Math.ceil(Math.max(...known) - 1e-9)] : [-1, 0];
    const top = Math.max(b, a + 1), every = Math.ceil((top - a) / 6);
    const ticks = [];
    for (let power = top; power >= a; power -= every) ticks.push([(power - a) / (top - a), decade(power)]);
    return { at: (v) => (v > 0 ? (Math.log10(v) - a) / (top - a) : 0), ticks };
  }
  const [a, b] = [Math.min(...values, low ?? Infinity), Math.max(...values, high ?? -Infinity)];
  const rough = (b - a || Math.abs(b) || 1) / 4, power = 10 ** Math.floor(Math.log10(rough));
  const pitch = [1, 2, 5, 10].map((f) => f * power).find((step) => step >= rough * 0.999);
  const first = Math.floor(a / pitch + 1e-9), last = Math.max(first + 1, Math.ceil(b / pitch - 1e-9));
  const ticks = [];
  for (let tick = first; tick <= last; tick++) ticks.push([(tick - first) / (last - first), tick * pitch]);
  return { at: (v) => (v / pitch - first) / (last - first), ticks };
}

/* Places of the horizontal axis are the values themselves, as many as have room. */
function places(series, { log }) {
  const xs = [...new Set(series.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
  const scale = log ? Math.log : (v) => v, room = PLOT.width - PLOT.left - PLOT.right - 24;
  const [a, b] = [scale(xs[0]), scale(xs[xs.length - 1])];
  const x = (v) => PLOT.left + 12 + room * (a === b ? 0.5 : (scale(v) - a) / (b - a));
  const shown = [];
  for (const v of xs) if (!shown.length || x(v) - x(shown[shown.length - 1]) >= 36) shown.push(v);
  return { x, shown, xs };
}

/* A chart: {title, x: {label, log}, y: {label, log, low, high, text}, series: [{name, points, look, faint}], note}. */
function picture({ title, x: across, y: up, series }) {
  const { width, height, left, right, top, bottom } = PLOT;
  const text = up.text || ((v) => digits(v, 4));
  const { x, shown } = places(series, across);
  const scale = axis(series.flatMap((line) => line.points.map(([, v]) => v)), up);
  const y = (part) => top + (height - top - bottom) * (1 - part);
  const frame = [
    ...scale.ticks.flatMap(([part, value]) => [svg("line", { class: "grid", x1: left, x2: width - right, y1: y(part), y2: y(part) }),
      svg("text", { x: left - 6, y: y(part) + 4, "text-anchor": "end" }, up.log ? value : text(Number(value.toPrecision(6))))]),
    ...shown.map((v) => svg("text", { x: x(v), y: height - bottom + 15, "text-anchor": "middle" }, digits(v))),
    svg("text", { class: "name", x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, across.label),
    svg("text", { class: "name", transform: `translate(13 ${(top + height - bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, up.label),
    svg("path", { class: "axis", d: `M${left} ${top}V${height - bottom}H${width - right}` }),
  ];
  const line = (entry) => svg("polyline", { class: entry.faint ? "line faint" : "line", "stroke-dasharray": entry.faint ? null : entry.look.dash,
    style: entry.faint ? null : `stroke:var(--${entry.look.tone})`, points: entry.points.map(([a, v]) => `${x(a).toFixed(1)},${y(scale.at(v)).toFixed(1)}`).join(" ") },
  entry.faint ? svg("title", {}, entry.name) : null);
  const marks = (entry) => (entry.plain ? [] : entry.points.map(([a, v]) => mark(entry.look, x(a), y(scale.at(v)), `${entry.name}, ${across.label} ${digits(a)}: ${text(v)}`)));
  const front = series.filter((entry) => !entry.faint);
  const ends = ({ name, points }) => `${name} ${text(points[0][1])} to ${text(points[points.length - 1][1])}`;
  return svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}: ${front.map(ends).join(", ")}` },
    frame, series.filter((entry) => entry.faint).map(line), front.flatMap((entry) => [line(entry), ...marks(entry)]));
}

function legend(series) {
  return el("p", { class: "legend" }, series.map((entry) => el("span", { class: "series", title: entry.name },
    svg("svg", { width: 30, height: 12, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 30, y1: 6, y2: 6, style: `stroke:var(--${entry.look.tone});stroke-width:2`, "stroke-dasharray": entry.look.dash }),
      entry.plain ? null : mark(entry.look, 15, 6)), entry.name)));
}

/* The same figures for those who would rather read them. */
function figures({ x: across, y: up, series }) {
  const text = up.text || ((v) => digits(v, 4));
  const rows = places(series, across).xs.map((value) => el("tr", {}, el("th", { scope: "row", class: "n" }, digits(value)),
    series.map((entry) => { const found = entry.points.find(([x]) => x === value); return el("td", { class: "n" }, found ? text(found[1]) : "-"); })));
  return el("details", { class: "noprint" }, el("summary", {}, "as a table"), el("div", { class: "table-box" }, el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "n" }, across.label), series.map((entry) => el("th", { scope: "col", class: "n", title: entry.name }, entry.name.slice(0, 40))))),
    el("tbody", {}, rows))));
}

function chart(spec) {
  const known = spec.series.filter((entry) => entry.points.length);
  const series = known.map((entry, number) => ({ look: look(number), ...entry }));
  const front = series.filter((entry) => !entry.faint), whole = { ...spec, series };
  return [legend(front), picture(whole), spec.note ? el("p", { class: "muted" }, spec.note) : null, figures({ ...spec, series: front })];
}

const panel = (title, ...children) => el("div", { class: "panel" }, el("h2", {}, title), ...children);
const chartPanel = (spec) => panel(spec.title, ...chart(spec));

/* A panel whose chart depends on a choice. */
function chooser(title, label, names, draw) {
  const place = el("div", {});
  const select = el("select", { "aria-label": label, onchange: () => place.replaceChildren(...draw(select.selectedIndex).filter(Boolean)) },
    names.map((name) => el("option", {}, name.slice(0, 80))));
  const found = panel(title, names.length > 1 ? el("p", {}, select) : null, place);
  place.replaceChildren(...draw(0).filter(Boolean));
  return found;
}

/* Many curves: the worst in front, the others behind them, or one that is chosen. */
function crowd(spec, badness) {
  if (spec.series.length <= MOST) return chartPanel(spec);
  const worst = new Set([...spec.series].sort((a, b) => badness(b) - badness(a)).slice(0, MOST));
  const names = [`the ${MOST} worst of ${count(spec.series.length)}`, ...spec.series.map((entry) => entry.name)];
  return chooser(spec.title, `curves of ${spec.title}`, names, (chosen) => {
    const ahead = (entry, number) => (chosen ? number === chosen - 1 : worst.has(entry));
    const front = spec.series.filter(ahead), behind = spec.series.filter((entry, number) => !ahead(entry, number));
    return chart({ ...spec, series: [...front, ...behind.map((entry) => ({ ...entry, faint: true }))] });
  });
}
