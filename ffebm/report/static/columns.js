/* The facts as the page holds them, with their lists of objects again; packed by columns.py, which says how. */

function unpacked(part) {
  if (Array.isArray(part)) return part.map(unpacked);
  if (part === null || typeof part !== "object") return part;
  if (part["@columns"]) {
    const names = Object.keys(part["@columns"]), columns = Object.values(part["@columns"]).map(unpacked);
    const plain = names.map((key) => key.replace(/^@/, ""));
    return columns[0].map((_, row) => Object.fromEntries(plain.map((name, at) => [name, columns[at][row]])));
  }
  if (part["@lengths"]) {
    const rows = unpacked(part["@rows"]);
    let from = 0;
    return unpacked(part["@lengths"]).map((length) => rows.slice(from, (from += length)));
  }
  if (part["@runs"]) {
    const runs = part["@runs"], found = [];
    for (let at = 0; at < runs.length; at += 3)
      for (let n = 0; n < runs[at + 2]; n++) found.push(runs[at] + n * runs[at + 1]);
    return found;
  }
  if (part["@of"]) {
    const values = unpacked(part["@of"]);
    return unpacked(part["@at"]).map((at) => values[at]);
  }
  return Object.fromEntries(Object.entries(part).map(([key, value]) => [key.replace(/^@/, ""), unpacked(value)]));
}

const embeddedFacts = () => unpacked(JSON.parse(document.getElementById("facts").textContent));
