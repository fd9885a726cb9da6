// The text encoder of words.py, computed in the page.
import { add, linear, reader, through } from "./blocks.js";

export class SentenceEncoder {
  // SearchExplorer's traits `sizes`, `vocabulary` and `weights`, the last as numbers.
  constructor({ T, encoder, out }, words, numbers) {
    const { take, layer, encoder: stack } = reader(numbers);
    const D = encoder.dim;
    Object.assign(this, { D, words, places: take(T * D), embed: take((words.length + 1) * D) });
    this.encoder = stack(encoder);
    this.head = layer(D, out);
  }

  // The sentence's vector, of length 1. Places behind its last word hold word 0, as in torch.
  vector(sentence) {
    const { D, words, places, embed } = this;
    const numbers = sentence.split(" ").map((word) => words.indexOf(word) + 1);
    const tokens = places.map((_, i) => embed[(numbers[Math.floor(i / D)] ?? 0) * D + (i % D)]); // (T, D)
    const x = through(add(tokens, places), this.encoder);
    const mean = x.slice(0, D).map((_, i) => numbers.reduce((sum, _, n) => sum + x[n * D + i], 0) / numbers.length);
    const vector = linear(mean, this.head);
    const length = Math.hypot(...vector);
    return vector.map((value) => value / length);
  }
}
