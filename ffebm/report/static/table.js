/* A table of many rows: sorts, filters, and keeps only the rows in view in the document. */

const LINE = 26;

class Table {
  /* columns: {key, label, width, n (numeric), value(row) to sort by, cell(row) to show, title(row)} */
  constructor(place, columns, rows, label, onpick) {
    Object.assign(this, { place, columns, all: rows, onpick });
    this.order = null;
    this.filter = () => true;
    this.head = el("tr", {}, columns.map((column, at) => el("th", { class: column.n ? "n" : undefined, scope: "col", "aria-sort": "none" },
      el("button", { type: "button", title: column.help, onclick: () => this.sort(at) }, column.label))));
    this.body = el("tbody");
    const cols = columns.map((column) => el("col", { style: column.width ? `width:${column.width}` : undefined }));
    this.table = el("table", { "aria-label": label }, el("colgroup", {}, cols), el("thead", {}, this.head), this.body);
    place.replaceChildren(this.table);
    place.addEventListener("scroll", () => this.draw());
    this.body.addEventListener("click", (event) => this.pick(event.target));
    this.body.addEventListener("keydown", (event) => this.key(event));
    this.update();
  }

  sort(at, up = !(this.order && this.order.at === at && this.order.up)) {
    this.order = { at, up };
    [...this.head.children].forEach((th, i) => {
      th.setAttribute("aria-sort", i === at ? (up ? "ascending" : "descending") : "none");
      th.firstChild.textContent = this.columns[i].label + (i === at ? (up ? " ▲" : " ▼") : "");
    });
    this.update();
  }

  where(filter) {
    this.filter = filter;
    this.place.scrollTop = 0;
    this.update();
  }

  update() {
    this.rows = this.all.filter(this.filter);
    if (this.order) {
      const { value } = this.columns[this.order.at], sign = this.order.up ? 1 : -1;
      const compare = (a, b) => (typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0);
      this.rows.sort((a, b) => sign * compare(value(a), value(b)));
    }
    this.table.setAttribute("aria-rowcount", this.rows.length + 1);
    this.draw();
  }

  draw(everything = false) {
    const height = this.place.clientHeight || 400;
    const first = everything ? 0 : Math.max(0, Math.floor(this.place.scrollTop / LINE) - 10);
    const last = everything ? this.rows.length : Math.min(this.rows.length, first + Math.ceil(height / LINE) + 20);
    const space = (rows) => (rows > 0 ? [el("tr", { "aria-hidden": "true" }, el("td", { colspan: this.columns.length, style: `height:${rows * LINE}px;padding:0;border:0` }))] : []);
    const focused = this.body.contains(document.activeElement) ? document.activeElement.getAttribute("aria-rowindex") : null;
    this.body.replaceChildren(...space(first), ...this.rows.slice(first, last).map((row, i) => this.row(row, first + i)), ...space(this.rows.length - last));
    if (focused) { const again = this.body.querySelector(`[aria-rowindex="${focused}"]`); if (again) again.focus({ preventScroll: true }); }
  }

  row(row, index) {
    const cells = this.columns.map((column) => el("td", { class: column.n ? "n" : undefined, title: column.title ? column.title(row) : undefined }, column.cell(row)));
    return el("tr", { "aria-rowindex": index + 2, tabindex: this.onpick ? "0" : undefined }, cells);
  }

  at(target) {
    const tr = target.closest("tr[aria-rowindex]");
    return tr ? Number(tr.getAttribute("aria-rowindex")) - 2 : -1;
  }

  pick(target) {
    const index = this.at(target);
    if (index >= 0 && this.onpick) this.onpick(this.rows[index]);
  }

  key(event) {
    if (event.key === "Enter") this.pick(event.target);
    if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
    event.preventDefault();
    const next = this.at(event.target) + (event.key === "ArrowDown" ? 1 : -1);
    const tr = this.body.querySelector(`[aria-rowindex="${next + 2}"]`);
    if (tr) { tr.focus(); tr.scrollIntoView({ block: "nearest" }); }
  }
}

const where = (node) => (node.block !== null ? `block${node.block}` : `segment${node.segment}`);
/* A place inside the model, without the model's own name. */
const inside = (location) => location.slice(location.startsWith(`${model.facts.source.name}:`) ? model.facts.source.name.length + 1 : 0);
const NODE_COLUMNS = [
  { label: "#", width: "46px", n: true, value: (r) => r.index, cell: (r) => count(r.index) },
  { label: "name", value: (r) => r.node.name, cell: (r) => r.node.name.slice(0, 120), title: (r) => r.node.name },
  { label: "op", width: "154px", value: (r) => r.node.op, cell: (r) => r.node.op, title: (r) => r.node.op },
  { label: "unit", width: "72px", value: (r) => r.node.unit, cell: (r) => el("span", { class: `badge ${r.node.unit}` }, r.node.unit) },
  { label: "part", width: "98px", value: (r) => (r.node.block !== null ? r.node.block : 1e6 + r.node.segment), cell: (r) => where(r.node) },
  { label: "output", width: "132px", value: (r) => shapeText(r.node.shape), cell: (r) => shapeText(r.node.shape), title: (r) => shapeText(r.node.shape) },
  { label: "MACs", width: "104px", n: true, value: (r) => r.node.macs, cell: (r) => (r.node.macs ? count(r.node.macs) : "") },
  { label: "weights", width: "78px", n: true, value: (r) => r.node.weights, cell: (r) => (r.node.weights ? count(r.node.weights) : "") },
  { label: "tiles", width: "86px", value: (r) => (r.node.tiles.length ? r.node.tiles[0] : -1), cell: (r) => ranges(r.node.tiles).slice(0, 40), title: (r) => ranges(r.node.tiles) },
  { label: "reason", width: "20%", value: (r) => r.node.reason, cell: (r) => r.node.reason, title: (r) => r.node.reason },
  { label: "source", width: "11%", value: (r) => r.node.location, cell: (r) => inside(r.node.location), title: (r) => r.node.location },
];

class NodeTable {
  constructor(model, app) {
    const rows = model.nodes.map((node, index) => ({ node, index }));
    this.table = new Table(byId("node-rows"), NODE_COLUMNS, rows, "nodes", (row) => app.openNode(row.index));
    const change = () => {
      const words = byId("filter").value.trim().toLowerCase(), unit = byId("filter-unit").value;
      this.table.where(({ node }) => (!unit || node.unit === unit)
        && (!words || `${node.name} ${node.op} ${where(node)} ${node.reason} ${node.location}`.toLowerCase().includes(words)));
      byId("filtered").textContent = `${count(this.table.rows.length)} of ${plural(rows.length, "node")}`;
    };
    byId("filter").addEventListener("input", change);
    byId("filter-unit").addEventListener("change", change);
    change();
  }
}
