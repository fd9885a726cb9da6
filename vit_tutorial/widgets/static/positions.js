import {
  choice, diverging, drawHeat, drawHeats, drawScale, floats, frame, outline, pointer, range, slider, strokeLines,
  tables, tell, viridis, watch, write,
} from "./draw.js";
import { Grid, pane, Question } from "./grid.js";

const SCALE = 34; // under each picture: the colour scale, or what is to be said about it
const MAPS = 12; // at most so many small maps in a row
const GAP = 3; // between them
const CHOSEN = "#56b4e9";

// ------------------------------------------------------------------------------------------ similarities

// The middle axis of `values` (outer, n, inner), resampled by `matrix` (m, n): (outer, m, inner).
function resample(values, outer, matrix, n, inner) {
  const m = matrix.length / n;
  const result = new Float32Array(outer * m * inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < m; i++) {
      const to = (o * m + i) * inner;
      for (let j = 0; j < n; j++) {
        const weight = matrix[i * n + j];
        const from = (o * n + j) * inner;
        if (weight) for (let k = 0; k < inner; k++) result[to + k] += weight * values[from + k];
      }
    }
  }
  return result;
}

// The cosine similarity of each of the vectors (N, K) to each: (N, N).
function cosines(vectors, N, K) {
  const result = new Float32Array(N * N);
  for (let a = 0; a < N; a++) {
    const one = vectors.subarray(a * K, (a + 1) * K);
    const length = Math.max(Math.sqrt(one.reduce((sum, value) => sum + value ** 2, 0)), 1e-12);
    for (let k = 0; k < K; k++) one[k] /= length;
    for (let b = 0; b <= a; b++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += one[k] * vectors[b * K + k];
      result[a * N + b] = result[b * N + a] = sum;
    }
  }
  return result;
}

// The cosine similarity of each place to each, (N, N), for a kind of positions and a grid; each kind's last is kept.
class Positions {
  constructor(model) {
    [this.R, this.C] = model.get("trained");
    this.grids = new Map(model.get("grids"));
    this.vectors = floats(model.get("vectors"));
    this.wave = floats(model.get("wave"));
    this.resampling = new Map();
    const [matrices, { R, C }] = [floats(model.get("matrices")), this];
    let used = 0;
    for (const [rows, columns] of this.grids) {
      const down = matrices.subarray(used, (used += rows * R));
      this.resampling.set(rows, [down, matrices.subarray(used, (used += columns * C))]);
    }
    this.turns = new Map();
    const turns = floats(model.get("turns"));
    used = 0;
    for (const [rows, columns] of turns.length ? this.grids : []) {
      const down = turns.subarray(used, (used += rows));
      this.turns.set(rows, [down, turns.subarray(used, (used += columns))]);
    }
    this.kept = {};
  }

  none = (rows, columns) => new Float32Array((rows * columns) ** 2).fill(1);

  sinusoidal = (rows, columns) => this.apart(rows, columns, this.wave, this.wave);

  rotary = (rows, columns) => this.apart(rows, columns, ...this.turns.get(rows));

  // Half of the numbers tell the row, half the column, all of the same length: the mean of both similarities.
  apart(rows, columns, alongRows, alongColumns) {
    const N = rows * columns;
    return Float32Array.from({ length: N * N }, (_, i) => {
      const [a, b] = [Math.floor(i / N), i % N];
      const down = Math.abs(Math.floor(a / columns) - Math.floor(b / columns));
      return (alongRows[down] + alongColumns[Math.abs((a % columns) - (b % columns))]) / 2;
    });
  }

  learned(rows, columns) {
    const { R, C, vectors } = this;
    const K = vectors.length / (R * C);
    const [down, across] = this.resampling.get(rows);
    return cosines(resample(resample(vectors, 1, down, R, C * K), rows, across, C, K), rows * columns, K);
  }

  similarities(kind, rows) {
    if (this.kept[kind]?.rows !== rows) {
      const values = this[kind](rows, this.grids.get(rows));
      this.kept[kind] = { rows, values, lowest: values.reduce((a, b) => Math.min(a, b)) };
    }
    return this.kept[kind];
  }
}

// ------------------------------------------------------------------------------------------ the explorer

const number = (value) => value.toFixed(3).replace("-0.000", "0.000");

