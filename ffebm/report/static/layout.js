/* Layered layout by dagre, one frame at a time: an unfolded frame is one box for the frame around it. */

const SIZES = { n: [212, 42], f: [224, 50], i: [150, 30], o: [150, 30] };
const HEAD = 27, PAD = 14;
const DENSE = 90;

class Layouts {
  constructor(model) {
    this.model = model;
    this.open = new Set([0]);
    this.done = new Map();
  }

  key(frame) {
    const inner = this.model.frames[frame].frames.filter((id) => this.open.has(id)).map((id) => this.key(id));
    return inner.length ? `${frame}(${inner.join()})` : `${frame}`;
  }

  of(frame) {
    const key = this.key(frame);
    if (!this.done.has(key)) this.done.set(key, this.compute(frame));
    return this.done.get(key);
  }

  size(ref) {
    const id = Number(ref.slice(1));
    if (ref[0] !== "f" || !this.open.has(id)) return SIZES[ref[0]];
    const inner = this.of(id);
    return [Math.max(inner.width + 2 * PAD, 224), inner.height + HEAD + PAD];
  }

  compute(frame) {
    const { edges, ins, outs } = this.model.inner[frame];
    const members = this.model.members(frame);
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "TB", nodesep: 22, ranksep: 24, marginx: 0, marginy: 4, ranker: "tight-tree" });
    for (const ref of members) {
      const [width, height] = this.size(ref);
      graph.setNode(ref, { width, height });
    }
    const all = [...edges.values()];
    const [routed, aside] = thinned(members, all);
    for (const edge of routed) graph.setEdge(edge.from, edge.to, {});
    columns(graph, members, all);
    if (frame !== 0) stubs(graph, members, ins, outs);
    dagre.layout(graph);
    return this.result(graph, members, routed, aside);
  }

  result(graph, members, routed, aside) {
    const boxes = new Map();
    for (const ref of members) {
      const { x, y, width, height } = graph.node(ref);
      boxes.set(ref, { ref, x: x - width / 2, y: y - height / 2, w: width, h: height });
    }
    const rows = rowsOf([...boxes.values()]);
    const paths = routed.map((edge) => ({ ...edge, points: between(graph.edge(edge.from, edge.to).points, boxes.get(edge.from), boxes.get(edge.to), rows) }));
    let { width, height } = graph.graph();
    for (const [ref, way] of [["in", "top"], ["out", "bottom"]])
      if (graph.hasNode(ref))
        for (const found of graph.nodeEdges(ref) || [])
          paths.push({ from: found.v, to: found.w, values: [], stub: true, way, points: between(graph.edge(found).points, boxes.get(found.v), boxes.get(found.w), rows) });
    const { beside, room } = lanes(aside, boxes, rows, width);
    paths.push(...beside);
    width += room;
    return { boxes: [...boxes.values()], paths, width: Math.max(width, 40), height: Math.max(height, 20) };
  }
}

/* Boxes that nothing in the frame joins would all stand side by side: invisible edges put them in four columns. */
function columns(graph, members, edges) {
  const joined = new Set(edges.flatMap((edge) => [edge.from, edge.to]));
  const alone = members.filter((ref) => !joined.has(ref));
  for (let at = 4; at < alone.length; at++) graph.setEdge(alone[at - 4], alone[at], {});
}

/* Ports at a frame's border, for what comes in and goes out. */
function stubs(graph, members, ins, outs) {
  if (ins.size) graph.setNode("in", { width: 1, height: 1 });
  if (outs.size) graph.setNode("out", { width: 1, height: 1 });
  for (const ref of members) {
    if (ins.has(ref)) graph.setEdge("in", ref, {});
    if (outs.has(ref)) graph.setEdge(ref, "out", {});
  }
}

/* Where long edges are many, those that another path implies run beside the layers: laying all of them out between
   the layers takes too long and reads worse. */
function thinned(members, edges) {
  const rank = new Map(members.map((ref) => [ref, 0]));
  const next = new Map(members.map((ref) => [ref, []]));
  for (const edge of edges) next.get(edge.from).push(edge.to);
  for (const ref of members) for (const to of next.get(ref)) rank.set(to, Math.max(rank.get(to), rank.get(ref) + 1));
  const span = (edge) => rank.get(edge.to) - rank.get(edge.from);
  if (edges.reduce((sum, edge) => sum + span(edge) - 1, 0) <= DENSE) return [edges, []];
  const implied = (edge) => {
    const seen = new Set(), stack = next.get(edge.from).filter((ref) => ref !== edge.to);
    while (stack.length) {
      const ref = stack.pop();
      if (ref === edge.to) return true;
      if (!seen.has(ref) && rank.get(ref) < rank.get(edge.to)) { seen.add(ref); stack.push(...next.get(ref)); }
    }
    return false;
  };
  const aside = edges.filter((edge) => span(edge) > 1 && implied(edge));
  const set = new Set(aside);
  return [edges.filter((edge) => !set.has(edge)), aside];
}

