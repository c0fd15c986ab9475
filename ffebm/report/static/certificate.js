/* The certificate of gradients: estimated ones beside the exact adjoint, and how blocks settle. */

const known = (value, text) => (value === null ? el("span", { class: "muted", title: "a gradient is zero, or there is none" }, "-") : text(value));
const last = (points) => points[points.length - 1][1];

function drawCertificate(certificate, model, app) {
  const charts = [settlingChart, betaChart, truncationChart].map((draw) => draw(certificate)).filter(Boolean);
  byId("certificate-charts").prepend(...charts);
  return [fidelityTable(certificate, model, app), settlingTable(certificate, model, app)];
}

function settlingChart({ settling }) {
  const series = settling.filter((row) => row.curve.length).map((row) => ({ name: row.block, points: row.curve }));
  if (!series.length) return null;
  const zero = series.some(({ points }) => points.some(([, residual]) => residual <= 0));
  return crowd({ title: "Settling by block", x: { label: "free sweeps", log: true }, y: { label: "largest residual (log)", log: true }, series,
    note: zero ? "A residual of 0 is drawn at the lower end." : null }, ({ points }) => last(points));
}

function betaChart({ betas, slope }) {
  if (!betas.length) return null;
  const points = betas.map((point) => [point.beta, point.error]).sort((a, b) => a[0] - b[0]);
  const series = [{ name: "largest error over weights", points }];
  const fitted = points.filter(([, error]) => error > 0 && error < 0.3);
  if (slope !== null && fitted.length) {
    const [beta, error] = fitted[fitted.length - 1], low = Math.min(...points.map((point) => point[1]).filter((v) => v > 0));
    const line = points.map(([b]) => [b, error * (b / beta) ** slope]).filter(([b, v]) => b <= beta && v >= low / 2);
    series.push({ name: `slope ${digits(slope, 3)}`, points: line, plain: true });
  }
  return chartPanel({ title: "Error against the nudging strength", x: { label: "beta", log: true }, y: { label: "relative error (log)", log: true }, series,
    note: slope === null ? "No slope: too few strengths give an error below 30 % and well above the floor." : `The error grows with beta to the power of ${digits(slope, 3)}.` });
}

function truncationChart({ truncations }) {
  if (!truncations.length) return null;
  return chooser("Phases cut short: EP and the adjoint", "weight", truncations.map((row) => row.weight), (chosen) => {
    const row = truncations[chosen], pairs = (values) => row.sweeps.map((sweeps, at) => [sweeps, values[at]]);
    return chart({ title: `Phases cut short, ${row.weight}`, x: { label: "nudged sweeps, or sweeps back" }, y: { label: "projection on the exact gradient", low: 0, high: 1 },
      note: truncations.length > 1 ? null : row.weight,
      series: [{ name: "EP, nudged phase cut short", points: pairs(row.nudged), look: { ...look(0), point: "ring" } }, { name: "adjoint cut short", points: pairs(row.unrolled) },
        { name: "exact gradient", points: pairs(row.sweeps.map(() => 1)), plain: true }] });
  });
}

function fidelityTable({ fidelity }, model, app) {
  const number = (label, key, text, width) => ({ label, width, n: true, value: (r) => r[key] ?? Infinity, cell: (r) => known(r[key], text) });
  const columns = [
    { label: "weight", value: (r) => r.weight, cell: (r) => r.weight.slice(0, 120), title: (r) => r.weight },
    { label: "block", width: "120px", value: (r) => r.block ?? "~", cell: (r) => r.block ?? "digital" },
    number("cosine", "cosine", (v) => v.toFixed(6), "120px"),
    number("norm ratio", "norm", (v) => v.toFixed(5), "120px"),
    number("relative error", "error", (v) => v.toExponential(2), "140px"),
  ];
  const open = (row) => { const index = model.nodes.findIndex((node) => node.inputs.includes(row.weight)); if (index >= 0) app.openNode(index); };
  return new Table(byId("fidelity-rows"), columns, fidelity, "gradients by weight", open);
}

function settlingTable({ settling }, model, app) {
  const number = (label, key, text, width) => ({ label, width, n: true, value: (r) => r[key] ?? Infinity, cell: (r) => known(r[key], text) });
  const power = (v) => v.toExponential(1);
  const columns = [
    { label: "block", value: (r) => Number(r.block.slice(5)), cell: (r) => r.block, title: (r) => r.block },
    number("settled", "settled", percent, "110px"), number("mean sweeps", "sweeps", (v) => v.toFixed(1), "120px"), number("residual", "residual", power, "110px"),
    number("rate", "rate", (v) => v.toFixed(3), "90px"), number("cycling", "cycling", percent, "100px"),
    number("nudged residual", "nudged_residual", power, "140px"), number("settles elsewhere", "elsewhere", percent, "150px"),
  ];
  return new Table(byId("settling-rows"), columns, settling, "settling by block", (row) => app.openBlock(Number(row.block.slice(5))));
}
