// Encoder blocks, as layers.py has them, computed in the page. Matrices are Float32Arrays, row by row.
import { range } from "./draw.js";

// The error function, to 2e-7 (Abramowitz and Stegun 1964, 7.1.26).
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const gelu = (x) => x.map((value) => 0.5 * value * (1 + erf(value * Math.SQRT1_2)));
export const add = (x, y) => x.map((value, i) => value + y[i]);

// Rows of `width` numbers times a matrix (out, width), plus a bias (out). Four rows at once: each weight is fetched for
// all of them, and no sum waits for another (a quarter of the time).
export function linear(x, { weight, bias }) {
  const [out, width] = [bias.length, weight.length / bias.length];
  const last = x.length / width - 1;
  const y = new Float32Array((last + 1) * out);
  for (let n = 0; n <= last; n += 4) {
    const [n1, n2, n3] = [Math.min(n + 1, last), Math.min(n + 2, last), Math.min(n + 3, last)];
    const [at, at1, at2, at3] = [n * width, n1 * width, n2 * width, n3 * width];
    for (let o = 0; o < out; o++) {
      let [s, s1, s2, s3] = [bias[o], bias[o], bias[o], bias[o]];
      for (let i = 0, from = o * width; i < width; i++) {
        const w = weight[from + i];
        s += w * x[at + i];
        s1 += w * x[at1 + i];
        s2 += w * x[at2 + i];
        s3 += w * x[at3 + i];
      }
      y[n * out + o] = s;
      y[n1 * out + o] = s1;
      y[n2 * out + o] = s2;
      y[n3 * out + o] = s3;
    }
  }
  return y;
}

function layerNorm(x, { weight, bias }) {
  const [y, width] = [new Float32Array(x.length), bias.length];
  for (let from = 0; from < x.length; from += width) {
    const row = x.subarray(from, from + width);
    const mean = row.reduce((sum, value) => sum + value, 0) / width;
    const variance = row.reduce((sum, value) => sum + (value - mean) ** 2, 0) / width;
    const scale = 1 / Math.sqrt(variance + 1e-6);
    for (let i = 0; i < width; i++) y[from + i] = (row[i] - mean) * scale * weight[i] + bias[i];
  }
  return y;
}

// qkv (N, 3 D): queries, keys and values side by side, each of `heads` parts. Returns the mixtures (N, D).
function attention(qkv, D, heads) {
  const [N, d] = [qkv.length / (3 * D), D / heads];
  const [mixed, weights] = [new Float32Array(N * D), new Float32Array(N)];
  for (let head = 0; head < D; head += d) {
    for (let n = 0; n < N; n++) {
      for (let m = 0; m < N; m++) {
        const [query, key] = [3 * n * D + head, (3 * m + 1) * D + head];
        let score = 0;
        for (let i = 0; i < d; i++) score += qkv[query + i] * qkv[key + i];
        weights[m] = score / Math.sqrt(d);
      }
      const most = weights.reduce((a, b) => Math.max(a, b));
      let total = 0;
      for (let m = 0; m < N; m++) total += weights[m] = Math.exp(weights[m] - most);
      for (let m = 0; m < N; m++) {
        const [share, values] = [weights[m] / total, (3 * m + 2) * D + head];
        for (let i = 0; i < d; i++) mixed[n * D + head + i] += share * qkv[values + i];
      }
    }
  }
  return mixed;
}

function encoderBlock(x, D, heads, { norm1, qkv, proj, norm2, fc1, fc2 }) {
  const stream = add(x, linear(attention(linear(layerNorm(x, norm1), qkv), D, heads), proj));
  return add(stream, linear(gelu(linear(layerNorm(stream, norm2), fc1)), fc2));
}

// Through all blocks of an encoder (or decoder), and its last norm.
export const through = (x, { dim, heads, blocks, norm }) =>
  layerNorm(blocks.reduce((stream, block) => encoderBlock(stream, dim, heads, block), x), norm);

// Takes weights out of one row of `numbers`, in the order in which torch's state dict has them.
export function reader(numbers) {
  let at = 0;
  const take = (count) => numbers.subarray(at, (at += count));
  const layer = (width, out) => ({ weight: take(width * out), bias: take(out) });
  const norm = (width) => layer(1, width);
  const encoder = ({ dim, depth, heads, hidden }) => {
    const blocks = range(depth).map(() => ({
      norm1: norm(dim), qkv: layer(dim, 3 * dim), proj: layer(dim, dim),
      norm2: norm(dim), fc1: layer(dim, hidden), fc2: layer(hidden, dim),
    }));
    return { dim, heads, blocks, norm: norm(dim) };
  };
  return { take, layer, encoder };
}