/* Boxes of a layer lie in one row; between rows there is nothing but lines. */
function rowsOf(boxes) {
  const rows = new Map();
  for (const box of boxes) {
    const middle = Math.round(box.y + box.h / 2), row = rows.get(middle) || { top: Infinity, bottom: -Infinity };
    rows.set(middle, { top: Math.min(row.top, box.y), bottom: Math.max(row.bottom, box.y + box.h) });
  }
  return { of: (y) => rows.get(Math.round(y)) };
}
const rowOf = (box, rows) => rows.of(box.y + box.h / 2);

/* A line as dagre leads it, but upright wherever it passes a row, so that it goes through no box. */
function between(points, from, to, rows) {
  const within = (box, x) => Math.max(box.x + 14, Math.min(box.x + box.w - 14, x));
  const path = [], end = points.length - 1;
  const pass = (x, ...ys) => { for (const y of ys) path.push({ x, y }); };
  if (from) pass(within(from, points[1].x), from.y + from.h, rowOf(from, rows).bottom + 3); else path.push(points[0]);
  for (const { x, y } of points.slice(1, end)) {
    const row = rows.of(y);
    if (row) pass(x, row.top, row.bottom); else path.push({ x, y });
  }
  if (to) pass(within(to, points[end - 1].x), rowOf(to, rows).top - 8, to.y); else path.push(points[end]);
  return path.filter((p, i) => !i || p.x !== path[i - 1].x || p.y !== path[i - 1].y);
}

/* Lines beside the layers: down from a box to the gap below its row, out to a lane right of all boxes, and back in the
   gap above the row where each of its readers is. */
function lanes(edges, boxes, rows, width) {
  const sources = new Map();
  for (const edge of edges) {
    if (!sources.has(edge.from)) sources.set(edge.from, { box: boxes.get(edge.from), edges: [], low: 0 });
    const source = sources.get(edge.from);
    source.edges.push(edge);
    source.low = Math.max(source.low, rowOf(boxes.get(edge.to), rows).top);
  }
  const sorted = [...sources.values()].sort((a, b) => a.box.y - b.box.y), ends = [];
  for (const source of sorted) {
    const high = rowOf(source.box, rows).bottom, free = ends.findIndex((end) => end <= high);
    source.lane = free < 0 ? ends.length : free;
    ends[source.lane] = source.low;
  }
  const pitch = Math.max(3, Math.min(9, 120 / Math.max(1, ends.length)));
  const beside = sorted.flatMap(({ box, edges: own, lane }, number) => own.map((edge) => {
    const to = boxes.get(edge.to), x = width + 12 + lane * pitch;
    const [out, back] = [rowOf(box, rows).bottom + 4 + 2 * (number % 4), rowOf(to, rows).top - 10 - (number % 3)];
    const [left, right] = [box.x + box.w * 0.82, to.x + to.w * 0.86];
    return { ...edge, aside: true, points: [{ x: left, y: box.y + box.h }, { x: left, y: out }, { x, y: out }, { x, y: back }, { x: right, y: back }, { x: right, y: to.y }] };
  }));
  return { beside, room: edges.length ? 24 + ends.length * pitch : 0 };
}

/* A line through points with rounded corners. */
const ROUND = 9;
function smooth(points, dx, dy) {
  const at = (p) => `${(p.x + dx).toFixed(1)} ${(p.y + dy).toFixed(1)}`;
  const toward = (p, q) => {
    const far = Math.hypot(q.x - p.x, q.y - p.y) || 1, part = Math.min(ROUND, far / 2) / far;
    return { x: p.x + (q.x - p.x) * part, y: p.y + (q.y - p.y) * part };
  };
  let path = `M${at(points[0])}`;
  for (let i = 1; i + 1 < points.length; i++)
    path += `L${at(toward(points[i], points[i - 1]))}Q${at(points[i])} ${at(toward(points[i], points[i + 1]))}`;
  return `${path}L${at(points[points.length - 1])}`;
}
