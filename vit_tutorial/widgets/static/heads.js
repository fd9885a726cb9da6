// Two more views of the stepper: the heads of attention over the image, and the classes as bars.
import { clamp, colour, drawHeat, fillBox, ordinals, outline, range, table, veil, viridis, write } from "./draw.js";
import { capital, drawLegend, fixed, GAP, LEGEND, TOP, View, within } from "./stages.js";
import { MEAN } from "./weights.js";

// ------------------------------------------------------------------------------------------ attention weights

// The chosen token's weights in each head, and their mean, over the image.
export class Heads extends View {
  keys = "Arrow keys choose a patch to ask about, Home the class token";
  key = null; // the token asked about, and in which of the heads: [i, token]
  heads = this.stepper.attention.H > 1 ? [...range(this.stepper.attention.H), MEAN] : [0];

  clear() {
    this.key = null;
  }

  name = (i) => this.heads[i] === MEAN ? "mean" : `head ${i + 1}`;

  values(i) {
    const { attention, stage, token } = this.stepper;
    return attention.row(stage.block, 0, this.heads[i], token);
  }

  percent = (value) => this.stepper.attention.exact ? `${fixed(100 * value, 2)} %` : `about ${fixed(100 * value, 1)} %`;

  // Tiles as wide as they can be.
  boxes([width, height]) {
    const [count, { ratio }] = [this.heads.length, this.stepper.grid];
    const wideOf = (across) => {
      const down = Math.ceil(count / across);
      const high = (height - LEGEND - GAP * (down - 1)) / down - TOP;
      return Math.min((width - GAP * (across - 1)) / across, high / ratio);
    };
    const across = range(count + 1).slice(1).reduce((a, b) => (wideOf(b) > wideOf(a) ? b : a));
    const wide = wideOf(across);
    const place = (i) => [(i % across) * (wide + GAP), Math.floor(i / across) * (wide * ratio + TOP + GAP) + TOP];
    return range(count).map((i) => [...place(i), wide, wide * ratio]);
  }

  draw(context, size, colours) {
    this.boxes(size).forEach((box, i) => this.drawHead(context, box, i, colours));
    const note = `of a head's largest weight${this.stepper.grid.prefix ? "; small square: to the class token" : ""}`;
    drawLegend(context, colours, ["0", "100 %"], note, size);
  }

  drawHead(context, box, i, colours) {
    const { grid, token, image, size } = this.stepper;
    const [values, [x, y, wide]] = [this.values(i), box];
    const most = values.reduce((a, b) => Math.max(a, b), 1e-12);
    context.imageSmoothingEnabled = size[1] > 64;
    context.drawImage(image, ...box);
    drawHeat(context, values.subarray(grid.prefix).map((value) => value / most), grid.columns, box, veil);
    const square = [x, y - 15, 12, 12]; // the class token
    if (grid.prefix) fillBox(context, square, colour(viridis, values[0] / most));
    const [name, share] = [this.name(i), `${fixed(100 * most, 0)} %`];
    const texts = wide > 130 ? [name, `up to ${share}`] : [name.replace("head ", ""), wide > 80 ? share : ""];
    write(context, colours, texts[0], [x + 18 * grid.prefix, y - 9], { bold: true, ink: colours.ink });
    write(context, colours, texts[1], [x + wide, y - 9], { align: "right" });
    const thick = Math.min(2, wide / grid.columns / 6);
    if (token >= grid.prefix) outline(context, grid.box(token, box), colours.mark, thick);
    if (!this.key) return;
    if (this.key[1] >= grid.prefix) outline(context, grid.box(this.key[1], box), "#fff", 1.5);
    else outline(context, [x - 1, y - 16, 14, 14], colours.ink, 1);
  }

  // What is pointed at is asked about; the query stays.
  point(point, size) {
    const { grid } = this.stepper;
    this.key = null;
    this.boxes(size).forEach(([x, y, wide, high], i) => {
      if (!within([x, y - TOP, wide, high + TOP], point)) return;
      const token = point[1] < y ? (grid.prefix ? 0 : null) : grid.at((point[0] - x) / wide, (point[1] - y) / high);
      if (token !== null) this.key = [i, token];
    });
    return null;
  }

  get chosen() {
    return this.key?.[1] ?? null;
  }

