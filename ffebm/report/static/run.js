/* What was measured on the plan: a training run, the certificate of its gradients, a study of sensitivity. */

class RunView {
  constructor(model, app) {
    this.tables = [];
    const { run, certificate, sensitivity } = model.facts;
    if (run) drawTraining(run);
    if (certificate) this.tables.push(...drawCertificate(certificate, model, app));
    if (sensitivity) this.tables.push(...drawSensitivity(sensitivity));
  }

  draw(everything = false) {
    for (const table of this.tables) table.draw(everything);
  }
}

const percent = (value) => `${digits(100 * value, 4)} %`;

function drawTraining(run) {
  const place = byId("run-charts");
  if (!run.epochs.length) { place.replaceChildren(el("p", {}, "The run has no finished epoch.")); return; }
  const column = (key) => run.epochs.map((epoch) => [epoch.epoch, epoch[key]]);
  const one = (title, key, name, up) => chartPanel({ title, x: { label: "epoch" }, y: up, series: [{ name, points: column(key) }] });
  place.replaceChildren(
    one("Training loss by epoch", "loss", "loss", { label: "mean loss of a sample", low: 0 }),
    chartPanel({ title: "Accuracy by epoch", x: { label: "epoch" }, y: { label: "classified correctly", low: 0, high: 1, text: percent },
      series: [{ name: "training samples", points: column("train_accuracy") }, { name: "test samples", points: column("test_accuracy") }] }),
    one("Free phases that did not settle", "unsettled", "share of samples and blocks", { label: "samples and blocks", low: 0, high: 0.01, text: percent }),
    ...(run.epochs.some((epoch) => epoch.sweeps > 0) ? [one("Sweeps of a free phase by epoch", "sweeps", "mean over blocks and samples", { label: "sweeps", low: 0 })] : []),
    one("Time by epoch", "seconds", "wall-clock time", { label: "time (s)", low: 0 }),
  );
}
