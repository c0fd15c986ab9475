/* Elements, numbers as text, colours, patterns. Text is set as text, never as markup. */

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) if (child !== null && child !== undefined) node.append(child);
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

const PREFIXES = [[0, ""], [-3, "m"], [-6, "µ"], [-9, "n"], [-12, "p"], [-15, "f"]];
const digits = (value, count = 4) => String(Number(value.toPrecision(count)));
function quantity(value, unit) {
  for (const [power, prefix] of PREFIXES)
    if (Math.abs(value) >= 10 ** power) return `${digits(value / 10 ** power)} ${prefix}${unit}`;
  return `${digits(value)} ${unit}`;
}
const grouped = new Intl.NumberFormat("en-US");
const count = (value) => grouped.format(value);
const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "-");
const shapeText = (shape) => (shape === null ? "?" : shape.length ? shape.join("×") : "scalar");
const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
/* Numbers in their order, runs of them as first–last. */
function ranges(numbers) {
  const runs = [];
  for (const number of numbers) {
    const last = runs[runs.length - 1];
    if (last && number === last[1] + 1) last[1] = number; else runs.push([number, number]);
  }
  return runs.map(([first, last]) => (last > first + 1 ? `${first}–${last}` : last > first ? `${first}, ${last}` : String(first))).join(", ");
}
function amount(n) {
  for (const [power, prefix] of [[9, "G"], [6, "M"], [3, "k"]])
    if (n >= 10 ** power) return `${digits(n / 10 ** power, 3)} ${prefix}`;
  return String(n);
}

/* Colours of the style sheet, resolved for a canvas. */
const probe = el("span", { hidden: true });
document.body.append(probe);
let colours = new Map();
function colour(name) {
  if (!colours.has(name)) {
    probe.style.color = `var(--${name})`;
    colours.set(name, getComputedStyle(probe).color);
  }
  return colours.get(name);
}

/* Patterns beside colour, so that kinds are told apart without it. */
const MARKS = {
  transfer: "dots", digital: "plain", free: "plain", nudged: "rising", loss: "plain", digital_backward: "falling",
  contrast: "cross", update: "bars", array: "plain", dac: "rising", adc: "falling", adders: "bars", buffer: "rising", memory: "dots", network: "cross",
  leakage: "plain",
};
const KIND_NAMES = {
  transfer: "transfer", digital: "digital", free: "free phase", nudged: "nudged phase", loss: "loss",
  digital_backward: "digital backward", contrast: "contrast", update: "update",
  array: "cells", dac: "D/A conversion", adc: "A/D conversion", adders: "adders", buffer: "buffers", memory: "memory",
  network: "network", leakage: "leakage",
};
const KIND_COLOURS = {
  array: "k-free", dac: "k-nudged", adc: "k-contrast", adders: "k-digital_backward", buffer: "k-update", memory: "k-update",
  network: "k-transfer", leakage: "k-loss",
};
const kindColour = (kind) => KIND_COLOURS[kind] || `k-${kind}`;
let patterns = new Map();
function drawMark(context, mark, size) {
  context.beginPath();
  if (mark === "rising" || mark === "cross") { context.moveTo(0, size); context.lineTo(size, 0); }
  if (mark === "falling" || mark === "cross") { context.moveTo(0, 0); context.lineTo(size, size); }
  if (mark === "bars") { context.moveTo(size / 2, 0); context.lineTo(size / 2, size); }
  if (mark === "dots") context.arc(size / 2, size / 2, 1.1, 0, 7);
  context.stroke();
}
function kindFill(context, kind) {
  if (!patterns.has(kind)) {
    const size = 6, ratio = window.devicePixelRatio || 1;
    const tile = el("canvas", { width: size * ratio, height: size * ratio });
    const pen = tile.getContext("2d");
    pen.scale(ratio, ratio);
    pen.fillStyle = colour(kindColour(kind));
    pen.fillRect(0, 0, size, size);
    pen.strokeStyle = colour("panel");
    pen.lineWidth = 1.3;
    drawMark(pen, MARKS[kind], size);
    const pattern = context.createPattern(tile, "repeat");
    pattern.setTransform(new DOMMatrix().scale(1 / ratio));
    patterns.set(kind, pattern);
  }
  return patterns.get(kind);
}
function sized(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
function swatch(kind) {
  const canvas = el("canvas", { style: "width:18px;height:11px", "aria-hidden": "true" });
  const context = sized(canvas, 18, 11);
  context.fillStyle = kindFill(context, kind);
  context.fillRect(0, 0, 18, 11);
  return canvas;
}
const repaints = [];
function repaint() {
  colours = new Map();
  patterns = new Map();
  for (const again of repaints) again();
}

/* Light and dark: the system's choice, until the button says otherwise. */
function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}
function watchTheme() {
  const name = () => { byId("theme").textContent = isDark() ? "☀ light" : "☾ dark"; };
  repaints.push(name);
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    repaint();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  name();
}

