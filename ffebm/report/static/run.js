/* Curves of a training run. */

function chart(title, series, percent, floor = 0) {
  const W = 560, H = 200, left = 52, bottom = 24, top = 10;
  const values = series.flatMap((line) => line.values), xs = series[0].values.length;
  const low = Math.min(floor, ...values), high = Math.max(...values, low + (percent ? 0.01 : 1e-9));
  const x = (i) => left + ((W - left - 12) * i) / Math.max(1, xs - 1);
  const y = (v) => top + (H - top - bottom) * (1 - (v - low) / (high - low));
  const text = (v) => (percent ? `${digits(100 * v, 3)} %` : digits(v, 3));
  const grid = [0, 0.25, 0.5, 0.75, 1].map((part) => low + part * (high - low)).flatMap((v) => [
    svg("line", { class: "grid", x1: left, x2: W - 12, y1: y(v), y2: y(v) }),
    svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, text(v))]);
  const every = Math.max(1, Math.ceil(xs / 10));
  const ticks = series[0].values.map((_, i) => i).filter((i) => i % every === 0).map((i) => svg("text", { x: x(i), y: H - 7, "text-anchor": "middle" }, i + 1));
  const lines = series.flatMap((line) => [
    svg("polyline", { class: "line", points: line.values.map((v, i) => `${x(i)},${y(v)}`).join(" "), style: `stroke:var(--${line.colour})`, "stroke-dasharray": line.dash }),
    ...line.values.map((v, i) => svg(line.square ? "rect" : "circle", line.square
      ? { x: x(i) - 3, y: y(v) - 3, width: 6, height: 6, style: `fill:var(--${line.colour})` } : { cx: x(i), cy: y(v), r: 3.2, style: `fill:var(--${line.colour})` },
    svg("title", {}, `epoch ${i + 1}, ${line.name}: ${text(v)}`)))]);
  const label = `${title}: ${series.map((line) => `${line.name} ${text(line.values[0])} to ${text(line.values[xs - 1])}`).join(", ")}`;
  const legend = el("p", { class: "legend" }, series.map((line) => el("span", {}, svg("svg", { width: 26, height: 10, "aria-hidden": "true" },
    svg("line", { x1: 0, x2: 26, y1: 5, y2: 5, style: `stroke:var(--${line.colour});stroke-width:2`, "stroke-dasharray": line.dash })), line.name)));
  return el("div", { class: "panel" }, el("h2", {}, title), legend, svg("svg", { class: "chart", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label }, grid, ticks, lines));
}

function drawRun(run) {
  const column = (key) => run.epochs.map((epoch) => epoch[key]);
  if (!run.epochs.length) { byId("run-charts").append(el("p", {}, "The run has no finished epoch.")); return; }
  byId("run-charts").replaceChildren(
    chart("Training loss by epoch", [{ name: "loss", values: column("loss"), colour: "k-free" }], false),
    chart("Accuracy by epoch", [
      { name: "training samples", values: column("train_accuracy"), colour: "k-free" },
      { name: "test samples", values: column("test_accuracy"), colour: "k-digital_backward", dash: "5 3", square: true }], true, 1),
    chart("Free phases that did not settle", [{ name: "share of samples and blocks", values: column("unsettled"), colour: "k-contrast" }], true),
    chart("Wall-clock seconds by epoch", [{ name: "seconds", values: column("seconds"), colour: "k-update" }], false),
  );
}
