/* The timeline: a row a unit, the critical path on top, drawn on a canvas as large as its window. */

const AXIS = 24, LABEL = 92;

class TimelineView {
  constructor(model, app) {
    this.model = model;
    this.app = app;
    this.frame = byId("lanes");
    this.canvas = byId("timeline");
    this.step = null;
    this.dim = false;
    this.listen();
  }

  load(name) {
    this.name = name;
    this.t = this.model.facts[name];
    this.rows = this.t.units.map(() => []);
    this.t.unit.forEach((set, step) => this.t.unit_sets[set].forEach((unit) => this.rows[unit].push(step)));
    this.critical = new Set(this.t.critical);
    this.lanes = [["critical path", this.t.critical], ...this.t.units.map((unit, row) => [unit, this.rows[row]])];
    this.high = this.lanes.length <= 22 ? 22 : 16;
    this.from = 0;
    this.to = this.t.makespan_s || 1;
    this.step = null;
    byId("lane-space").style.height = `${AXIS + this.lanes.length * this.high + 8}px`;
    this.legend();
  }

  legend() {
    const kinds = this.t.kinds.map((kind) => el("span", {}, swatch(kind), KIND_NAMES[kind]));
    byId("kind-legend").replaceChildren(...kinds);
    const t = this.t;
    byId("timeline-facts").textContent = `${plural(t.kind.length, "step")}, ${quantity(t.makespan_s, "s")}; lower bound `
      + `${quantity(t.lower_bound_s, "s")} (${t.lower_bound}), ratio ${t.ratio.toFixed(3)}; `
      + `batch of ${this.model.facts.batch}; a further one takes ${quantity(t.interval_s, "s")} (${t.interval_limit || "-"})`
      + (t.interval_turns.length ? `: ${t.interval_turns.join(", ")} take turns` : "");
  }

  draw() {
    if (!this.frame.clientWidth) return;
    const [width, height] = [this.frame.clientWidth, Math.max(60, this.frame.clientHeight)];
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const pen = sized(this.canvas, width, height);
    this.pen = pen;
    pen.fillStyle = colour("panel");
    pen.fillRect(0, 0, width, height);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.scale = (width - LABEL - 12) / (this.to - this.from);
    const first = Math.max(0, Math.floor(this.frame.scrollTop / this.high));
    const last = Math.min(this.lanes.length, first + Math.ceil(height / this.high) + 1);
    for (let lane = first; lane < last; lane++) this.lane(lane, AXIS + lane * this.high - this.frame.scrollTop, width);
    this.axis(width, height);
    this.describe();
  }

  whole() {
    return Math.min(640, AXIS + this.lanes.length * this.high + 8);
  }

  x(seconds) {
    return LABEL + (seconds - this.from) * this.scale;
  }

  lane(number, y, width) {
    const [name, steps] = this.lanes[number], pen = this.pen;
    pen.fillStyle = colour(number % 2 ? "panel" : "sunken");
    pen.fillRect(0, y, width, this.high);
    const { start_s, free_s } = this.t;
    let low = 0, high = steps.length;
    while (low < high) { const middle = (low + high) >> 1; if (free_s[steps[middle]] < this.from) low = middle + 1; else high = middle; }
    let right = -1;
    for (let at = low; at < steps.length && start_s[steps[at]] <= this.to; at++) {
      const step = steps[at];
      const x0 = Math.max(LABEL, this.x(start_s[step])), x1 = Math.min(width, this.x(free_s[step]));
      if (x1 <= right && step !== this.step) continue;
      this.bar(step, number, x0, Math.max(x1, x0 + 1), y);
      right = Math.max(x1, x0 + 1);
    }
    pen.fillStyle = colour("sunken");
    pen.fillRect(0, y, LABEL, this.high);
    pen.fillStyle = colour("ink");
    pen.textAlign = "left";
    pen.fillText(name, 8, y + this.high / 2 + 0.5);
  }

  bar(step, lane, x0, x1, y) {
    const pen = this.pen, kind = this.t.kinds[this.t.kind[step]], wide = x1 - x0;
    const critical = this.critical.has(step);
    pen.globalAlpha = this.dim && !critical ? 0.25 : 1;
    pen.fillStyle = wide > 3 ? kindFill(pen, kind) : colour(kindColour(kind));
    pen.fillRect(x0, y + 2, wide, this.high - 4);
    if (critical && lane > 0) {
      pen.fillStyle = colour("ink");
      pen.fillRect(x0, y + this.high - 3, wide, 2);
    }
    const text = this.t.names[this.t.name[step]];
    if (wide > 34) {
      const shown = fit(text, wide - 8, "name");
      if (shown === text || shown.length > 8) { // a stump says nothing and hides the pattern
        const room = pen.measureText(shown).width;
        pen.fillStyle = colour("panel");
        pen.fillRect(x0 + 2, y + 3, room + 4, this.high - 7);
        pen.fillStyle = colour("ink");
        pen.textAlign = "left";
        pen.fillText(shown, x0 + 4, y + this.high / 2);
      }
    }
    if (step === this.step) {
      pen.strokeStyle = colour("accent");
      pen.lineWidth = 2.5;
      pen.strokeRect(x0 - 1, y + 1, wide + 2, this.high - 2);
    }
    pen.globalAlpha = 1;
  }

