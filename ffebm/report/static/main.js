/* Ties the views together. */

const model = new Model(embeddedFacts());

const app = {
  drawn: new Set(),
  sizes: new Map(),
  schedule: "inference",

  start() {
    this.graph = new GraphView(model, this);
    this.detail = new Detail(model, this);
    this.views = {
      graph: () => { this.graph.draw(); this.graph.fitAll(1); },
      tiles: () => { this.floor = this.floor || new FloorView(model, this); this.floor.draw(); },
      timeline: () => { this.timeline = this.timeline || new TimelineView(model, this); this.timeline.load(this.schedule); this.timeline.draw(); },
      memory: () => { this.memory = this.memory || new MemoryView(model); this.memory.load(this.schedule); this.memory.draw(); },
      bill: () => { this.bill = this.bill || new BillView(model); this.bill.load(this.schedule); },
      nodes: () => { this.nodes = this.nodes || new NodeTable(model, this); this.nodes.table.draw(); },
      run: () => { this.run = this.run || (byId("run-view") && new RunView(model, this)); if (this.run) this.run.draw(); },
      machine: () => {},
    };
    this.tabs = [...document.querySelectorAll("nav [role=tab]")];
    for (const tab of this.tabs) {
      tab.addEventListener("click", () => this.open(tab.dataset.view));
      tab.addEventListener("keydown", (event) => this.arrow(event));
    }
    for (const select of document.querySelectorAll("select.schedule"))
      select.addEventListener("change", () => this.choose(select.value));
    watchTheme();
    repaints.push(() => this.redraw());
    addEventListener("resize", () => this.resize());
    addEventListener("beforeprint", () => this.print());
    addEventListener("afterprint", () => this.printed());
    listenForTips();
    this.legend();
    this.open("graph");
    document.documentElement.dataset.ready = "yes";
  },

  open(name) {
    this.current = name;
    for (const tab of this.tabs) {
      const here = tab.dataset.view === name;
      tab.setAttribute("aria-selected", String(here));
      tab.setAttribute("tabindex", here ? "0" : "-1");
      byId(`${tab.dataset.view}-view`).hidden = !here;
    }
    const size = `${innerWidth} × ${innerHeight}`, fresh = this.sizes.get(name) === size;
    this.sizes.set(name, size);
    if (!this.drawn.has(name)) { this.drawn.add(name); this.views[name](); }
    else if (!fresh) this.resize(); // the window changed while another view was open
  },

  arrow(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    const next = this.tabs[(this.tabs.indexOf(event.target) + by + this.tabs.length) % this.tabs.length];
    this.open(next.dataset.view);
    next.focus();
  },

  choose(schedule) {
    this.schedule = schedule;
    for (const select of document.querySelectorAll("select.schedule")) select.value = schedule;
    for (const name of ["timeline", "memory", "bill"]) {
      this.drawn.delete(name);
      if (this.current === name) this.open(name);
    }
  },

  redraw() {
    this.graph.minimap();
    this.legend();
    for (const name of ["tiles", "timeline", "memory", "bill"]) {
      this.drawn.delete(name);
      if (!byId(`${name}-view`) || byId(`${name}-view`).hidden) continue;
      this.drawn.add(name);
      this.views[name]();
    }
  },

  resize() {
    this.sizes.set(this.current, `${innerWidth} × ${innerHeight}`);
    if (this.current === "graph") { this.graph.painted = null; this.graph.paint(); this.graph.window(); }
    if (this.current === "tiles") this.floor.fillGrid();
    if (this.current === "timeline") this.timeline.draw();
    if (this.current === "memory") this.memory.draw();
    if (this.current === "nodes") this.nodes.table.draw();
    if (this.current === "bill") this.bill.table.draw();
    if (this.current === "run") this.run.draw();
  },

  /* On paper everything is there, one view after the other. */
  print() {
    this.before = { theme: document.documentElement.dataset.theme, view: { ...this.graph.view } };
    for (const tab of this.tabs) byId(`${tab.dataset.view}-view`).hidden = false;
    for (const name of Object.keys(this.views)) if (!this.drawn.has(name)) { this.drawn.add(name); this.views[name](); }
    document.documentElement.dataset.theme = "light";
    repaint();
    this.graph.fitAll();
    byId("lanes").style.height = `${this.timeline.whole()}px`;
    byId("lanes").style.width = "1000px";
    for (const table of [this.nodes.table, this.bill.table]) table.draw(table.rows.length <= 3000);
    if (this.run) this.run.draw(true);
    this.timeline.draw();
    this.memory.draw();
    this.floor.paper = true;
    this.floor.fillGrid();
  },

  printed() {
    const { theme, view } = this.before;
    if (theme) document.documentElement.dataset.theme = theme; else delete document.documentElement.dataset.theme;
    byId("lanes").removeAttribute("style");
    this.floor.paper = false;
    this.open(this.current);
    repaint();
    this.graph.view = view;
    this.graph.painted = null;
    this.graph.paint();
    for (const table of [this.nodes.table, this.bill.table]) table.draw();
    if (this.run) this.run.draw();
  },

  legend() {
    const key = byId("graph-legend");
    const box = (unit) => svg("svg", { class: "g", width: 26, height: 16, "aria-hidden": "true" }, svg("g", { class: unit },
      svg("rect", { class: "box", x: 1, y: 1, width: 24, height: 14, rx: unit === "tile" ? 6 : 1 }), svg("rect", { class: `strip ${unit}`, x: 4, y: 4, width: 4, height: 8 })));
    const line = (kind) => svg("svg", { class: "g", width: 26, height: 10, "aria-hidden": "true" }, svg("path", { class: `edge ${kind}`, d: "M1 5H19" }));
    key.replaceChildren(el("span", {}, box("tile"), "on tiles"), el("span", {}, box("digital"), "digital"),
      el("span", {}, line(""), "stays on its unit"), el("span", {}, line("crosses"), "crosses the network"));
  },

  show(ref) { this.detail.show(ref); },
  goto(ref) { this.graph.reveal(ref); this.graph.select(ref); },
  openNode(index) { this.open("graph"); this.goto(`n${index}`); },
  openBlock(id) {
    const frame = model.frames.find((entry) => entry.kind === "block" && entry.name === `block${id}`);
    this.open("graph");
    this.goto(frame ? `f${frame.id}` : `n${model.nodes.findIndex((node) => node.block === id)}`);
  },
  openTile(id) {
    this.open("tiles");
    this.floor.choose(id);
    this.floor.reveal(id);
  },
};
app.start();
