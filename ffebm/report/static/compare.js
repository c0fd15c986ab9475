/* Two plans side by side. */

const both = embeddedFacts();
for (const plan of ["a", "b"]) constantSets.set(plan, new Map(both[`constants_${plan}`].map((constant) => [constant.name, constant])));
const figure = (value, unit) => (unit === "%" ? `${value.toFixed(1)} %` : unit ? quantity(value, unit) : count(value));
function sourced(line, plan) {
  const names = line[`basis_${plan}`], text = figure(line[plan], line.unit);
  return names.length ? el("span", basis(names, `${line.name} of ${plan.toUpperCase()}, computed from`, plan), text) : text;
}
byId("lines").querySelector("tbody").replaceChildren(...both.lines.map((line) => el("tr", {}, el("th", { scope: "row" }, line.name),
  ["a", "b"].map((plan) => el("td", { class: "n" }, sourced(line, plan))),
  el("td", { class: "n" }, line.unit === "%" ? `${(line.b - line.a).toFixed(1)} points` : line.a === line.b ? "=" : line.a ? digits(line.b / line.a) : "-"))));

for (const row of byId("settings").querySelectorAll("tr"))
  ["a", "b"].forEach((plan, at) => {
    const name = row.cells[0].textContent, cell = row.cells[at + 1];
    if (constantSets.get(plan).has(name)) cell.replaceChildren(el("span", basis([name], `${name} of ${plan.toUpperCase()}`, plan), cell.textContent));
  });

const MOVED_COLUMNS = [
  { label: "name", value: (r) => r.name, cell: (r) => r.name.slice(0, 120), title: (r) => r.name },
  { label: "op", width: "130px", value: (r) => r.op, cell: (r) => r.op, title: (r) => r.op },
  { label: "change", width: "100px", value: (r) => r.change, cell: (r) => r.change },
  { label: "MACs", width: "118px", n: true, value: (r) => r.macs, cell: (r) => (r.macs ? count(r.macs) : "") },
  { label: "A", width: "86px", value: (r) => r.a, cell: (r) => r.a || "-" },
  { label: "B", width: "86px", value: (r) => r.b, cell: (r) => r.b || "-" },
  { label: "reason in A", width: "23%", value: (r) => r.reason_a, cell: (r) => r.reason_a, title: (r) => r.reason_a },
  { label: "reason in B", width: "23%", value: (r) => r.reason_b, cell: (r) => r.reason_b, title: (r) => r.reason_b },
];
if (both.moved.length) {
  const moved = new Table(byId("moved-rows"), MOVED_COLUMNS, both.moved, "nodes that moved");
  function narrow() {
    const words = byId("filter").value.trim().toLowerCase();
    moved.where((r) => `${r.name} ${r.op} ${r.change} ${r.reason_a} ${r.reason_b}`.toLowerCase().includes(words));
    byId("filtered").textContent = `${plural(moved.rows.length, "node")} of ${count(both.moved.length)}; ${count(both.same)} run where they ran`;
  }
  byId("filter").addEventListener("input", narrow);
  narrow();
  addEventListener("resize", () => moved.draw());
  addEventListener("beforeprint", () => moved.draw(true));
}
listenForTips();
watchTheme();
document.documentElement.dataset.ready = "yes";
