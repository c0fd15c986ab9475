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
  const column = (key) => run.epochs.filter((epoch) => epoch[key] !== null && epoch[key] !== undefined).map((epoch) => [epoch.epoch, epoch[key]]);
  const measured = (names) => Object.entries(names).map(([name, key]) => ({ name, points: column(key) })).filter((one) => one.points.length);
  const accuracies = measured({ "training samples": "train_accuracy", "test samples": "test_accuracy", "averaged weights": "average_accuracy", "validation samples": "validation_accuracy" });
  const losses = measured({ "test samples": "test_loss", "averaged weights": "average_loss", "validation samples": "validation_loss" });
  const one = (title, key, name, up) => chartPanel({ title, x: { label: "epoch" }, y: up, series: [{ name, points: column(key) }] });
  place.replaceChildren(
    one("Training loss by epoch", "loss", "loss", { label: "mean loss of a sample", low: 0 }),
    ...(accuracies.length ? [chartPanel({ title: "Accuracy by epoch", x: { label: "epoch" }, y: { label: "classified correctly", low: 0, high: 1, text: percent },
      series: accuracies })] : []),
    ...(losses.length ? [chartPanel({ title: "Loss behind each epoch", x: { label: "epoch" }, y: { label: "mean loss of a sample", low: 0 }, series: losses })] : []),
    one("Free phases that did not settle", "unsettled", "share of samples and blocks", { label: "samples and blocks", low: 0, high: 0.01, text: percent }),
    ...(run.epochs.some((epoch) => epoch.sweeps > 0) ? [one("Sweeps of a free phase by epoch", "sweeps", "mean over blocks and samples", { label: "sweeps", low: 0 })] : []),
    one("Time by epoch", "seconds", "wall-clock time", { label: "time (s)", low: 0 }),
  );
}
