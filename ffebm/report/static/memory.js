/* Memory over time: bytes upwards, a rectangle a buffer, as high as it is large and as long as it lives. */

const CONTENTS = {
  value: ["free", "value"], error: ["digital_backward", "error current"], plus: ["nudged", "state nudged up"],
  minus: ["contrast", "state nudged down"], gradient: ["update", "gradient"],
};
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB"];
function binary(value) {
  let power = 0;
  while (power < 4 && value >= 1024 ** (power + 1)) power++;
  return `${digits(value / 1024 ** power)} ${BYTES[power]}`;
}

class MemoryView {
  constructor(model) {
    this.model = model;
    this.canvas = byId("memory");
    this.home = byId("memory-home");
    this.home.addEventListener("change", () => this.draw());
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("keydown", (event) => this.arrow(event));
  }

  load(name) {
    this.s = this.model.facts[`${name}_storage`];
    this.t = this.model.facts[name];
    this.home.replaceChildren(...this.s.homes.map(([memory, unit], at) => el("option", { value: at }, unit.startsWith("block") ? `${memory} beside each tile of ${unit}` : `${memory} of ${unit}`)));
    byId("memory-legend").replaceChildren(...this.s.contents.map((content) => el("span", {}, swatch(CONTENTS[content][0]), CONTENTS[content][1])));
    byId("memory-uses").replaceChildren(...this.s.uses.map((use) => el("tr", {}, el("td", {}, use.memory),
      ...[use.peak, use.bound, use.capacity].map((bytes) => el("td", { class: "n" }, binary(bytes))), el("td", { class: "n" }, (use.peak / use.bound).toFixed(3)))));
    const unsized = this.s.unsized ? [`${plural(this.s.unsized, "value")} of unknown size not counted`] : [];
    const spills = this.s.spills.map((way) => `${plural(way.count, "buffer")} found no room in ${way.wanted}, and in ${way.memory} move ${binary(way.traffic)} for ${quantity(way.joules, "J")}`);
    byId("memory-spills").textContent = [...spills, ...unsized].join("; ");
    this.at = undefined;
    this.tell(null);
  }

  /* Seconds from which and up to which a buffer lives. */
  life(buffer) {
    const { first, last } = this.s, { start_s, end_s, makespan_s } = this.t;
    return [first[buffer] < 0 ? 0 : start_s[first[buffer]], last[buffer] < 0 ? 0 : last[buffer] >= end_s.length ? makespan_s : end_s[last[buffer]]];
  }

  draw() {
    const frame = byId("memory-frame"), width = frame.clientWidth, height = Math.max(120, frame.clientHeight);
    if (!width) return;
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const pen = sized(this.canvas, width, height), home = Number(this.home.value || 0);
    this.here = this.s.home.map((at, buffer) => (at === home ? buffer : -1)).filter((buffer) => buffer >= 0);
    const use = this.s.uses.find((entry) => entry.memory === (this.s.homes[home] || [])[0]);
    this.top = Math.max(1, ...this.here.map((buffer) => this.s.offset[buffer] + this.s.size[buffer]));
    const room = { left: 84, right: width - 12, top: 14, bottom: height - 26 };
    this.x = (seconds) => room.left + ((room.right - room.left) * seconds) / (this.t.makespan_s || 1);
    this.y = (bytes) => room.bottom - ((room.bottom - room.top) * bytes) / (1.04 * this.top);
    pen.fillStyle = colour("panel");
    pen.fillRect(0, 0, width, height);
    for (const buffer of this.here) this.buffer(pen, buffer);
    this.axes(pen, room, use);
    this.tell(this.at === undefined ? null : this.at);
  }

  box(buffer) {
    const [from, until] = this.life(buffer), { offset, size } = this.s;
    const x = this.x(from), y = this.y(offset[buffer] + size[buffer]);
    return [x, y, Math.max(1, this.x(until) - x), Math.max(0.7, this.y(offset[buffer]) - y)];
  }

  buffer(pen, buffer) {
    const [x, y, wide, high] = this.box(buffer);
    pen.fillStyle = kindFill(pen, CONTENTS[this.s.contents[this.s.content[buffer]]][0]);
    pen.fillRect(x, y, wide, high);
    if (wide < 3 || high < 3) return;
    pen.strokeStyle = colour(buffer === this.at ? "ink" : "panel");
    pen.lineWidth = buffer === this.at ? 2 : 0.7;
    pen.strokeRect(x + 0.5, y + 0.5, wide - 1, high - 1);
  }

  axes(pen, room, use) {
    pen.font = "11px system-ui, sans-serif";
    pen.fillStyle = colour("muted");
    pen.strokeStyle = colour("muted");
    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const part of [0, 0.25, 0.5, 0.75, 1]) pen.fillText(binary(Math.round(part * this.top)), room.left - 6, this.y(part * this.top));
    pen.textBaseline = "top";
    pen.textAlign = "center";
    for (const part of [0, 0.25, 0.5, 0.75, 1]) pen.fillText(quantity(part * this.t.makespan_s, "s"), Math.min(room.right - 26, Math.max(room.left + 12, this.x(part * this.t.makespan_s))), room.bottom + 8);
    pen.strokeRect(room.left - 0.5, room.top, room.right - room.left, room.bottom - room.top + 0.5);
    if (!use) return;
    pen.setLineDash([6, 4]);
    pen.beginPath();
    pen.moveTo(room.left, this.y(use.bound));
    pen.lineTo(room.right, this.y(use.bound));
    pen.stroke();
    pen.setLineDash([]);
    pen.textAlign = "right";
    pen.textBaseline = "bottom";
    pen.fillStyle = colour("ink");
    if (use.bound <= 1.04 * this.top) pen.fillText(`bound ${binary(use.bound)}`, room.right - 4, this.y(use.bound) - 2);
  }

  hover(event) {
    const [x, y] = [event.offsetX, event.offsetY];
    this.tell(this.here.find((buffer) => {
      const [left, top, wide, high] = this.box(buffer);
      return x >= left && x <= left + wide && y >= top && y <= top + high;
    }) ?? null);
  }

  arrow(event) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by || !this.here.length) return;
    const place = this.here.indexOf(this.at);
    this.at = this.here[Math.min(this.here.length - 1, Math.max(0, place + by))];
    this.draw();
    event.preventDefault();
  }

  tell(buffer) {
    if (buffer === null) { byId("memory-buffer").textContent = "Point at a buffer, or walk with the arrow keys."; return; }
    const { names, name, contents, content, size, offset, first, last } = this.s, [from, until] = this.life(buffer);
    const step = (id) => (id < 0 ? "the start" : id >= this.t.kind.length ? "the end" : `step ${count(id)} (${KIND_NAMES[this.t.kinds[this.t.kind[id]]]} ${this.t.names[this.t.name[id]]})`);
    byId("memory-buffer").textContent = `${CONTENTS[contents[content[buffer]]][1]} ${names[name[buffer]]}: ${binary(size[buffer])} at byte ${count(offset[buffer])}, from ${step(first[buffer])} at ${quantity(from, "s")} to ${step(last[buffer])} at ${quantity(until, "s")}`;
  }
}
