// The model behind the page. Its parts are scripts beside it, so the page also works from a folder, without a server.
import { element } from "../../../vit_tutorial/widgets/static/draw.js";
import { CLASSES, H, L, N, SIDE } from "./model.js";

const parts = (globalThis.tryParts ??= {});

// What the script `name`.js puts into `tryParts`.
export function part(name) {
  return new Promise((resolve, reject) => {
    if (parts[name]) return resolve(parts[name]);
    const fail = () => reject(new Error(`Expected ${name}.js beside index.html, found nothing: reload the page.`));
    const onload = () => (parts[name] ? resolve(parts[name]) : fail());
    document.head.append(element("script", { src: `${name}.js`, onload, onerror: fail }));
  });
}

// base64 of gzip, because a page from file:// may load scripts but fetch nothing.
async function unpack(text) {
  const packed = Uint8Array.fromBase64?.(text) ?? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new DecompressionStream("gzip");
  const writer = stream.writable.getWriter();
  writer.write(packed);
  writer.close();
  return new Response(stream.readable).arrayBuffer();
}

// Loads the model. The result's `run(pixels, attention)` takes uint8 pixels (B, 3, 32, 32), channels first, and gives
// float32 `logits` (B, 10), `attention` (L, B, H, N, N) where asked for, and the milliseconds `ms` that it took.
export async function startEngine() {
  const missing = ["WebAssembly", "Worker", "DecompressionStream"].filter((name) => !(name in globalThis));
  if (missing.length) {
    const sentence = `The model needs ${missing.join(" and ")}, which this browser does not offer`;
    throw new Error(`${sentence}: use a current one, or run notebook 00 of the course.`);
  }
  const [runtime, model] = await Promise.all([part("runtime"), part("model")]);
  const worker = new Worker(URL.createObjectURL(new Blob([runtime.worker], { type: "text/javascript" })));
  const waiting = new Map();
  let last = 0;
  const ask = (message, given = []) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, ...message }, given);
    });
  worker.onmessage = ({ data: { id, value, error } }) => {
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(value);
    else reject(new Error(`The model stopped: ${error}. Reload the page.`));
  };
  worker.onerror = (event) => {
    for (const { reject } of waiting.values()) reject(new Error(`The model did not start: ${event.message}.`));
    waiting.clear();
  };
  const [ort, wasm, onnx] = await Promise.all([runtime.ort, runtime.wasm, model.onnx].map(unpack));
  await ask({ step: "open", ort, wasm, onnx }, [ort, wasm, onnx]);

  async function run(pixels, attention = true) {
    const B = pixels.length / (3 * SIDE * SIDE);
    if (!Number.isInteger(B) || !B) {
      throw new Error(`Expected pixels (B, 3, ${SIDE}, ${SIDE}), found ${pixels.length} numbers.`);
    }
    const outputs = attention ? ["logits", "attention"] : ["logits"];
    const result = await ask({ step: "run", pixels, dims: [B, 3, SIDE, SIDE], outputs });
    const lengths = { logits: B * CLASSES.length, attention: B * L * H * N * N };
    for (const name of outputs) {
      const found = result[name];
      if (found?.length !== lengths[name] || !found.every(Number.isFinite)) {
        throw new Error(`The model's ${name} are broken: expected ${lengths[name]} finite numbers. Reload the page.`);
      }
    }
    return result;
  }
  await run(new Uint8Array(3 * SIDE * SIDE)); // the first time takes long, and is not what a picture takes
  return { run };
}

export function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (value) => Math.exp(value - most));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((value) => value / sum);
}

// The largest differences from what PyTorch computed when the page was built, over all its pictures.
export async function compareWithTorch(engine) {
  const difference = (a, b) => a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
  const { pixels, logits, attention } = await part("reference");
  const found = await engine.run(new Uint8Array(await unpack(pixels)));
  return {
    count: found.logits.length / CLASSES.length,
    logits: difference(found.logits, new Float32Array(await unpack(logits))),
    attention: difference(found.attention, new Float32Array(await unpack(attention))),
  };
}
