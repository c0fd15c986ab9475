/* The graph: folds, selects, searches, zooms. */

class GraphView extends GraphPicture {
  constructor(model, app) {
    super(model);
    this.app = app;
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
    byId("map-fold").addEventListener("click", (event) => {
      const folded = !byId("map-room").hidden;
      byId("map-room").hidden = folded;
      event.target.setAttribute("aria-expanded", String(!folded));
      event.target.textContent = folded ? "▸ map" : "▾ map";
      this.window();
    });
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
