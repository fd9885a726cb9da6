// The worker in which the model runs, so that the page never stands still. One message is answered after the other.
let ort = null;
let session = null;
let turn = Promise.resolve();

// ONNX Runtime's script, its WebAssembly and the model, as ArrayBuffers. One thread: more need headers from the server,
// and gain nothing with so small a model.
async function open({ ort: script, wasm, onnx }) {
  ort = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
  Object.assign(ort.env.wasm, { wasmBinary: wasm, numThreads: 1 });
  session = await ort.InferenceSession.create(new Uint8Array(onnx));
}

async function run({ pixels, dims, outputs }) {
  const start = performance.now();
  const results = await session.run({ pixels: new ort.Tensor("uint8", pixels, dims) }, outputs);
  const ms = performance.now() - start;
  return { ms, ...Object.fromEntries(outputs.map((name) => [name, results[name].data])) };
}

onmessage = ({ data: { id, step, ...message } }) => {
  turn = turn
    .then(() => (step === "open" ? open(message) : run(message)))
    .then((value) => postMessage({ id, value }))
    .catch((error) => postMessage({ id, error: String(error?.message ?? error) }));
};
