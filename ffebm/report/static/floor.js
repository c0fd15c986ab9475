/* The tiles: what lies where on each crossbar, and its conductances. */

const TINTS = ["k-free", "k-digital", "k-contrast", "k-update", "k-nudged", "k-digital_backward"];
const THUMB = { width: 92, least: 104, text: 48, gap: 8 }; // pixels: of the picture, of its frame, of what is written below, between frames

class FloorView {
  constructor(model, app) {
    this.model = model;
    this.app = app;
    this.tiles = new Map(model.facts.tiles.map((tile) => [tile.id, tile]));
    this.chosen = model.facts.tiles.length ? model.facts.tiles[0].id : null;
    this.mode = "pieces";
    for (const input of document.querySelectorAll("input[name=floor]"))
      input.addEventListener("change", () => { this.mode = input.value; this.draw(); });
    byId("tile-large").addEventListener("mousemove", (event) => this.point(event));
    this.grid = byId("tile-grid");
    this.paper = false;
    this.grid.addEventListener("scroll", () => this.fillGrid());
    this.room = el("div");
    this.grid.replaceChildren(this.tiles.size ? this.room : el("p", {}, "No tile is in use: every node is digital."));
  }

  draw() {
    this.shown = new Map();
    this.room.replaceChildren();
    this.pitch = THUMB.text + THUMB.gap + this.model.facts.tiles.reduce((high, tile) => Math.max(high, this.high(tile, THUMB.width, false)), 0);
    this.fillGrid();
    this.legend();
    this.choose(this.chosen);
  }

  /* Only the rows near the window are in the document: a machine has thousands of tiles. On paper all are. */
  fillGrid() {
    const { tiles } = this.model.facts, width = this.grid.clientWidth;
    if (!tiles.length || !width) return;
    this.across = Math.max(1, Math.floor((width - THUMB.gap) / (THUMB.least + THUMB.gap)));
    const rows = Math.ceil(tiles.length / this.across), top = Math.floor(this.grid.scrollTop / this.pitch);
    const first = this.paper ? 0 : Math.max(0, top - 1);
    const last = this.paper ? rows : Math.min(rows, top + Math.ceil(this.grid.clientHeight / this.pitch) + 2);
    const before = this.shown;
    this.shown = new Map(tiles.slice(first * this.across, last * this.across).map((tile) => [tile.id, before.get(tile.id) || this.thumbnail(tile)]));
    this.room.style.cssText = `grid-template-columns:repeat(${this.across},minmax(0,1fr));grid-auto-rows:${this.pitch - THUMB.gap}px;`
      + `height:${rows * this.pitch}px;padding-top:${first * this.pitch}px`;
    for (const [id, button] of before) if (!this.shown.has(id)) button.remove();
    let next = this.room.firstChild; // what stays is not moved, so that it keeps the keyboard
    for (const button of this.shown.values())
      if (button === next) next = next.nextSibling; else this.room.insertBefore(button, next);
  }

  /* Bring a tile into view, and the keyboard to it. */
  reveal(id) {
    const row = Math.floor(this.model.facts.tiles.findIndex((tile) => tile.id === id) / this.across);
    const y = row * this.pitch, { scrollTop, clientHeight } = this.grid;
    if (y < scrollTop || y + this.pitch > scrollTop + clientHeight) this.grid.scrollTop = Math.max(0, y - (clientHeight - this.pitch) / 2);
    this.fillGrid();
    this.shown.get(id).focus({ preventScroll: true });
  }

  legend() {
    const key = byId("map-legend");
    key.hidden = this.mode !== "map";
    const ramp = (from, to) => el("span", { style: `display:inline-block;width:44px;height:11px;vertical-align:-1px;border:1px solid var(--strong);background:linear-gradient(90deg,var(--${from}),var(--${to}))`, "aria-hidden": "true" });
    key.replaceChildren(el("span", {}, "G+ < G- ", ramp("k-digital_backward", "panel"), ramp("panel", "k-free"), " G+ > G-"));
  }

  thumbnail(tile) {
    const canvas = el("canvas", { "aria-hidden": "true" });
    this.picture(canvas, tile, THUMB.width, false);
    const use = share(tile.used, tile.rows * tile.cols);
    const blocks = [...new Set(tile.pieces.flatMap((piece) => piece.blocks))];
    return el("button", { type: "button", "data-tile": tile.id, "aria-pressed": String(tile.id === this.chosen),
      "aria-label": `tile ${tile.id}, ${use} used, ${plural(tile.pieces.length, "piece")}`, onclick: () => this.choose(tile.id) },
    canvas, el("span", { class: "use" }, el("b", {}, `tile ${tile.id}`), el("span", {}, use)),
    el("span", { class: "muted" }, blocks.length > 2 ? plural(blocks.length, "block") : blocks.length > 1 ? `blocks ${blocks.join(", ")}` : `block${blocks[0]}`));
  }

  choose(id) {
    this.chosen = id;
    if (id === null) return;
    for (const [shown, button] of this.shown) button.setAttribute("aria-pressed", String(shown === id));
    const tile = this.tiles.get(id);
    this.picture(byId("tile-large"), tile, Math.min(420, byId("tile-detail").clientWidth - 30 || 330), true);
    byId("tile-facts").replaceChildren(...this.facts(tile));
  }

