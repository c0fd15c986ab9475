/* The panel beside the graph: a node, a frame, or an overview if nothing is selected. */

class Detail {
  constructor(model, app) {
    this.model = model;
    this.app = app;
    this.overview = [...byId("detail").childNodes];
  }

  show(ref) {
    const panel = byId("detail");
    const id = ref ? Number(ref.slice(1)) : 0;
    if (!ref) panel.replaceChildren(...this.overview);
    else if (ref[0] === "n") panel.replaceChildren(...this.node(this.model.nodes[id]));
    else if (ref[0] === "f") panel.replaceChildren(...this.frame(this.model.frames[id]));
    else panel.replaceChildren(...this.port(ref));
    panel.scrollTop = 0;
  }

  rows(...pairs) {
    const list = el("dl", { class: "facts" });
    for (const [name, ...values] of pairs) {
      const shown = values.flat().filter((value) => value !== null && value !== undefined && value !== "");
      if (shown.length) list.append(el("dt", {}, name), el("dd", {}, ...shown));
    }
    return list;
  }

  badge(unit) {
    return el("span", { class: `badge ${unit}` }, unit === "tile" ? "on tiles" : unit);
  }

  jump(text, act) {
    return el("button", { class: "link", type: "button", onclick: act }, text);
  }

  toNode(index) {
    return this.jump(this.model.nodes[index].name.slice(0, 120), () => this.app.goto(`n${index}`));
  }

  tiles(numbers) {
    if (!numbers.length) return null;
    return numbers.slice(0, 40).flatMap((number, at) => [at ? ", " : "", this.jump(`tile ${number}`, () => this.app.openTile(number))])
      .concat(numbers.length > 40 ? [` and ${numbers.length - 40} more`] : []);
  }

  values(names, link) {
    if (!names.length) return null;
    return el("ul", {}, names.slice(0, 30).map((name) => {
      const type = this.model.facts.types[name];
      return el("li", {}, name.slice(0, 300), el("span", { class: "muted" }, type ? `  ${type}` : ""), link(name));
    }));
  }

  fromNode(value) {
    const maker = this.model.makers.get(value);
    return maker === undefined ? null : [" from ", this.toNode(maker)];
  }

  toNodes(value) {
    const readers = this.model.readers.get(value) || [];
    return readers.slice(0, 6).flatMap((reader, at) => [at ? ", " : " to ", this.toNode(reader)])
      .concat(readers.length > 6 ? [` and ${readers.length - 6} more`] : []);
  }

  spent(pair, name) {
    if (!pair) return null;
    const timeline = this.model.facts[name];
    const time = el("span", basis(this.model.facts.time_basis.digital, "Time of digital work"), quantity(pair[0], "s"));
    const energy = [...this.model.facts.energy_basis.digital, ...this.model.facts.energy_basis.memory];
    return [time, ", ", el("span", basis(energy, "Energy of digital work"), quantity(pair[1], "J")),
      el("span", { class: "muted" }, `  ${share(pair[1], timeline.energy)} of all energy`)];
  }

  /* Which nodes are done in one step with a node: time, energy and bands are those of all of them. */
  withOthers(name) {
    const { fused } = this.model.facts.inference, last = this.model.together.get(name);
    const said = (text, names) => el("span", { class: "muted" }, `  ${text} `, ...names.slice(0, 6).flatMap((other, at) => [at ? ", " : "", this.toNode(this.model.byName.get(other))]),
      names.length > 6 ? ` and ${names.length - 6} more` : "");
    if (last !== undefined) return said("in one step with", [last]);
    return fused[name] ? said("together with", fused[name]) : null;
  }

  node(node) {
    const block = node.block !== null;
    return [
      el("h2", {}, node.name),
      el("p", {}, el("b", {}, node.op), "  ", this.badge(node.unit), "  ", this.partLink(node)),
      el("p", { class: "note" }, node.reason),
      this.rows(
        ["Shape", shapeText(node.shape)],
        ["Reads", this.values(node.inputs.filter(Boolean), (value) => this.fromNode(value))],
        ["Makes", this.values(node.outputs.filter(Boolean), (value) => this.toNodes(value))],
        ["Tiles", this.tiles(node.tiles)],
        ["Work", node.macs ? `${count(node.macs)} MACs (one inference)` : "no multiply-accumulates"],
        ["Weights", node.weights ? count(node.weights) : null],
        ["Inference", this.spent(node.inference, "inference"), this.withOthers(node.name)],
        ["Training step", this.spent(node.training, "training")],
        ...(block ? [] : this.bands(node.name, "digital", ["digital", "digital_backward"])),
        ["Cost", block ? `block${node.block} settles as a whole:` : null],
        ["Source", node.location],
      ),
      ...this.choice(this.model.nodes.indexOf(node)),
      ...(block ? this.costs(`block${node.block}`) : []),
    ];
  }