  // Keys walk through the patches of a head, and from its last column into the next head.
  press(step) {
    const { grid, token } = this.stepper;
    if (!step || !this.key) this.key = [0, step ? token : 0];
    else {
      const [i, from] = this.key;
      const to = grid.step(from, step);
      const next = clamp(i + step[1], 0, this.heads.length - 1);
      if (to !== from || !step[1]) this.key = [i, to];
      else if (next !== i) this.key = [next, from < grid.prefix ? 0 : from - step[1] * (grid.columns - 1)];
    }
  }

  words() {
    const name = this.stepper.grid.name(this.stepper.token);
    if (!this.key) return `Query: ${name}. Point at a patch to read its weight.`;
    const [i, token] = this.key;
    const weight = this.percent(this.values(i)[token]);
    return `${capital(this.name(i))}: ${name} takes ${weight} from ${this.stepper.grid.name(token)}.`;
  }

  table() {
    const { grid, token, attention } = this.stepper;
    const names = ["class token"].slice(1 - grid.prefix).concat(ordinals(Math.min(grid.rows * grid.columns, 64)));
    const line = (_, i) => {
      const values = this.values(i).subarray(0, names.length);
      return Array.from(values, (value) => fixed(value, attention.exact ? 4 : 3));
    };
    const to = `${grid.prefix ? "the class token and " : ""}the patches by number${attention.exact ? "" : ", about"}`;
    const caption = `Weights from ${grid.name(token)} to ${to}`;
    return table(caption, names, this.heads.map((_, i) => this.name(i)), this.heads.map(line));
  }
}

// ------------------------------------------------------------------------------------------ classes

// The largest logits or probabilities as bars.
export class Bars extends View {
  keys = "Arrow keys choose a class";
  bar = 0; // the class asked about

  logits = this.stepper.stages.at(-2).values;
  best = [...this.logits.keys()].sort((a, b) => this.logits[b] - this.logits[a]).slice(0, 10);

  places([, height]) {
    const step = Math.min(40, (height - TOP) / this.best.length);
    return this.best.map((_, i) => [TOP + i * step, step]);
  }

  draw(context, size, colours) {
    const [{ stage, classes }, { best }] = [this.stepper, this];
    const values = best.map((i) => stage.values[i]);
    const order = best.length < classes.length ? `the largest ${best.length} of ${classes.length}` : "largest first";
    write(context, colours, order, [0, 8]);
    const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
    const label = Math.min(130, size[0] / 3);
    const from = label + (low < 0 ? 60 : 8);
    const across = (value) => from + ((size[0] - from - 66) * (value - low)) / (high - low || 1);
    const places = this.places(size);
    places.forEach(([y, step], i) => {
      if (i === this.bar) fillBox(context, [0, y, size[0], step], colours.line, 0.5);
      const [value, middle] = [values[i], y + step / 2];
      const [left, right] = [across(Math.min(0, value)), across(Math.max(0, value))];
      const area = [left, y + step * 0.2, Math.max(1, right - left), step * 0.6];
      fillBox(context, area, i ? colours.accent : colours.mark);
      context.font = `${i ? "" : "600 "}11.5px ${colours.font}`;
      let name = classes[best[i]];
      while (name.length > 1 && context.measureText(name).width > label - 4) name = `${name.slice(0, -2)}…`;
      write(context, colours, name, [0, middle], { ink: colours.ink, bold: i === 0 });
      const number = stage.name === "probabilities" ? `${fixed(100 * value, 1)} %` : fixed(value, 2);
      const beside = value < 0 ? { at: left - 5, align: "right" } : { at: right + 5, align: "left" };
      write(context, colours, number, [beside.at, middle], { ink: colours.ink, align: beside.align });
    });
    const [last, step] = places.at(-1);
    fillBox(context, [across(0) - 0.5, TOP, 1, last + step - TOP], colours.muted);
  }

  point(point, size) {
    const found = this.places(size).findIndex(([y, step]) => point[1] >= y && point[1] < y + step);
    if (found >= 0) this.bar = found;
    return null;
  }

  press(step) {
    this.bar = step ? clamp(this.bar + step[0] + step[1], 0, this.best.length - 1) : 0;
  }

  words() {
    const { stages, classes } = this.stepper;
    const [logit, probability] = stages.slice(-2).map(({ values }) => values[this.best[this.bar]]);
    return `${classes[this.best[this.bar]]}: logit ${fixed(logit)}, probability ${fixed(100 * probability, 2)} %.`;
  }

  table() {
    const { stages, classes } = this.stepper;
    const rows = stages.slice(-2).map(({ values }) => this.best.map((i) => fixed(values[i])));
    return table("The classes, largest first", this.best.map((i) => classes[i]), ["logit", "probability"], rows);
  }
}