  facts(tile) {
    const bits = tile.kind === "crossbar" ? `${tile.dac_bits}-bit D/A, ${tile.adc_bits}-bit A/D converters` : "exact, no converters";
    const map = tile.map_rows ? `The conductance map shows G+ - G- at ${tile.map_rows} × ${tile.map_cols} places of ${tile.rows} × ${tile.cols} cell pairs`
      + (tile.map_rows < tile.rows || tile.map_cols < tile.cols ? "; each place shows the pair of largest magnitude (downsampled)." : ".")
      : tile.kind === "crossbar" ? "The plan holds no weights, so no conductances are known." : "An exact tile has no conductances.";
    return [
      el("h2", {}, `tile ${tile.id}`),
      el("p", {}, `${tile.rows} × ${tile.cols}, ${count(tile.used)} pairs used, ${share(tile.used, tile.rows * tile.cols)}; ${bits}`),
      this.mode === "map" ? el("p", { class: "muted" }, map) : null,
      ...tile.pieces.map((piece) => this.piece(piece, tile)),
    ].filter(Boolean);
  }

  piece(piece, tile) {
    const converters = tile.map_rows ? ` scale ${digits(piece.scale)}, A/D range ${digits(piece.adc_range)}, transposed ${digits(piece.adc_range_t)}` : "";
    const group = piece.group ? `, group ${piece.group}` : "";
    return el("div", { class: "piece" },
      el("h3", {}, `piece ${piece.id}: `, ...piece.blocks.flatMap((id, at) => [at ? ", " : "", el("button", { class: "link", type: "button", onclick: () => this.app.openBlock(id) }, `block${id}`)])),
      el("p", {}, piece.weight.slice(0, 300), el("br"), el("span", { class: "muted" },
        `inputs ${piece.inputs.join("–")}, outputs ${piece.outputs.join("–")}${group}; at row ${piece.row}, column ${piece.col}; ${piece.n_in} × ${piece.n_out};${converters}`)));
  }

  high(tile, width, large) {
    return Math.max(large ? 90 : 30, Math.min(large ? 420 : 92, (width * tile.rows) / tile.cols));
  }

  picture(canvas, tile, width, large) {
    const height = this.high(tile, width, large);
    const pen = sized(canvas, width, height);
    canvas.style.width = large ? `${width}px` : "100%";
    canvas.style.height = `${height}px`;
    pen.fillStyle = colour("panel");
    pen.fillRect(0, 0, width, height);
    pen.strokeStyle = colour("strong");
    pen.strokeRect(0.5, 0.5, width - 1, height - 1);
    const [sx, sy] = [width / tile.cols, height / tile.rows];
    if (this.mode === "map" && tile.map_rows) this.map(pen, tile, width, height);
    for (const piece of tile.pieces) this.outline(pen, piece, sx, sy, large);
  }

  outline(pen, piece, sx, sy, large) {
    const [x, y, w, h] = [piece.col * sx, piece.row * sy, piece.n_out * sx, piece.n_in * sy];
    pen.strokeStyle = colour("ink");
    pen.lineWidth = large ? 1.2 : 0.8;
    if (this.mode !== "map") {
      pen.globalAlpha = 0.45;
      pen.fillStyle = colour(TINTS[piece.blocks[0] % TINTS.length]);
      pen.fillRect(x, y, w, h);
      pen.globalAlpha = 1;
      pen.font = large ? "600 12px system-ui, sans-serif" : "600 10px system-ui, sans-serif";
      const names = large ? [`block${piece.blocks.join("+")}`, piece.blocks.join("+")] : [piece.blocks.join("+")];
      const text = names.find((name) => pen.measureText(name).width + 4 < w) || names[0];
      if (pen.measureText(text).width + 4 < w && h > (large ? 16 : 12)) {
        pen.fillStyle = colour("ink");
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText(text, x + w / 2, y + h / 2);
      }
    }
    pen.strokeRect(x + 0.5, y + 0.5, Math.max(1, w - 1), Math.max(1, h - 1));
  }

  /* Blue for G+ above G-, orange for below, the panel's own colour for none. */
  map(pen, tile, width, height) {
    const bytes = Uint8Array.from(atob(tile.map), (c) => c.charCodeAt(0));
    const small = el("canvas", { width: tile.map_cols, height: tile.map_rows });
    const context = small.getContext("2d");
    const image = context.createImageData(tile.map_cols, tile.map_rows);
    const ends = ["panel", "k-free", "k-digital_backward"].map((name) => colour(name).match(/[\d.]+/g).slice(0, 3).map(Number));
    bytes.forEach((byte, at) => {
      const value = byte ? (byte - 128) / 127 : 0;
      const end = value >= 0 ? ends[1] : ends[2], part = Math.abs(value);
      for (let c = 0; c < 3; c++) image.data[4 * at + c] = byte ? ends[0][c] + (end[c] - ends[0][c]) * part : ends[0][c];
      image.data[4 * at + 3] = byte ? 255 : 0;
    });
    context.putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, width, height);
  }

  point(event) {
    const tile = this.tiles.get(this.chosen), canvas = byId("tile-large");
    const row = Math.floor((event.offsetY / canvas.clientHeight) * tile.rows);
    const col = Math.floor((event.offsetX / canvas.clientWidth) * tile.cols);
    const piece = tile.pieces.find((p) => row >= p.row && row < p.row + p.n_in && col >= p.col && col < p.col + p.n_out);
    canvas.title = piece ? `row ${row}, column ${col}: piece ${piece.id} of block${piece.blocks.join("+")}, ${piece.weight.slice(0, 120)}` : `row ${row}, column ${col}: empty`;
  }
}
