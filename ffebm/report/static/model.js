/* The facts, with what the views look up: makers, readers, the tree of frames and the edges in each frame. */

class Model {
  constructor(facts) {
    this.facts = facts;
    this.nodes = facts.nodes;
    this.frames = facts.frames;
    for (const line of [facts.inference, facts.training]) {
      line.end_s = line.start_s.map((start, step) => start + line.lengths_s[line.length[step]]);
      line.free_s = line.end_s.map((end, step) => end - line.lags_s[line.lag[step]]);
    }
    this.together = new Map(Object.entries(facts.inference.fused).flatMap(([last, names]) => names.map((name) => [name, last])));
    constantSets.set("", new Map(facts.constants.map((constant) => [constant.name, constant])));
    this.makers = new Map();
    this.byName = new Map();
    this.readers = new Map();
    this.nodes.forEach((node, index) => {
      this.byName.set(node.name, index);
      for (const value of node.outputs) if (value) this.makers.set(value, index);
    });
    this.nodes.forEach((node, index) => {
      for (const value of node.reads) {
        if (!this.readers.has(value)) this.readers.set(value, []);
        this.readers.get(value).push(index);
      }
    });
    this.choices = new Map();
    for (const choice of facts.choices ? facts.choices.blocks : [])
      for (const node of choice.nodes) this.choices.set(node, choice);
    this.parents = new Array(this.nodes.length);
    for (const frame of this.frames) for (const node of frame.nodes) this.parents[node] = frame.id;
    this.inner = this.frames.map(() => ({ edges: new Map(), ins: new Set(), outs: new Set() }));
    this.ports = [
      ...facts.inputs.map((port, index) => ({ ref: `i${index}`, port, kind: "input" })),
      ...facts.outputs.map((port, index) => ({ ref: `o${index}`, port, kind: "output" })),
    ];
    this.connect();
  }

  chain(node) {
    const frames = [];
    for (let frame = this.parents[node]; frame !== null; frame = this.frames[frame].parent) frames.push(frame);
    return frames;
  }

  /* Each edge belongs to the innermost frame around both ends; frames in between get a stub to their border. */
  connect() {
    this.nodes.forEach((node, index) => {
      for (const value of node.reads)
        if (this.makers.has(value)) this.join(this.makers.get(value), index, value);
    });
    this.facts.inputs.forEach((port, index) => {
      for (const reader of this.readers.get(port.name) || []) {
        const top = this.climb(reader, 0, "ins");
        this.add(0, `i${index}`, top, port.name, this.nodes[reader].unit === "tile");
      }
    });
    this.facts.outputs.forEach((port, index) => {
      const maker = this.makers.get(port.name);
      if (maker === undefined) return;
      this.add(0, this.climb(maker, 0, "outs"), `o${index}`, port.name, this.nodes[maker].unit === "tile");
    });
  }

  join(maker, reader, value) {
    const up = this.chain(maker);
    const around = new Set(this.chain(reader));
    const meet = up.find((frame) => around.has(frame));
    const [a, b] = [this.nodes[maker], this.nodes[reader]];
    const crosses = !(a.unit === "digital" && b.unit === "digital") && !(a.block !== null && a.block === b.block);
    this.add(meet, this.climb(maker, meet, "outs"), this.climb(reader, meet, "ins"), value, crosses);
  }

  climb(node, top, side) {
    let ref = `n${node}`;
    for (let frame = this.parents[node]; frame !== top; frame = this.frames[frame].parent) {
      this.inner[frame][side].add(ref);
      ref = `f${frame}`;
    }
    return ref;
  }

  add(frame, from, to, value, crosses) {
    const key = `${from}>${to}`;
    const edges = this.inner[frame].edges;
    if (!edges.has(key)) edges.set(key, { from, to, values: [], crosses: false });
    const edge = edges.get(key);
    if (!edge.values.includes(value)) edge.values.push(value);
    edge.crosses = edge.crosses || crosses;
  }

  members(frame) {
    const { frames, nodes } = this.frames[frame];
    const ports = frame === 0 ? this.ports.map((port) => port.ref) : [];
    const place = (ref) => (ref[0] === "n" ? Number(ref.slice(1)) : this.firstNode(Number(ref.slice(1))));
    const own = [...frames.map((id) => `f${id}`), ...nodes.map((id) => `n${id}`)];
    own.sort((a, b) => place(a) - place(b));
    return [...ports.filter((ref) => ref[0] === "i"), ...own, ...ports.filter((ref) => ref[0] === "o")];
  }

  firstNode(frame) {
    if (!this.first) this.first = new Map();
    if (!this.first.has(frame)) {
      const { frames, nodes } = this.frames[frame];
      const inner = frames.map((id) => this.firstNode(id));
      this.first.set(frame, Math.min(...inner, ...nodes));
    }
    return this.first.get(frame);
  }

  unitOf(frame) {
    const { n_tile, n_nodes } = this.frames[frame];
    return n_tile === n_nodes ? "tile" : n_tile === 0 ? "digital" : "mixed";
  }

  part(node) {
    return node.block !== null ? `block${node.block}` : `segment${node.segment}`;
  }
}
