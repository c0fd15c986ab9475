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
    const paths = routed.map((edge) => ({ ...edge, points: graph.edge(edge.from, edge.to).points }));
    let { width, height } = graph.graph();
    let lane = width;
    for (const edge of aside) {
      const [a, b] = [boxes.get(edge.from), boxes.get(edge.to)];
      lane = Math.max(width + 10, Math.min(lane + 9, width + 70));
      paths.push({ ...edge, points: side(a, b, lane), aside: true });
    }
    for (const [ref, way] of [["in", "top"], ["out", "bottom"]])
      if (graph.hasNode(ref))
        for (const found of graph.nodeEdges(ref) || [])
          paths.push({ from: found.v, to: found.w, values: [], stub: true, way, points: graph.edge(found).points });
    if (aside.length) width += 80;
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

function side(a, b, lane) {
  const [y0, y1] = [a.y + a.h * 0.7, b.y + b.h * 0.3];
  return [{ x: a.x + a.w, y: y0 }, { x: lane, y: y0 }, { x: lane, y: y1 }, { x: b.x + b.w, y: y1 }];
}

/* A line through points with rounded corners. */
function smooth(points, dx, dy) {
  const at = (p) => `${(p.x + dx).toFixed(1)} ${(p.y + dy).toFixed(1)}`;
  let path = `M${at(points[0])}`;
  for (let i = 1; i + 1 < points.length; i++) {
    const end = i + 2 < points.length ? { x: (points[i].x + points[i + 1].x) / 2, y: (points[i].y + points[i + 1].y) / 2 } : points[i + 1];
    path += `Q${at(points[i])} ${at(end)}`;
  }
  if (points.length === 2) path += `L${at(points[1])}`;
  return path;
}
