/* The graph: folds, selects, searches, zooms; draws what is in view. */

class GraphView {
  constructor(model, app) {
    this.model = model;
    this.app = app;
    this.layouts = new Layouts(model);
    this.canvas = byId("graph-canvas");
    this.picture = byId("graph");
    this.world = byId("graph-world");
    this.view = { x: 0, y: 0, k: 1 };
    this.hits = [];
    this.cursor = null;
    this.unfoldSome();
    this.listen();
  }

  unfoldSome(room = 30) {
    let visible = this.model.members(0).length;
    const queue = [...this.model.frames[0].frames];
    while (queue.length) {
      const frame = this.model.frames[queue.shift()];
      visible += frame.frames.length + frame.nodes.length;
      if (visible > room) break;
      this.layouts.open.add(frame.id);
      queue.push(...frame.frames);
    }
  }

  /* --- items of the picture, in absolute places --- */

  arrange() {
    const items = [], edges = [];
    const place = (frame, dx, dy, depth) => {
      const layout = this.layouts.of(frame);
      for (const path of layout.paths) edges.push(this.edge(path, dx, dy));
      for (const box of layout.boxes) {
        const id = Number(box.ref.slice(1));
        const open = box.ref[0] === "f" && this.layouts.open.has(id);
        const item = { ...box, x: box.x + dx, y: box.y + dy, open, depth };
        items.push(item);
        if (open) place(id, item.x + PAD + Math.max(0, (224 - 2 * PAD - this.layouts.of(id).width) / 2), item.y + HEAD, depth + 1);
      }
      return layout;
    };
    const whole = place(0, 0, 0, 0);
    this.items = new Map(items.map((item) => [item.ref, item]));
    this.edges = edges;
    this.size = { w: whole.width, h: whole.height };
  }

  edge(path, dx, dy) {
    const xs = path.points.map((p) => p.x), ys = path.points.map((p) => p.y);
    return { ...path, d: smooth(path.points, dx, dy), x: Math.min(...xs) + dx, y: Math.min(...ys) + dy,
      w: Math.max(...xs) - Math.min(...xs), h: Math.max(...ys) - Math.min(...ys) };
  }

  draw() {
    this.arrange();
    this.paint();
    this.minimap();
  }

  /* Only what is near the window is in the document. */
  paint() {
    const { x, y, k } = this.view;
    const [width, height] = [this.canvas.clientWidth / k, this.canvas.clientHeight / k];
    this.painted = { x: -x / k - width / 2, y: -y / k - height / 2, w: 2 * width, h: 2 * height };
    const near = (b) => b.x < this.painted.x + this.painted.w && b.x + b.w > this.painted.x
      && b.y < this.painted.y + this.painted.h && b.y + b.h > this.painted.y;
    const items = [...this.items.values()].filter(near);
    const frames = items.filter((item) => item.open), boxes = items.filter((item) => !item.open);
    const focused = this.world.contains(document.activeElement);
    this.world.replaceChildren(
      ...frames.map((item) => this.frame(item)),
      ...this.edges.filter(near).map((edge) => this.line(edge)),
      ...boxes.map((item) => this.box(item)),
    );
    this.mark();
    this.move();
    if (focused) this.focus();
  }