  axis(width, height) {
    const pen = this.pen, rough = (this.to - this.from) / Math.max(2, Math.floor((width - LABEL) / 110));
    const power = 10 ** Math.floor(Math.log10(rough));
    const pitch = [1, 2, 5, 10].map((f) => f * power).find((step) => step >= rough);
    pen.fillStyle = colour("sunken");
    pen.fillRect(0, 0, width, AXIS - 2);
    pen.fillStyle = colour("ink");
    pen.textAlign = "left";
    pen.fillText("time", 8, AXIS / 2 - 1);
    pen.strokeStyle = colour("line");
    pen.lineWidth = 1;
    for (let tick = Math.ceil(this.from / pitch); tick * pitch <= this.to; tick++) {
      const x = Math.round(this.x(tick * pitch)) + 0.5, text = tick === 0 ? "0 s" : quantity(Number((tick * pitch).toPrecision(9)), "s");
      pen.beginPath();
      pen.moveTo(x, AXIS - 6);
      pen.lineTo(x, height);
      pen.globalAlpha = 0.7;
      pen.stroke();
      pen.globalAlpha = 1;
      if (x + pen.measureText(text).width + 6 < width) pen.fillText(text, x + 4, AXIS / 2 - 1);
    }
  }

  describe() {
    const box = byId("step"), step = this.step;
    if (step === null) {
      box.replaceChildren(el("p", { class: "muted" }, "Click a step, or move with the arrow keys, to see what it does, waits for and costs. "
        + "A line under a step marks the critical path: the longest chain of steps that wait for each other; its steps are repeated in the top row."));
      return;
    }
    const t = this.t, kind = t.kinds[t.kind[step]], cost = t.costs[t.cost[step]];
    const names = (list) => list.slice(0, 8).map((other) => `${KIND_NAMES[t.kinds[t.kind[other]]]} ${t.names[t.name[other]].slice(0, 60)}`).join(", ") + (list.length > 8 ? ` and ${list.length - 8} more` : "");
    const energies = Object.keys(this.model.facts.energy_basis).filter((key) => cost[key]);
    const all = energies.reduce((sum, key) => sum + cost[key], 0);
    const rows = t.bands[t.band[step]];
    const units = t.unit_sets[t.unit[step]].map((unit) => t.units[unit]);
    const pairs = [
      ...(kind === "digital" && t.fused[t.names[t.name[step]]] ? [["Does first", t.fused[t.names[t.name[step]]].join(", ").slice(0, 200)]] : []),
      ["Units", units.slice(0, 12).join(", ") + (units.length > 12 ? ` and ${units.length - 12} more` : "")],
      ...(rows ? [["Rows", `${count(rows[0])} to ${count(rows[1] - 1)}`]] : []),
      ["Starts", quantity(t.start_s[step], "s")],
      ["Takes", el("span", basis(this.model.facts.time_basis[kind], `Time of a step of kind ${KIND_NAMES[kind]}`), quantity(t.end_s[step] - t.start_s[step], "s"))],
      ...(t.lags_s[t.lag[step]] ? [["Leaves units", `${quantity(t.lags_s[t.lag[step]], "s")} before it ends`]] : []),
      ["Critical", this.critical.has(step) ? "yes" : "no"],
      ["Waits for", names(t.after[step]) || "nothing"],
      ["Energy", el("span", basis(energies.flatMap((key) => this.model.facts.energy_basis[key]), "Energy of the step"), quantity(all, "J"))],
      ["of which", energies.map((key) => `${KIND_NAMES[key]} ${quantity(cost[key], "J")}`).join(", ") || "none"],
      ["Converts", `${count(cost.adc_count)} A/D, ${count(cost.dac_count)} D/A`],
    ];
    box.replaceChildren(el("p", {}, swatch(kind), " ", el("b", {}, `${KIND_NAMES[kind]}: ${t.names[t.name[step]].slice(0, 200)}`), "  ", this.link(step)),
      el("dl", { class: "facts" }, pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
  }

  link(step) {
    const name = this.t.names[this.t.name[step]], block = name.match(/^block(\d+)( [+-]beta)?$/);
    const index = this.model.byName.has(name) ? this.model.byName.get(name) : this.model.makers.get(name);
    if (block) return el("button", { class: "link", type: "button", onclick: () => this.app.openBlock(Number(block[1])) }, "show in the graph");
    if (index === undefined) return "";
    return el("button", { class: "link", type: "button", onclick: () => this.app.openNode(index) }, "show in the graph");
  }

  zoom(factor, at = (this.from + this.to) / 2) {
    const whole = this.t.makespan_s || 1;
    const span = Math.min(whole, Math.max(whole / 1e6, (this.to - this.from) * factor));
    const share = (at - this.from) / (this.to - this.from);
    this.from = Math.max(0, Math.min(whole - span, at - share * span));
    this.to = this.from + span;
    this.draw();
  }

  pan(seconds) {
    const span = this.to - this.from;
    this.from = Math.max(0, Math.min((this.t.makespan_s || 1) - span, this.from + seconds));
    this.to = this.from + span;
    this.draw();
  }

  at(event) {
    const place = this.canvas.getBoundingClientRect();
    return { seconds: this.from + (event.clientX - place.left - LABEL) / this.scale,
      lane: Math.floor((event.clientY - place.top - AXIS + this.frame.scrollTop) / this.high) };
  }

  pick(event) {
    const { seconds, lane } = this.at(event), slack = 2 / this.scale;
    if (!this.lanes[lane]) return;
    const near = this.lanes[lane][1].filter((step) => this.t.start_s[step] - slack <= seconds && this.t.free_s[step] + slack >= seconds);
    const off = (step) => Math.max(this.t.start_s[step] - seconds, seconds - this.t.free_s[step], 0);
    near.sort((a, b) => off(a) - off(b));
    this.row = lane;
    this.step = near.length ? near[0] : null;
    this.draw();
  }

  listen() {
    this.frame.addEventListener("scroll", () => this.draw());
    this.canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey && !event.metaKey) return;
      event.preventDefault();
      if (event.shiftKey) this.pan(((event.deltaY || event.deltaX) / 600) * (this.to - this.from));
      else this.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 200), this.at(event).seconds);
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", (event) => {
      let last = event.clientX, moved = 0;
      const move = (now) => { moved += Math.abs(now.clientX - last); this.pan((last - now.clientX) / this.scale); last = now.clientX; };
      const stop = () => {
        removeEventListener("pointermove", move);
        removeEventListener("pointerup", stop);
        if (moved < 4) this.pick(event);
      };
      addEventListener("pointermove", move);
      addEventListener("pointerup", stop);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    byId("time-in").addEventListener("click", () => this.zoom(0.6));
    byId("time-out").addEventListener("click", () => this.zoom(1 / 0.6));
    byId("time-all").addEventListener("click", () => { this.from = 0; this.to = this.t.makespan_s || 1; this.draw(); });
    byId("dim").addEventListener("change", (event) => { this.dim = event.target.checked; this.draw(); });
  }

  key(event) {
    if (event.key === "ArrowRight") this.walk(1);
    else if (event.key === "ArrowLeft") this.walk(-1);
    else if (event.key === "ArrowDown") this.change(1);
    else if (event.key === "ArrowUp") this.change(-1);
    else if (event.key === "+" || event.key === "=") this.zoom(0.6);
    else if (event.key === "-") this.zoom(1 / 0.6);
    else if (event.key === "0") byId("time-all").click();
    else return;
    event.preventDefault();
  }

  walk(by) {
    const steps = this.lanes[this.row || 0][1], here = steps.indexOf(this.step);
    this.show(steps[Math.max(0, Math.min(steps.length - 1, here < 0 ? 0 : here + by))]);
  }

  change(by) {
    this.row = Math.max(0, Math.min(this.lanes.length - 1, (this.row || 0) + by));
    const start = this.step === null ? 0 : this.t.start_s[this.step];
    const steps = this.lanes[this.row][1];
    this.show(steps.find((step) => this.t.end_s[step] > start) ?? steps[steps.length - 1]);
  }

  /* Select a step and bring it into view. */
  show(step) {
    if (step === undefined) return;
    this.step = step;
    const [start, end] = [this.t.start_s[step], this.t.end_s[step]];
    if (start < this.from || end > this.to) this.pan(Math.min(start - this.from, start - (this.to - this.from) * 0.1 - this.from));
    const y = (this.row || 0) * this.high, top = this.frame.scrollTop;
    if (y < top || y > top + this.frame.clientHeight - AXIS - 2 * this.high) this.frame.scrollTop = Math.max(0, y - this.frame.clientHeight / 2);
    this.draw();
  }
}
