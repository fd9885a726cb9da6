// Attention weights as Python sends them, and the rows that can be shown of them.
import { bytes, floats } from "./draw.js";

export const MEAN = -1;
export const ROLLOUT = -2;

// Weights of rows of N as float32. They come as such, or as bytes: parts of 255 of the largest in their row.
export function decode(model, N) {
  const scales = floats(model.get("scales"));
  if (!scales.length) return { weights: floats(model.get("weights")), exact: true };
  const coded = bytes(model.get("weights"));
  const weights = new Float32Array(coded.length);
  for (let row = 0; row < scales.length; row++) {
    const unit = scales[row] / 255;
    for (let i = row * N; i < (row + 1) * N; i++) weights[i] = coded[i] * unit;
  }
  return { weights, exact: false };
}

// The attention weights (L, B, H, N, N); row(layer, image, head, query) is one row, also of MEAN and ROLLOUT.
export function readAttention(model) {
  const [L, B, H, N] = model.get("shape");
  const { weights, exact } = decode(model, N);

  const means = new Map(); // (N, N) for each layer and image that was asked for
  function meanOf(layer, image) {
    const key = layer * B + image;
    if (!means.has(key)) {
      const mean = new Float32Array(N * N);
      for (let h = 0; h < H; h++) {
        const start = (key * H + h) * N * N;
        for (let i = 0; i < N * N; i++) mean[i] += weights[start + i] / H;
      }
      means.set(key, mean);
    }
    return means.get(key);
  }

  // One row of the rollout (Abnar and Zuidema 2020), from the layer down: half stays, half follows the mean attention.
  function rollout(layer, image, query) {
    let share = new Float32Array(N);
    share[query] = 1;
    for (let l = layer; l >= 0; l--) {
      const mean = meanOf(l, image);
      const next = share.map((value) => value / 2);
      for (let i = 0; i < N; i++) {
        const half = share[i] / 2;
        if (half) for (let k = 0; k < N; k++) next[k] += half * mean[i * N + k];
      }
      share = next;
    }
    return share;
  }

  function row(layer, image, head, query) {
    if (head === ROLLOUT) return rollout(layer, image, query);
    if (head === MEAN) return meanOf(layer, image).subarray(query * N, (query + 1) * N);
    const start = (((layer * B + image) * H + head) * N + query) * N;
    return weights.subarray(start, start + N);
  }
  return { L, B, H, N, row, exact };
}