  move() {
    const { x, y, k } = this.view;
    this.world.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)}) scale(${k.toFixed(4)})`);
    this.picture.classList.toggle("far", k < 0.62);
    this.picture.classList.toggle("tiny", k < 0.3);
    byId("zoom-level").textContent = `${Math.round(100 * k)} %`;
    const seen = { x: -x / k, y: -y / k, w: this.canvas.clientWidth / k, h: this.canvas.clientHeight / k };
    const p = this.painted;
    if (p && (seen.x < p.x || seen.y < p.y || seen.x + seen.w > p.x + p.w || seen.y + seen.h > p.y + p.h)) {
      this.painted = null;
      this.paint();
    }
    this.window();
  }

  line(edge) {
    const kind = `edge${edge.crosses ? " crosses" : ""}${edge.stub ? " stub" : ""}`;
    const types = edge.values.slice(0, 4).map((v) => `${v.slice(0, 80)}: ${this.model.facts.types[v] || "model input"}`);
    return svg("path", { class: kind, d: edge.d }, svg("title", {}, types.join("\n")));
  }

  group(item, kind, label, rest) {
    return svg("g", { class: `item ${kind}`, "data-ref": item.ref, role: "button", tabindex: "-1", "aria-label": label,
      transform: `translate(${item.x.toFixed(1)} ${item.y.toFixed(1)})`, ...rest });
  }

  box(item) {
    const kind = item.ref[0], id = Number(item.ref.slice(1));
    if (kind === "f") return this.folded(item, this.model.frames[id]);
    if (kind === "n") return this.node(item, this.model.nodes[id]);
    const { port } = this.model.ports.find((entry) => entry.ref === item.ref);
    const what = kind === "i" ? "input" : "output";
    const group = this.group(item, "port", `${what} ${port.name}`);
    group.append(
      svg("rect", { class: "box", width: item.w, height: item.h, rx: 15 }),
      svg("text", { x: item.w / 2, y: 19, "text-anchor": "middle" }, fit(`${what} ${port.name}`, item.w - 20, "name")),
    );
    return group;
  }

  node(item, node) {
    const where = node.block !== null ? `block${node.block}` : "digital";
    const label = `${node.op} ${node.name}, ${node.unit}, ${where}, ${shapeText(node.shape)}`;
    const group = this.group(item, node.unit, label);
    const radius = node.unit === "tile" ? 9 : 1;
    const shape = fit(shapeText(node.shape), 96, "dim"), name = fit(node.name, item.w - 88, "name");
    group.append(
      svg("rect", { class: "box", width: item.w, height: item.h, rx: radius }),
      svg("rect", { class: `strip ${node.unit}`, x: 5, y: 6, width: 5, height: item.h - 12 }),
      svg("text", { class: "op", x: 17, y: 17 }, fit(node.op, item.w - 33 - wide(shape, "dim"), "op")),
      svg("text", { class: "dim", x: item.w - 8, y: 17, "text-anchor": "end" }, shape),
      svg("text", { x: 17, y: 33 }, name),
      svg("text", { class: "dim", x: item.w - 8, y: 33, "text-anchor": "end" }, fit(where, 58, "dim")),
      svg("title", {}, `${node.op} ${node.name.slice(0, 300)}`),
    );
    return group;
  }

  folded(item, frame) {
    const unit = this.model.unitOf(frame.id);
    const group = this.group(item, unit, this.frameLabel(frame), { "aria-expanded": "false" });
    const radius = unit === "tile" ? 9 : 1;
    const tile = (item.w - 20) * (frame.n_tile / frame.n_nodes);
    const text = `${plural(frame.n_nodes, "node")}, ${this.frameWork(frame)}`;
    group.append(
      svg("rect", { class: "under", x: 4, y: 4, width: item.w, height: item.h, rx: radius }),
      svg("rect", { class: "box", width: item.w, height: item.h, rx: radius }),
      svg("text", { class: "op", x: 10, y: 18 }, `▸ ${fit(this.frameName(frame), item.w - 34, "op")}`),
      svg("text", { class: "dim", x: 24, y: 33 }, fit(text, item.w - 34, "dim")),
      svg("rect", { class: "strip tile", x: 10, y: 40, width: tile, height: 5 }),
      svg("rect", { class: "strip digital", x: 10 + tile, y: 40, width: item.w - 20 - tile, height: 5 }),
      svg("title", {}, frame.name.slice(0, 300)),
    );
    return group;
  }

  frame(item) {
    const frame = this.model.frames[Number(item.ref.slice(1))];
    const unit = this.model.unitOf(frame.id);
    const group = this.group(item, `frame ${unit}`, this.frameLabel(frame), { "aria-expanded": "true" });
    const work = fit(frame.macs ? `${amount(frame.macs)} MACs` : plural(frame.n_nodes, "node"), 90, "dim");
    group.append(
      svg("rect", { class: "box", width: item.w, height: item.h, rx: unit === "tile" ? 11 : 2 }),
      svg("text", { class: "op", x: 10, y: 18 }, `▾ ${fit(this.frameName(frame), item.w - 130, "op")}`),
      svg("text", { class: "dim", x: item.w - 10, y: 18, "text-anchor": "end" }, work),
    );
    return group;
  }

  frameName(frame) {
    return frame.kind === "run" ? `part ${frame.name}` : frame.name;
  }

  frameWork(frame) {
    if (frame.kind === "block") return `${amount(frame.macs)} MACs on tiles`;
    if (frame.kind === "segment") return "digital";
    return `${count(frame.n_tile)} on tiles, ${amount(frame.macs)} MACs`;
  }

  frameLabel(frame) {
    return `${frame.kind} ${frame.name}, ${plural(frame.n_nodes, "node")}, ${frame.n_tile} on tiles`;
  }

  /* --- folding and selecting --- */

  toggle(frame, open) {
    const set = this.layouts.open;
    const before = this.items.get(`f${frame}`);
    const wanted = open === undefined ? !set.has(frame) : open;
    if (wanted) set.add(frame); else set.delete(frame);
    this.arrange();
    const after = this.items.get(`f${frame}`);
    if (before && after) {
      this.view.x += (before.x - after.x) * this.view.k;
      this.view.y += (before.y - after.y) * this.view.k;
    }
    this.paint();
    this.minimap();
  }

  unfoldAll() {
    let visible = 0;
    const queue = [0];
    while (queue.length) {
      const frame = this.model.frames[queue.shift()];
      visible += frame.frames.length + frame.nodes.length;
      if (visible > 400 && frame.id !== 0) break;
      this.layouts.open.add(frame.id);
      queue.push(...frame.frames);
    }
    this.draw();
    this.fitAll(0.35);
  }

  foldAll() {
    this.layouts.open = new Set([0]);
    this.draw();
    this.fitAll(0.7);
  }

  reveal(ref) {
    const id = Number(ref.slice(1));
    const around = ref[0] === "n" ? this.model.chain(id) : ref[0] === "f" ? this.above(id) : [];
    const closed = around.filter((frame) => !this.layouts.open.has(frame));
    for (const frame of closed) this.layouts.open.add(frame);
    if (closed.length) this.draw();
    this.center(ref);
  }

  above(frame) {
    const found = [];
    for (let up = this.model.frames[frame].parent; up !== null; up = this.model.frames[up].parent) found.push(up);
    return found;
  }

  center(ref) {
    const item = this.items.get(ref), { k } = this.view;
    if (!item) return;
    if (k < 0.62) this.view.k = 1;
    this.view.x = this.canvas.clientWidth / 2 - (item.x + item.w / 2) * this.view.k;
    this.view.y = this.canvas.clientHeight / 2 - (item.y + Math.min(item.h, 120) / 2) * this.view.k;
    this.painted = null;
    this.paint();
  }

  select(ref) {
    this.cursor = ref;
    this.mark();
    this.app.show(ref);
  }

  mark() {
    for (const group of this.world.querySelectorAll(".item")) {
      const { ref } = group.dataset;
      group.classList.toggle("selected", ref === this.cursor);
      group.classList.toggle("hit", this.hits.includes(ref));
      group.setAttribute("tabindex", ref === this.cursor || (!this.cursor && ref === "i0") ? "0" : "-1");
    }
  }

  focus() {
    const group = this.cursor && this.world.querySelector(`[data-ref="${this.cursor}"]`);
    if (group) group.focus({ preventScroll: true });
  }

  /* --- zooming and panning --- */

  zoom(factor, x = this.canvas.clientWidth / 2, y = this.canvas.clientHeight / 2) {
    const k = Math.min(3, Math.max(0.04, this.view.k * factor));
    this.view.x = x - ((x - this.view.x) * k) / this.view.k;
    this.view.y = y - ((y - this.view.y) * k) / this.view.k;
    this.view.k = k;
    this.move();
  }

  fitAll(least = 0) {
    const [width, height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const k = Math.max(least, Math.min(1.15, (width - 40) / this.size.w, (height - 30) / this.size.h));
    const first = this.items.values().next().value;
    const middle = this.size.w * k > width && first ? first.x + first.w / 2 : this.size.w / 2;
    this.view = { k, x: width / 2 - middle * k, y: Math.max(15, (height - this.size.h * k) / 2) };
    this.painted = null;
    this.paint();
    this.minimap();
  }

  /* --- the small map in the corner --- */

  minimap() {
    const canvas = byId("minimap");
    const scale = Math.min(150 / this.size.w, 170 / this.size.h);
    this.mapScale = scale;
    const [width, height] = [Math.max(24, this.size.w * scale), Math.max(24, this.size.h * scale)];
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    this.mapPen = sized(canvas, width, height);
    const tones = { tile: "tile", digital: "digital", mixed: "strong" };
    this.mapDots = [...this.items.values()].map((item) => {
      const id = Number(item.ref.slice(1));
      const unit = item.ref[0] === "n" ? this.model.nodes[id].unit : item.ref[0] === "f" ? this.model.unitOf(id) : "mixed";
      return { ...item, tone: tones[unit] };
    });
    this.window();
  }

  window() {
    if (!this.mapPen) return;
    const { x, y, k } = this.view, s = this.mapScale, pen = this.mapPen;
    const [width, height] = [this.canvas.clientWidth / k, this.canvas.clientHeight / k];
    const all = -x / k <= 0 && -y / k <= 0 && -x / k + width >= this.size.w && -y / k + height >= this.size.h;
    byId("minimap").hidden = all;
    if (all) return;
    pen.clearRect(0, 0, 400, 400);
    for (const dot of this.mapDots) {
      pen.fillStyle = pen.strokeStyle = colour(dot.open ? "line" : dot.tone);
      if (dot.open) pen.strokeRect(dot.x * s, dot.y * s, dot.w * s, dot.h * s);
      else pen.fillRect(dot.x * s, dot.y * s, Math.max(1, dot.w * s), Math.max(1, dot.h * s));
    }
    pen.strokeStyle = colour("accent");
    pen.lineWidth = 1.5;
    pen.strokeRect((-x / k) * s, (-y / k) * s, width * s, height * s);
  }

  /* --- search --- */

  search(text) {
    const words = text.trim().toLowerCase();
    const found = words ? this.model.nodes.map((node, index) => [node, index]).filter(([node]) =>
      `${node.name} ${node.op} ${node.location}`.toLowerCase().includes(words)).map(([, index]) => index) : [];
    const exact = found.findIndex((index) => this.model.nodes[index].name.toLowerCase() === words);
    if (exact > 0) found.unshift(...found.splice(exact, 1));
    this.hits = found.map((index) => `n${index}`);
    this.hit = -1;
    byId("found").textContent = words ? plural(found.length, "node") : "";
    byId("hits").hidden = !found.length;
    byId("hits").replaceChildren(...found.slice(0, 50).map((index, place) => {
      const node = this.model.nodes[index];
      return el("li", {}, el("button", { type: "button", onclick: () => this.go(place) }, `${node.name.slice(0, 120)}  (${node.op}, ${node.unit})`));
    }));
    this.mark();
  }

  go(place) {
    if (!this.hits.length) return;
    this.hit = (place + this.hits.length) % this.hits.length;
    byId("found").textContent = `${this.hit + 1} of ${this.hits.length}`;
    byId("hits").hidden = true;
    const ref = this.hits[this.hit];
    this.reveal(ref);
    this.select(ref);
  }

  /* --- events --- */

  listen() {
    this.picture.addEventListener("click", (event) => this.click(event));
    this.picture.addEventListener("keydown", (event) => this.key(event));
    this.picture.addEventListener("wheel", (event) => {
      event.preventDefault();
      const at = this.picture.getBoundingClientRect();
      this.zoom(Math.exp(-Math.max(-60, Math.min(60, event.deltaY)) / 300), event.clientX - at.left, event.clientY - at.top);
    }, { passive: false });
    this.picture.addEventListener("pointerdown", (event) => this.drag(event));
    byId("zoom-in").addEventListener("click", () => this.zoom(1.25));
    byId("zoom-out").addEventListener("click", () => this.zoom(0.8));
    byId("fit").addEventListener("click", () => this.fitAll());
    byId("unfold").addEventListener("click", () => this.unfoldAll());
    byId("fold").addEventListener("click", () => this.foldAll());
    byId("minimap").addEventListener("pointerdown", (event) => {
      const { k } = this.view;
      this.view.x = this.canvas.clientWidth / 2 - (event.offsetX / this.mapScale) * k;
      this.view.y = this.canvas.clientHeight / 2 - (event.offsetY / this.mapScale) * k;
      this.move();
    });
    const box = byId("search");
    box.addEventListener("input", () => this.search(box.value));
    box.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.go(this.hit + (event.shiftKey ? -1 : 1));
      if (event.key === "Escape") { box.value = ""; this.search(""); }
    });
  }

  click(event) {
    if (this.dragged) return;
    const group = event.target.closest(".item");
    if (!group) { this.select(null); return; }
    this.act(group.dataset.ref, event.clientY - group.getBoundingClientRect().top);
    this.focus();
  }

  /* A folded frame unfolds; an unfolded one folds by its head; everything else is selected. */
  act(ref, depth = 0) {
    if (ref[0] === "f") {
      const id = Number(ref.slice(1));
      if (!this.layouts.open.has(id) || depth < HEAD * this.view.k) this.toggle(id);
    }
    this.select(ref);
  }

  drag(event) {
    if (event.button !== 0) return;
    const start = { x: event.clientX, y: event.clientY, view: { ...this.view } };
    this.dragged = false;
    const move = (now) => {
      const [dx, dy] = [now.clientX - start.x, now.clientY - start.y];
      if (!this.dragged && Math.hypot(dx, dy) < 4) return;
      this.dragged = true;
      this.picture.classList.add("dragging");
      this.view.x = start.view.x + dx;
      this.view.y = start.view.y + dy;
      this.move();
    };
    const stop = () => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", stop);
      this.picture.classList.remove("dragging");
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", stop);
  }

  key(event) {
    const steps = { ArrowDown: [0, 1], ArrowUp: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };
    if (event.key in steps) this.step(...steps[event.key]);
    else if (event.key === "Enter" || event.key === " ") { if (this.cursor) { this.act(this.cursor); this.focus(); } }
    else if (event.key === "+" || event.key === "=") this.zoom(1.25);
    else if (event.key === "-") this.zoom(0.8);
    else if (event.key === "0") this.fitAll();
    else if (event.key === "Escape") this.select(null);
    else return;
    event.preventDefault();
  }

  /* To the nearest box in a direction. */
  step(dx, dy) {
    const here = this.items.get(this.cursor) || { x: 0, y: -1, w: this.size.w, h: 0 };
    const middle = (item) => [item.x + item.w / 2, item.y + (item.open ? HEAD / 2 : item.h / 2)];
    const [x, y] = middle(here);
    let best = null, least = Infinity;
    for (const item of this.items.values()) {
      const [a, b] = middle(item);
      const along = (a - x) * dx + (b - y) * dy, across = Math.abs((a - x) * dy) + Math.abs((b - y) * dx);
      if (along > 2 && along + 2 * across < least) { least = along + 2 * across; best = item; }
    }
    if (!best) return;
    this.select(best.ref);
    const { k } = this.view, [a, b] = middle(best);
    const [px, py] = [a * k + this.view.x, b * k + this.view.y];
    if (px < 60 || py < 30 || px > this.canvas.clientWidth - 60 || py > this.canvas.clientHeight - 30) this.center(best.ref);
    this.focus();
  }
}
