// A masked autoencoder, as training/mae.py has it, computed in the page.
import { range } from "./draw.js";
import { add, linear, reader, through } from "./blocks.js";

// `sizes` and `numbers` are MaskExplorer's traits `sizes` and `weights`.
export class Autoencoder {
  constructor(sizes, numbers) {
    const { grid, patch, prefix, encoder, decoder } = sizes;
    const [N, D, dim] = [grid[0] * grid[1], encoder.dim, decoder.dim];
    const M = 3 * patch ** 2;
    const { take, layer, encoder: stack } = reader(numbers);
    Object.assign(this, { sizes, N, M, places: take(N * dim) });
    Object.assign(this, { cls: take(prefix * D), positions: take((prefix + N) * D) });
    this.cut = layer(M, D);
    this.encoder = stack(encoder);
    this.mask = take(dim);
    this.embed = layer(D, dim);
    this.decoder = stack(decoder);
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
    x = through(x, this.encoder);
    const tokens = linear(x, this.embed); // (prefix + K, dim)
    const seats = new Map(keep.map((n, i) => [n, prefix + i]));
    const all = range(N).map((n) => add(seats.has(n) ? row(tokens, seats.get(n), dim) : mask, row(places, n, dim)));
    x = join([...(prefix ? [row(tokens, 0, dim)] : []), ...all], dim); // (prefix + N, dim)
    return linear(through(x, this.decoder), this.pixels).subarray(prefix * M);
  }
}