  partLink(node) {
    const frame = this.model.frames.find((entry) => entry.name === this.model.part(node) && ["block", "segment"].includes(entry.kind));
    return frame ? this.jump(frame.name, () => this.app.goto(`f${frame.id}`)) : el("span", { class: "muted" }, this.model.part(node));
  }

  frame(frame) {
    const unit = this.model.unitOf(frame.id);
    const block = frame.kind === "block" ? this.model.facts.blocks[Number(frame.name.slice(5))] : null;
    const kinds = { block: "energy block", segment: "digital segment", section: "section of the model", run: "part of a segment", model: "model" };
    return [
      el("h2", {}, frame.name),
      el("p", {}, kinds[frame.kind], "  ", this.badge(unit)),
      this.rows(
        ["Nodes", `${count(frame.n_nodes)}, ${count(frame.n_tile)} on tiles`],
        ["Work", `${count(frame.macs)} MACs (one inference)`],
        ["Layers", block && el("ul", {}, block.layers.map((layer) => el("li", {}, layer)))],
        ["Clamped", block && this.values(block.inputs, (value) => this.fromNode(value))],
        ["Read outside", block && this.values(block.outputs, (value) => this.toNodes(value))],
        ["Weights", block && count(block.weights)],
        ["Tiles", block && this.tiles(block.tiles)],
        ...(block ? this.bands(frame.name, "free", ["free", "nudged", "contrast"]) : []),
      ),
      ...(block ? this.choice(this.model.nodes.findIndex((node) => node.block === block.id)) : []),
      ...(frame.kind === "block" ? this.digital(frame.name) : []),
      ...(["block", "segment"].includes(frame.kind) ? this.costs(frame.name) : []),
    ];
  }

  /* How a layer is cut, and how much of the time goes to it in a chain of steps without a gap. */
  bands(name, forward, kinds) {
    return [["inference", "Bands"], ["training", "Bands, training"]].flatMap(([which, head]) => {
      const line = this.model.facts[which], kind = (step) => line.kinds[line.kind[step]];
      const own = [...line.kind.keys()].filter((step) => kind(step) === forward && line.names[line.name[step]] === name && !line.sample[step]);
      if (!own.length) return [];
      const rows = Math.max(...own.map((step) => line.bands[line.band[step]]).map((band) => (band ? band[1] - band[0] : 0)));
      const here = (step) => kinds.includes(kind(step)) && line.names[line.name[step]].replace(/ [+-]beta$/, "") === name;
      const until = (step, at) => { // the next one waits until it ends, or its units are free
        const lag = line.lags_s[line.lag[step]], early = lag && line.start_s[line.filling[at + 1]] < line.end_s[step] - lag / 2;
        return early ? line.free_s[step] : line.end_s[step];
      };
      const limits = line.filling.reduce((sum, step, at) => sum + (here(step) ? until(step, at) - line.start_s[step] : 0), 0);
      const cut = rows ? `${count(own.length)} of ${rows > 1 ? "up to " : ""}${plural(rows, "row")}` : "none, done at once";
      return [[head, `${cut}, ${quantity(line.start_s[own[0]], "s")} to ${quantity(Math.max(...own.map((step) => line.end_s[step])), "s")}`,
        el("span", { class: "muted" }, limits ? `; limits ${share(limits, line.makespan_s)} of the time` : "")]];
    });
  }

  /* What the block's own work would take on digital units, beside what settling takes. */
  digital(name) {
    const facts = this.model.facts, line = facts.inference;
    const free = (at) => line.kinds[line.kind[at]] === "free" && !line.sample[at];
    const bands = [...line.kind.keys()].filter((at) => free(at) && line.names[line.name[at]] === name);
    const rows = Object.entries(facts.twin).map(([dtype, twin]) => {
      const [seconds, joules] = twin.blocks[name], loses = twin.losing.includes(name) ? ": better in both" : "";
      return [`Digital, ${dtype}`, `${quantity(seconds, "s")}, ${quantity(joules, "J")}${loses}`];
    });
    if (!rows.length || !bands.length) return [];
    const together = (of) => bands.reduce((sum, at) => sum + of(at), 0);
    const joules = together((at) => Object.keys(facts.energy_basis).reduce((sum, kind) => sum + line.costs[line.cost[at]][kind], 0));
    let left = 0, ended = 0;
    for (const at of bands) { // each starts when its units are free
      ended = Math.max(ended, left + line.end_s[at] - line.start_s[at]);
      left += line.free_s[at] - line.start_s[at];
    }
    const settles = [quantity(ended, "s"), quantity(joules, "J")];
    return [el("h3", {}, `${name} in an inference, here and there`), this.rows(["On tiles", settles.join(", ")], ...rows)];
  }

