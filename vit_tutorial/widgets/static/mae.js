// A masked autoencoder, as training/mae.py has it, computed in the page. Matrices are Float32Arrays, row by row.
import { range } from "./draw.js";

// The error function, to 2e-7 (Abramowitz and Stegun 1964, 7.1.26).
function erf(x) {
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
  return Math.sign(x) * (1 - sum * Math.exp(-x * x));
}

const gelu = (x) => x.map((value) => 0.5 * value * (1 + erf(value * Math.SQRT1_2)));
const add = (x, y) => x.map((value, i) => value + y[i]);

// Rows of `width` numbers times a matrix (out, width), plus a bias (out). Four rows at once: each weight is fetched for
// all of them, and no sum waits for another (a quarter of the time).
function linear(x, { weight, bias }) {
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

// `sizes` and `numbers` are MaskExplorer's traits `sizes` and `weights`.
export class Autoencoder {
  constructor(sizes, numbers) {
    const { grid, patch, prefix, encoder, decoder } = sizes;
    const [N, D, dim] = [grid[0] * grid[1], encoder.dim, decoder.dim];
    const M = 3 * patch ** 2;
    let at = 0;
    const take = (count) => numbers.subarray(at, (at += count));
    const layer = (width, out) => ({ weight: take(width * out), bias: take(out) });
    const norm = (width) => layer(1, width);
    const blocks = ({ dim: width, depth, hidden }) =>
      range(depth).map(() => ({
        norm1: norm(width), qkv: layer(width, 3 * width), proj: layer(width, width),
        norm2: norm(width), fc1: layer(width, hidden), fc2: layer(hidden, width),
      }));
    Object.assign(this, { sizes, N, M, places: take(N * dim) });
    Object.assign(this, { cls: take(prefix * D), positions: take((prefix + N) * D) });
    this.cut = layer(M, D);
    this.encoder = { blocks: blocks(encoder), norm: norm(D) };
    this.mask = take(dim);
    this.embed = layer(D, dim);
    this.decoder = { blocks: blocks(decoder), norm: norm(dim) };
    this.pixels = layer(dim, M);
  }

  // Patches (N, M), normalised, and a Set of those that are hidden, to the answers for all (N, M).
  reconstruct(patches, hidden) {
    const { N, M, cls, positions, places, mask } = this;
    const { prefix, encoder, decoder } = this.sizes;
    const [D, dim, keep] = [encoder.dim, decoder.dim, range(N).filter((n) => !hidden.has(n))];
    const row = (x, n, width) => x.subarray(n * width, (n + 1) * width);
    const join = (rows, width) => {
      const x = new Float32Array(rows.length * width);
      rows.forEach((each, i) => x.set(each, i * width));
      return x;
    };
    const seen = linear(join(keep.map((n) => row(patches, n, M)), M), this.cut); // (K, D)
    const at = join(keep.map((n) => row(positions, prefix + n, D)), D);
    const first = prefix ? [add(cls, row(positions, 0, D))] : [];
    let x = join([...first, ...keep.map((_, i) => row(add(seen, at), i, D))], D);
    x = this.through(x, "encoder");
    const tokens = linear(x, this.embed); // (prefix + K, dim)
    const seats = new Map(keep.map((n, i) => [n, prefix + i]));
    const all = range(N).map((n) => add(seats.has(n) ? row(tokens, seats.get(n), dim) : mask, row(places, n, dim)));
    x = join([...(prefix ? [row(tokens, 0, dim)] : []), ...all], dim); // (prefix + N, dim)
    return linear(this.through(x, "decoder"), this.pixels).subarray(prefix * M);
  }

  // Through all blocks of a half, and its last norm.
  through(x, half) {
    const { dim, heads } = this.sizes[half];
    const { blocks, norm } = this[half];
    return layerNorm(blocks.reduce((stream, block) => encoderBlock(stream, dim, heads, block), x), norm);
  }
}
