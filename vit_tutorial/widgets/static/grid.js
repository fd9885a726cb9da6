// A grid of patches over a picture: where each token is, what it is called, how pointer and keys reach it.
import { arrow, clamp, element, onPlainKey, ordinals, pointer, range, stage, table } from "./draw.js";

const STRIP = 30; // the place of the class token and registers, above the picture
const STEP = 26; // from one of them to the next
const WORDS = 150; // as wide as a single one with its name

export class Grid {
  // `names` are those of the tokens before the patches; `ratio` is the picture's height by its width.
  constructor(rows, columns, { names = [], ratio = rows / columns } = {}) {
    const prefix = names.length;
    const top = prefix ? STRIP : 0;
    Object.assign(this, { rows, columns, names, prefix, ratio, top, count: prefix + rows * columns });
  }

  // Row and column of a token; those before the patches have row -1.
  place(token) {
    const patch = token - this.prefix;
    return patch < 0 ? [-1, 0] : [Math.floor(patch / this.columns), patch % this.columns];
  }

  name(token) {
    const [row, column] = this.place(token);
    if (row >= 0) return `row ${row + 1}, column ${column + 1}`;
    const name = this.names[token];
    return /\d$/.test(name) ? name : `the ${name}`; // register 2, the class token
  }

  // The token in a row and column, or null.
  token(row, column) {
    const inside = row >= 0 && row < this.rows && column >= 0 && column < this.columns;
    return inside ? this.prefix + row * this.columns + column : null;
  }

  // The token at these parts of the picture's width and height, or null.
  at = (right, down) => this.token(Math.floor(down * this.rows), Math.floor(right * this.columns));

  // The token that a key's step leads to.
  step(token, [down, right]) {
    const [row, column] = this.place(token);
    if (row < 0 && !down) return clamp(token + right, 0, this.prefix - 1);
    if (this.prefix && down && row + down < 0) return 0;
    return this.token(row + down, column + right) ?? token;
  }

  // The picture on a canvas of this width, under the strip of the tokens before the patches.
  area = (width) => [0, this.top, width, width * this.ratio];
  height = (width) => this.top + width * this.ratio;

  // A token's rectangle in the picture's.
  box(token, [x, y, width, height]) {
    const [row, column] = this.place(token);
    if (row < 0) return [2 + STEP * token, 3, 22, 22];
    const [wide, high] = [width / this.columns, height / this.rows];
    return [x + column * wide, y + row * high, wide, high];
  }

  // The lines between patches, each as two points.
  lines([x, y, width, height]) {
    const down = range(this.columns).slice(1).map((i) => x + (i * width) / this.columns);
    const across = range(this.rows).slice(1).map((i) => y + (i * height) / this.rows);
    return [...down.map((at) => [[at, y], [at, y + height]]), ...across.map((at) => [[x, at], [x + width, at]])];
  }

  // The token under the pointer on a canvas that shows the picture at its `area`.
  under(event, canvas) {
    const [right, down] = pointer(event, canvas);
    const y = down * canvas.clientHeight - this.top;
    if (y < 0) {
      const pointed = Math.floor((right * canvas.clientWidth) / STEP);
      if (pointed < this.prefix) return Math.max(0, pointed);
      return this.prefix === 1 && right * canvas.clientWidth < WORDS ? 0 : null;
    }
    return this.at(right, y / (canvas.clientWidth * this.ratio));
  }

  // A table of texts, one for each patch.
  table(caption, texts) {
    const lines = range(this.rows).map((row) => texts.slice(row * this.columns, (row + 1) * this.columns));
    return table(caption, ordinals(this.columns), ordinals(this.rows), lines);
  }
}

// What the reader asks about: a token, which follows the pointer, and while it is held a second one. `redraw()` shows
// both, `choose(token)` keeps what was chosen.
export class Question {
  constructor(grid, token, { redraw, choose }) {
    Object.assign(this, { grid, token, redraw, choose, held: false, other: null });
  }

  point(token) {
    const pointed = this.held ? "other" : "token";
    if (token === null || token === this[pointed]) return;
    this[pointed] = token;
    this.redraw();
  }

  // Holds a token, or lets go with null.
  hold(token) {
    Object.assign(this, { token: token ?? this.token, held: token !== null, other: null });
    this.choose(this.token);
    this.redraw();
  }

  listen(canvas) {
    canvas.addEventListener("pointermove", (event) => this.point(this.grid.under(event, canvas)));
    canvas.addEventListener("pointerleave", () => {
      if (this.other === null) return;
      this.other = null;
      this.redraw();
    });
    canvas.addEventListener("click", (event) => {
      const token = this.grid.under(event, canvas);
      if (token !== null) this.hold(this.held && token === this.token ? null : token);
    });
    onPlainKey(canvas, (event) => this.press(event));
  }

  press(event) {
    const [step, from] = [arrow(event), this.other ?? this.token];
    if (step) {
      const to = this.grid.step(from, step);
      if (to !== from) this.point(to);
    } else if (event.key === "Home") this.point(0);
    else if (event.key === "End") this.point(this.grid.count - 1);
    else if (event.key === "Enter" || event.key === " ") this.hold(this.held ? null : this.token);
    else if (event.key === "Escape" && this.held) this.hold(null);
    else return;
    event.preventDefault();
    if (!this.held) this.choose(this.token);
  }
}

// A picture to ask about (`main`) with small maps beside it (`small`), under a caption: both are options of `stage`.
export function pane(view, { main, small, beside = "vit-heads" }) {
  const [caption, left, right] = ["vit-caption", "vit-main", beside].map((className) => element("div", { className }));
  const panel = element("div", { className: "vit-view" }, caption, left, right);
  view.body.append(panel);
  const stages = [stage(view, left, { role: "application", focusable: true, ...main }), stage(view, right, small)];
  // Shows it under a title, or hides it without one.
  const show = (title) => {
    panel.hidden = title === null;
    caption.textContent = title ?? "";
    if (!panel.hidden) stages.forEach((one) => one.redraw());
  };
  return { main: stages[0].canvas, small: stages[1].canvas, show };
}