class PositionExplorer {
  constructor({ model, el }) {
    Object.assign(this, { model, positions: new Positions(model), kinds: model.get("kinds") });
    this.kept = model.get("place"); // what the trait held last
    this.question = new Question(this.gridOf(model.get("rows")), this.kept, {
      redraw: () => this.redraw(),
      choose: (place) => place !== this.kept && tell(model, { place: (this.kept = place) }),
    });
    const view = (this.view = frame(el, {
      name: "positions",
      title: "Position explorer",
      hint: "Point at a place: which others are like it? Click to hold it, then point at a second one.",
    }));
    choice(view, model, "kind", "Positions", [...this.kinds.map((kind) => [kind, kind]), ["all", "side by side"]]);
    choice(view, model, "stretched", "Colours", [[false, "from -1 to 1"], [true, "from the lowest to 1"]]);
    this.showTables = tables(view, model, () => this.shown().map((kind) => this.table(kind)));
    const { grids } = this.positions;
    slider(view, model, "rows", "Grid", [...grids.keys()], (rows) => `${rows} x ${grids.get(rows)}`);
    this.panes = this.kinds.map((kind) => this.addPane(kind));
    watch(model, ["rows"], () => this.changeGrid());
    watch(model, ["place"], () => {
      if (model.get("rows") !== this.grid.rows) return; // change:rows follows
      this.question.token = this.kept = Math.min(model.get("place"), this.grid.count - 1);
      this.redraw();
    });
    watch(model, ["kind", "stretched"], () => this.redraw());
    this.redraw();
  }

  get grid() {
    return this.question.grid;
  }

  gridOf = (rows) => new Grid(rows, this.positions.grids.get(rows));

  // Another grid: the chosen place stays where it is in the image, unless Python has chosen another at the same time.
  changeGrid() {
    const { model, grid, question } = this;
    const [row, column] = grid.place(question.token);
    question.grid = this.gridOf(model.get("rows"));
    const place = question.grid.at((column + 0.5) / grid.columns, (row + 0.5) / grid.rows);
    if (model.get("place") === this.kept) model.set("place", place);
    question.token = this.kept = model.get("place");
    question.other = null;
    this.redraw();
  }

  addPane(kind) {
    const added = pane(this.view, {
      beside: "vit-main",
      main: {
        label: `Places of the grid, ${kind} positions. Arrow keys choose a place, Home the first, End the last; ` +
          "Enter holds it, Escape lets go.",
        height: (width) => this.grid.height(width) + SCALE,
        draw: (context, width, height, colours) => this.drawMain(kind, context, width, colours),
      },
      small: {
        label: `The same map for every place, ${kind} positions; a click chooses a place, ` +
          "as the arrow keys do in the large map.",
        height: (width) => this.tiling(width).height,
        draw: (context, width, height, colours) => this.drawTiles(kind, context, width, colours),
      },
    });
    this.question.listen(added.main);
    added.small.style.cursor = "pointer";
    added.small.addEventListener("click", (event) => {
      const { across, down, high } = this.tiling(added.small.clientWidth);
      const [x, y] = pointer(event, added.small);
      const at = [Math.floor((y * added.small.clientHeight) / (high + GAP)), Math.floor(x * across)];
      if (at[0] < down && at[1] < across) this.question.hold(this.grid.token(...at.map((i) => i * this.apart)));
    });
    return { kind, ...added };
  }

  // ---------------------------------------------------------------- what is shown

  shown = () => this.model.get("kind") === "all" ? this.kinds : [this.model.get("kind")];

  row(kind, place) {
    const N = this.grid.count;
    return this.positions.similarities(kind, this.grid.rows).values.subarray(place * N, (place + 1) * N);
  }

  // Which colours, and the similarity at their lower end.
  colouring(kind) {
    const stretched = this.model.get("stretched") && kind !== "none";
    const low = stretched ? Math.min(this.positions.similarities(kind, this.grid.rows).lowest, 0.999) : -1;
    return { map: stretched ? viridis : diverging, low, shade: (value) => (value - low) / (1 - low) };
  }

  // ---------------------------------------------------------------- drawing

