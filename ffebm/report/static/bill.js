/* Where energy, time and conversions go. */

class BillView {
  constructor(model) {
    this.model = model;
  }

  load(name) {
    this.name = name;
    this.bill = this.model.facts[`${name}_bill`];
    this.total = this.model.facts[name];
    this.kinds = Object.keys(this.model.facts.energy_basis).filter((kind) => this.total.total[kind] > 0);
    this.shares(byId("energy-kinds"), this.kinds.map((kind) => [kind, this.total.total[kind], "J", this.model.facts.energy_basis[kind], `Energy: ${KIND_NAMES[kind]}`]));
    const steps = this.bill.kinds.filter((row) => row.steps).sort((a, b) => b.seconds - a.seconds);
    this.shares(byId("time-kinds"), steps.map((row) => [row.name, row.seconds, "s", this.model.facts.time_basis[row.name], `Time of ${plural(row.steps, "step")}`]));
    this.table = new Table(byId("bill-rows"), this.columns(), this.bill.parts, "costs by part");
    this.table.sort(3, false);
  }

  shares(place, rows) {
    const sum = rows.reduce((total, row) => total + row[1], 0), most = Math.max(...rows.map((row) => row[1]), 0);
    place.replaceChildren(...rows.flatMap(([kind, value, unit, names, how]) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      const pen = sized(canvas, 300, 11);
      pen.fillStyle = kindFill(pen, kind);
      pen.fillRect(0, 0, most ? Math.max(1, (300 * value) / most) : 0, 11);
      return [el("span", {}, KIND_NAMES[kind]), canvas, el("span", { class: "n" }, el("span", basis(names, how), quantity(value, unit))),
        el("span", { class: "n muted" }, share(value, sum))];
    }));
  }

  columns() {
    const energy = (kind) => ({ label: KIND_NAMES[kind].replace(" conversion", ""), width: "92px", n: true, value: (r) => r.cost[kind],
      cell: (r) => (r.cost[kind] ? el("span", basis(this.model.facts.energy_basis[kind], `Energy: ${KIND_NAMES[kind]}`), quantity(r.cost[kind], "J")) : "") });
    const times = [...new Set(this.bill.kinds.flatMap((row) => this.model.facts.time_basis[row.name]))];
    return [
      { label: "part", width: "106px", value: (r) => (r.block !== null ? r.block : 1e6 + (r.segment ?? -1)), cell: (r) => r.name },
      { label: "steps", width: "58px", n: true, value: (r) => r.steps, cell: (r) => count(r.steps) },
      { label: "busy", width: "92px", n: true, value: (r) => r.seconds, cell: (r) => el("span", basis(times, "Lengths of its steps together; units work side by side"), quantity(r.seconds, "s")) },
      { label: "energy", width: "88px", n: true, value: (r) => r.energy, cell: (r) => quantity(r.energy, "J") },
      { label: "share", width: "64px", n: true, value: (r) => r.energy, cell: (r) => share(r.energy, this.total.energy) },
      ...this.kinds.map(energy),
      { label: "D/A count", width: "100px", n: true, value: (r) => r.cost.dac_count, cell: (r) => count(r.cost.dac_count) },
      { label: "A/D count", width: "100px", n: true, value: (r) => r.cost.adc_count, cell: (r) => count(r.cost.adc_count) },
    ];
  }
}
