/* The graph as a picture: places of boxes, frames and lines; only what is near the window is in the document. */

class GraphPicture {
  constructor(model) {
    this.model = model;
    this.layouts = new Layouts(model);
    this.canvas = byId("graph-canvas");
    this.picture = byId("graph");
    this.world = byId("graph-world");
    this.view = { x: 0, y: 0, k: 1 };
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
    const kind = `edge${edge.crosses ? " crosses" : ""}${edge.stub ? " stub" : ""}${edge.aside ? " aside" : ""}`;
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

  /* --- the small map below the details --- */

  minimap() {
    const canvas = byId("minimap");
    const scale = Math.min((innerWidth > 1000 ? 326 : 256) / this.size.w, 170 / this.size.h);
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
    if (byId("map-box").hidden !== all) byId("map-box").hidden = all;
    if (all || byId("map-room").hidden) return;
    pen.clearRect(0, 0, 400, 400);
    for (const dot of this.mapDots) {
      pen.fillStyle = pen.strokeStyle = colour(dot.open ? "line" : dot.tone);
      if (dot.open) pen.strokeRect(dot.x * s, dot.y * s, dot.w * s, dot.h * s);
      else pen.fillRect(dot.x * s, dot.y * s, Math.max(1, dot.w * s), Math.max(1, dot.h * s));
    }
    pen.strokeStyle = colour("accent");
    pen.lineWidth = 1.5;
    const [left, top] = [Math.max(1, (-x / k) * s), Math.max(1, (-y / k) * s)];
    const [right, bottom] = [Math.min(this.size.w * s - 1, (width - x / k) * s), Math.min(this.size.h * s - 1, (height - y / k) * s)];
    pen.strokeRect(left, top, Math.max(2, right - left), Math.max(2, bottom - top));
  }
}