  drawMain(kind, context, width, colours) {
    const { grid, question } = this;
    const [{ map, low, shade }, area] = [this.colouring(kind), grid.area(width)];
    drawHeat(context, this.row(kind, question.token).map(shade), grid.columns, area, () => 1, map);
    // Thin lines, so that a place can be seen where all are alike.
    strokeLines(context, grid.lines(area), { style: colours.surface, alpha: 0.45 });
    outline(context, grid.box(question.token, area), CHOSEN);
    if (question.other !== null) outline(context, grid.box(question.other, area), "#fff", 2);
    const top = area[3] + 8;
    drawScale(context, [0, top, width, 8], map);
    const middle = low === -1 ? [[0, "0", "center"]] : [];
    const lowest = low === -1 ? "-1 opposite" : `${number(low)} lowest`;
    for (const [value, text, align] of [[low, lowest, "left"], ...middle, [1, "1 same direction", "right"]]) {
      write(context, colours, text, [shade(value) * width, top + 17], { align });
    }
  }

  // The places that have a small map are so many rows and columns apart.
  get apart() {
    return Math.ceil(Math.max(this.grid.rows, this.grid.columns) / MAPS);
  }

  tiling(width) {
    const { rows, columns, ratio } = this.grid;
    const [down, across] = [Math.ceil(rows / this.apart), Math.ceil(columns / this.apart)];
    const wide = (width - GAP * (across - 1)) / across;
    const high = wide * ratio;
    const box = (row, column) => [column * (wide + GAP), row * (high + GAP), wide, high];
    return { down, across, high, box, height: down * (high + GAP) - GAP + SCALE };
  }

  drawTiles(kind, context, width, colours) {
    const [{ grid, apart }, { map, shade }] = [this, this.colouring(kind)];
    const { down, across, box, height } = this.tiling(width);
    const maps = range(down * across).map((i) => {
      const [y, x] = [Math.floor(i / across), i % across];
      return [this.row(kind, grid.token(apart * y, apart * x)).map(shade), box(y, x)];
    });
    drawHeats(context, maps, grid.columns, () => 1, map);
    outline(context, box(...grid.place(this.question.token).map((i) => Math.floor(i / apart))), CHOSEN);
    const which = apart === 1 ? "All maps" : `Maps of places ${apart} apart`;
    write(context, colours, `${which}, each where its place lies. Click one.`, [0, height - SCALE + 13]);
  }

  // ---------------------------------------------------------------- the whole

  redraw() {
    const { grid, question, kinds } = this;
    const { R, C } = this.positions;
    const shown = this.shown();
    this.view.body.classList.toggle("vit-two", shown.length > 1);
    const details = {
      learned: grid.rows === R && grid.columns === C ? "as trained" : `interpolated from ${R} x ${C}`,
      rotary: `computed for ${grid.rows} x ${grid.columns}`,
      sinusoidal: `computed for ${grid.rows} x ${grid.columns}`,
      none: "every place has the same vector",
    };
    for (const { kind, show } of this.panes) {
      show(shown.includes(kind) ? `${kind[0].toUpperCase()}${kind.slice(1)}: ${details[kind]}` : null);
    }
    const words = [`Place: ${grid.name(question.token)}${question.held ? " (held)" : ""}.`, ...this.facts(shown)];
    this.view.say(words.join(" "));
    this.showTables();
  }

  facts(shown) {
    const { grid, question } = this;
    const rows = shown.map((kind) => this.row(kind, question.token));
    const each = (value) => rows.map((row, i) => `${rows.length > 1 ? `${shown[i]} ` : ""}${number(value(row))}`);
    if (question.other !== null) {
      return [`Similarity to ${grid.name(question.other)}: ${each((row) => row[question.other]).join(", ")}.`];
    }
    const least = (row) => row.reduce((a, b) => Math.min(a, b));
    if (rows.length > 1) return [`Lowest similarity: ${each(least).join(", ")}.`];
    const [[row], others] = [rows, range(grid.count).filter((place) => place !== question.token)];
    if (shown[0] === "none" || !others.length) return ["It cannot be told from any other: all similarities are 1."];
    const [best, worst] = [1, -1].map((sign) => others.reduce((a, b) => (sign * row[b] > sign * row[a] ? b : a)));
    return [
      `Most like it: ${grid.name(best)}, ${number(row[best])}.`,
      `Least: ${grid.name(worst)}, ${number(row[worst])}.`,
    ];
  }

  table(kind) {
    const caption = `Cosine similarity of ${this.grid.name(this.question.token)} to each place, ${kind} positions`;
    return this.grid.table(caption, Array.from(this.row(kind, this.question.token), number));
  }
}

const render = (context) => new PositionExplorer(context).view.close;
export default { render };
