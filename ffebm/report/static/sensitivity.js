/* Sensitivity: one unit at a time on worse tiles, and the partitions that keep an accuracy. */

const AXES = [["noise", "noise, times the plan's own"], ["bits", "bits of the converters"]];

function drawSensitivity(study) {
  const charts = AXES.flatMap(([axis, label]) => [
    sensitivityChart(study, axis, label, "accuracy", `Accuracy over ${axis}, one ${study.by} at a time`, { label: "classified correctly", text: percent }),
    sensitivityChart(study, axis, label, "cosine", `Gradient cosine over ${axis}, one ${study.by} at a time`, { label: "cosine with the exact gradient", high: 1 }),
  ]).filter(Boolean);
  byId("sensitivity-charts").replaceChildren(...charts);
  return [unitTable(study)];
}

function sensitivityChart(study, axis, label, key, title, up) {
  const series = study.units.map(({ name }) => ({ name, points: study.points.filter((point) => point.unit === name && point.axis === axis)
    .map((point) => [point.level, point[key]]).sort((a, b) => a[0] - b[0]) })).filter(({ points }) => points.length);
  if (!series.length) return null;
  const note = key === "accuracy" && study.exact !== null ? `${percent(study.exact)} with everything exact.` : null;
  return crowd({ title, x: { label }, y: up, series, note }, ({ points }) => -Math.min(...points.map(([, v]) => v)));
}

function unitTable(study) {
  const least = (name, axis, key) => {
    const found = study.points.filter((point) => point.unit === name && point.axis === axis).map((point) => point[key]);
    return found.length ? Math.min(...found) : null;
  };
  const rows = study.units.map((unit) => ({ unit, ...Object.fromEntries(AXES.flatMap(([axis]) => [[`${axis}_accuracy`, least(unit.name, axis, "accuracy")], [`${axis}_cosine`, least(unit.name, axis, "cosine")]])) }));
  const measured = AXES.map(([axis]) => axis).filter((axis) => rows.some((row) => row[`${axis}_accuracy`] !== null));
  const figure = (label, key, text) => ({ label, width: "108px", n: true, value: (r) => r[key] ?? Infinity, cell: (r) => (r[key] === null ? "-" : text(r[key])) });
  const columns = [
    { label: study.by, value: (r) => r.unit.name, cell: (r) => r.unit.name.slice(0, 120), title: (r) => r.unit.weights.join(", ") },
    { label: "work", width: "84px", n: true, value: (r) => r.unit.macs, cell: (r) => percent(Number(r.unit.work.toPrecision(3))) },
    { label: "alone", width: "84px", n: true, help: "accuracy with this one alone on the plan's tiles, predicted from close samples", value: (r) => r.unit.alone ?? Infinity, cell: (r) => (r.unit.alone === null ? "-" : percent(r.unit.alone)) },
    ...measured.flatMap((axis) => [figure(`${axis}: acc.`, `${axis}_accuracy`, percent), figure(`${axis}: cos.`, `${axis}_cosine`, (v) => v.toFixed(3))]),
    ...study.offers.map((offer) => ({ label: offer.method, width: "132px", value: (r) => offer.on_tiles.includes(r.unit.name) ? 1 : 0,
      cell: (r) => { const unit = offer.on_tiles.includes(r.unit.name) ? "tile" : "digital"; return el("span", { class: `badge ${unit}` }, unit); } })),
  ];
  return new Table(byId("unit-rows"), columns, rows, "units of the study");
}