/* Text cut to a width, measured. */
const ruler = document.createElement("canvas").getContext("2d");
const FONTS = { op: "600 12px", name: "11px", dim: "10.5px" };
const family = getComputedStyle(document.body).fontFamily; // asked once: each question may lay out the page anew
const widths = new Map();
function wide(text, font) {
  ruler.font = `${FONTS[font]} ${family}`;
  return ruler.measureText(text).width;
}
function fit(text, room, font) {
  const key = `${font}|${room}|${text}`;
  if (!widths.has(key)) {
    ruler.font = `${FONTS[font]} ${family}`;
    let kept = text.slice(0, 120);
    if (ruler.measureText(kept).width > room || kept.length < text.length) {
      let low = 0, high = kept.length;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (ruler.measureText(`${kept.slice(0, middle)}…`).width <= room) low = middle; else high = middle - 1;
      }
      kept = `${kept.slice(0, low)}…`;
    }
    widths.set(key, kept);
  }
  return widths.get(key);
}

/* Where a figure comes from, on hover and on focus. */
const constantSets = new Map(); // constants by name, of each plan that a page shows
function constantLines(names, plan) {
  return names.map((name) => {
    const constant = constantSets.get(plan).get(name);
    const value = constant.unit === "1" ? digits(constant.value) : `${constant.value.toPrecision(4).replace(/\.?0+(e|$)/, "$1")} ${constant.unit}`;
    return [el("p", {}, el("b", {}, name), ` = ${value}`), el("p", { class: "muted" },
      constant.assumption ? "assumption: " : "", constant.source)];
  });
}
function showTip(target) {
  const names = target.dataset.basis.split(",").filter(Boolean);
  const tip = byId("tip");
  tip.replaceChildren(el("p", {}, target.dataset.how || "Computed from"), ...constantLines(names, target.dataset.plan || "").flat());
  tip.hidden = false;
  const at = target.getBoundingClientRect(), own = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(6, Math.min(at.left, innerWidth - own.width - 6))}px`;
  tip.style.top = `${at.bottom + 6 + own.height > innerHeight ? Math.max(6, at.top - own.height - 6) : at.bottom + 6}px`;
}
function basis(names, how, plan = "") {
  return { "data-basis": names.join(","), "data-how": how, "data-plan": plan, tabindex: "0", "aria-describedby": "tip",
    class: names.some((name) => constantSets.get(plan).get(name).assumption) ? "assumed-mark" : undefined };
}
function listenForTips() {
  const source = (event) => event.target.closest && event.target.closest("[data-basis]");
  for (const kind of ["mouseover", "focusin"])
    document.addEventListener(kind, (event) => { if (source(event)) showTip(source(event)); });
  for (const kind of ["mouseout", "focusout"])
    document.addEventListener(kind, (event) => { if (source(event)) byId("tip").hidden = true; });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") byId("tip").hidden = true; });
}