  /* What a node's block could have been, and what that would cost. */
  choice(index) {
    const choice = this.model.choices.get(index);
    if (!choice) return [];
    const { options, taken } = choice, own = options[taken];
    const { time_basis: times_of, energy_basis: energies } = this.model.facts;
    const steps = [...new Set(["transfer", "free", "digital"].flatMap((kind) => times_of[kind]))];
    const spent = [...new Set(Object.keys(energies).filter((kind) => kind !== "leakage").flatMap((kind) => energies[kind]))];
    const head = (text, names) => el("th", { scope: "col", class: "n" }, el("span", basis(names, `${text}, computed from`), text));
    const times = (value, mine) => el("span", { class: "times" }, mine > 0 ? `${digits(value / mine, 3)} ×` : "");
    const rows = options.map((option, at) => el("tr", at === taken ? { class: "taken", "aria-current": "true" } : {},
      el("td", {}, at === taken ? "▸ " : "", this.option(option), at === choice.quickest ? el("span", { class: "tag" }, "quickest") : null,
        at === choice.thriftiest ? el("span", { class: "tag" }, "least energy") : null),
      el("td", { class: "n" }, option.group ? digits(option.tiles, 3) : "0"),
      el("td", { class: "n" }, quantity(option.seconds, "s"), times(option.seconds, own.seconds)),
      el("td", { class: "n" }, quantity(option.joules, "J"), times(option.joules, own.joules))));
    const more = choice.nodes.length > 1 ? `${plural(choice.nodes.length, "node")} choose together. ` : "";
    return [
      el("h3", {}, "What it could have been"),
      el("p", { class: "muted" }, `${more}One inference, with what is fetched for it; chosen for ${this.model.facts.choices.objective}. `
        + "× is to what was taken."),
      el("table", { class: "choices" },
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "option"), el("th", { scope: "col", class: "n" }, "tiles"),
          head("time", steps), head("energy", spent))),
        el("tbody", {}, rows)),
    ];
  }

  option(option) {
    if (!option.group) return option.units ? `digital on ${option.units.join(" and ")}` : "digital";
    const replicas = option.replicas > 1 ? `, ${plural(option.replicas, "replica")}` : "";
    return `${option.group}: ${option.layout}${replicas}`;
  }

  costs(name) {
    return ["inference", "training"].flatMap((which) => {
      const row = this.model.facts[`${which}_bill`].parts.find((part) => part.name === name);
      if (!row) return [];
      const kinds = Object.keys(this.model.facts.energy_basis).filter((kind) => row.cost[kind]);
      return [
        el("h3", {}, `${name} in ${which === "inference" ? "an inference" : "a training step"}`),
        this.rows(
          ["Busy", `${quantity(row.seconds, "s")} in ${plural(row.steps, "step")}`],
          ["Energy", `${quantity(row.energy, "J")}, ${share(row.energy, this.model.facts[which].energy)} of all`],
          ...kinds.map((kind) => [KIND_NAMES[kind], el("span", basis(this.model.facts.energy_basis[kind], `Energy: ${KIND_NAMES[kind]}`), quantity(row.cost[kind], "J"))]),
          ["Converts", row.cost.adc_count || row.cost.dac_count ? `${count(row.cost.adc_count)} A/D, ${count(row.cost.dac_count)} D/A` : null],
        ),
      ];
    });
  }

  port(ref) {
    const { port, kind } = this.model.ports.find((entry) => entry.ref === ref);
    const link = kind === "input" ? (value) => this.toNodes(value) : (value) => this.fromNode(value);
    return [el("h2", {}, port.name), el("p", {}, `${kind} of the model`),
      this.rows(["Type", `${port.type.dtype} ${shapeText(port.type.shape)}`], [kind === "input" ? "Read" : "Made", link(port.name)])];
  }
}
