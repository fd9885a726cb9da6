// How the stepper shows the values of a stage: as three channels, a matrix of tokens, heads of attention, or bars. Each
// view draws them, keeps what is pointed at, moves it by keys, and says it in words and in a table.
import {
  colour, drawHeat, drawScale, fillBox, inkOn, ordinals, outline, range, table, veil, viridis, write,
} from "./draw.js";
import { MEAN } from "./weights.js";

const [TOP, PROFILE, LEGEND, GAP] = [18, 84, 24, 8]; // above, under and between what is drawn
const FIRST = 16; // numbers of a token in the table
const CHANNELS = ["red", "green", "blue"];

export const fixed = (value, digits = 4) => value.toFixed(digits).replace(/^-(0\.0+)$/, "$1").replace("-", "−");
export const capital = (text) => text[0].toUpperCase() + text.slice(1);
const short = (value) => fixed(value, Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
const within = ([x, y, w, h], [px, py]) => px >= x && px < x + w && py >= y && py < y + h;

// Under the values: the colours, what their ends mean, and a note where there is room.
function drawLegend(context, colours, [low, high], note, [width, height]) {
  const y = height - 9;
  const from = Math.ceil(write(context, colours, low, [0, y])) + 6;
  drawScale(context, [from, y - 6, 110, 12]);
  const left = from + 130 + write(context, colours, high, [from + 116, y]);
  if (left + context.measureText(note).width <= width) write(context, colours, note, [left, y]);
}

// ------------------------------------------------------------------------------------------ the image

// The image as the network reads it: three tables of numbers, and the chosen patch of each from near.
export class Channels {
  keys = "Arrow keys choose a patch";

  constructor(stepper) {
    this.stepper = stepper;
  }

  clear() {}

  boxes([width, height]) {
    const { ratio } = this.stepper.grid;
    const wide = (width - 2 * GAP) / 3;
    const most = height - LEGEND - 2 * TOP - GAP;
    const high = Math.min(wide * ratio, most * 0.55);
    const areas = range(3).map((channel) => [channel * (wide + GAP), TOP, Math.min(wide, high / ratio), high]);
    return { areas, near: 2 * TOP + GAP + high, side: Math.min(wide, most - high) };
  }

  // Where the pixels of the chosen patch lie in a channel, row by row, and how many are in a row.
  patch() {
    const { grid, token, size } = this.stepper;
    const [row, column] = grid.place(token);
    const [py, px] = [size[0] / grid.rows, size[1] / grid.columns];
    const places = range(py * px).map((i) => (row * py + Math.floor(i / px)) * size[1] + column * px + (i % px));
    return { px, py, places };
  }

  draw(context, size, colours) {
    const { grid, token, stage } = this.stepper;
    const { areas, near, side } = this.boxes(size);
    areas.forEach((area, channel) => {
      write(context, colours, CHANNELS[channel], [area[0], 8], { bold: true, ink: colours.ink });
      const heat = stage.heat.subarray((channel * stage.heat.length) / 3, ((channel + 1) * stage.heat.length) / 3);
      drawHeat(context, heat, this.stepper.size[1], area);
      if (token < grid.prefix) return;
      outline(context, grid.box(token, area), colours.mark, 2);
      write(context, colours, "its patch", [area[0], near - 10]);
      this.drawPatch(context, heat, [area[0], near, side], colours);
    });
    drawLegend(context, colours, stage.scale.map(short), "one scale for the three", size);
  }

  drawPatch(context, heat, [x, y, side], colours) {
    const { px, py, places } = this.patch();
    const cell = side / Math.max(py, px);
    const near = Float32Array.from(places, (i) => heat[i]);
    drawHeat(context, near, px, [x, y, px * cell, py * cell]);
    if (cell < 27) return;
    const [low, high] = this.stepper.stage.scale;
    near.forEach((t, i) => {
      const spot = [x + ((i % px) + 0.5) * cell, y + (Math.floor(i / px) + 0.5) * cell];
      const style = { align: "center", ink: inkOn(viridis, t) };
      write(context, colours, fixed(low + t * (high - low), 1), spot, style);
    });
  }

  // The token under a point.
  point(point, size) {
    const area = this.boxes(size).areas.find((box) => within(box, point));
    return area ? this.stepper.grid.at((point[0] - area[0]) / area[2], (point[1] - TOP) / area[3]) : null;
  }

  press(step) {
    this.stepper.choose(step ? this.stepper.grid.step(this.stepper.token, step) : 0);
  }

  words() {
    const { grid, token } = this.stepper;
    return token < grid.prefix ? "The class token has no pixels." : `Patch in ${grid.name(token)}.`;
  }

  table() {
    const { grid, token, stage } = this.stepper;
    if (token < grid.prefix) return null;
    const places = this.patch().places.slice(0, FIRST);
    const area = stage.values.length / 3;
    const rows = range(3).map((channel) => places.map((i) => fixed(stage.values[channel * area + i])));
    return table(`${grid.name(token)}: the first pixels of the patch`, ordinals(places.length), CHANNELS, rows);
  }
}

// ------------------------------------------------------------------------------------------ tokens

// A matrix with a row for each token, and the chosen row's profile under it: of a sum also what it was before.
export class Matrix {
  keys = "Up and down choose a token, left and right one of its numbers";
  column = null; // the number pointed at

  constructor(stepper) {
    this.stepper = stepper;
  }

  clear() {
    this.column = null;
  }

  // Where things are: the matrix, and the chosen row's profile under it.
  places([width, height]) {
    const most = height - TOP - PROFILE - LEGEND - 20;
    const { rows } = this.stepper.stage;
    const high = rows < 8 ? Math.min(most, 40 * rows) : most;
    return { matrix: [0, TOP, width, high], profile: [0, TOP + high + 20, width, height - TOP - high - LEGEND - 28] };
  }

  // The numbers of a row of a stage that are here.
  line = (stage, row) => stage.values.subarray(row * stage.columns, (row + 1) * stage.columns);

  draw(context, size, colours) {
    const { stage, row } = this.stepper;
    const { matrix, profile } = this.places(size);
    const [, y, width, high] = matrix;
    const cut = stage.columns < stage.width ? `the first ${stage.columns} of ${stage.width}` : stage.width;
    const tokens = stage.rows === 1 ? `${this.stepper.whole}: ` : `${stage.rows} tokens ↓   `;
    write(context, colours, `${tokens}${cut} numbers →`, [0, 8]);
    drawHeat(context, stage.heat, stage.columns, matrix);
    const [down, across] = [high / stage.rows, width / stage.columns];
    if (row === null) {
      write(context, colours, "The class token is not there yet. Choose a patch, or go on.", [0, profile[1] - 8]);
    } else {
      if (stage.rows > 1) {
        const [from, to] = [Math.max(y, y + row * down - 2), Math.min(y + high, y + (row + 1) * down + 2)];
        outline(context, [0, from, width, to - from], colours.mark, 2);
      }
      if (this.column !== null) {
        const long = profile[1] + profile[3] - y - high;
        fillBox(context, [this.column * across, y + high, across, long], colours.line);
      }
      this.drawProfile(context, profile, colours);
      if (this.column !== null) {
        outline(context, [this.column * across - 2, y + row * down - 2, across + 4, down + 4], "#fff", 1.5);
      }
    }
    const beyond = 100 * stage.beyond;
    const lost = beyond ? `; ${beyond < 0.1 ? "under 0.1" : fixed(beyond, 1)} % of the numbers lie beyond` : "";
    drawLegend(context, colours, stage.scale.map(short), `this stage's own scale${lost}`, size);
  }

  drawProfile(context, [, top, width, high], colours) {
    const { stage, row, rowName } = this.stepper;
    const values = this.line(stage, row);
    const before = stage.before && this.line(stage.before, row);
    const ends = [Math.min(...values), Math.max(...values)];
    const spread = width > 420 ? `: from ${short(ends[0])} to ${short(ends[1])}` : "";
    const used = write(context, colours, rowName + spread, [0, top - 10], { ink: colours.ink });
    if (before) this.drawKey(context, [used + 16, top - 10], colours);
    const all = [0, ...ends, ...(before || [])];
    const [low, most] = [Math.min(...all), Math.max(...all)];
    const level = (value) => top + high * ((most - value) / (most - low || 1));
    const across = width / stage.columns;
    const thick = Math.max(1, across - (across > 3 ? 1 : 0));
    values.forEach((value, i) => {
      const [left, one, other] = [i * across, level(before ? before[i] : 0), level(value)];
      const style = before ? colours.accent : colour(viridis, stage.heat[row * stage.columns + i]);
      fillBox(context, [left, Math.min(one, other), thick, Math.max(1, Math.abs(one - other))], style);
      if (!before) return;
      fillBox(context, [left, one - 1, thick, 2], colours.muted);
      fillBox(context, [left, other - 1, thick, 2], colours.mark);
    });
    fillBox(context, [0, level(0) - 0.5, width, 1], colours.muted);
  }

  drawKey(context, [x, y], colours) {
    fillBox(context, [x, y - 2, 10, 3], colours.muted);
    const next = x + 28 + write(context, colours, "before", [x + 14, y]);
    fillBox(context, [next, y - 2, 10, 3], colours.mark);
    write(context, colours, "after", [next + 14, y]);
  }

  point(point, size) {
    const { stage, firstToken } = this.stepper;
    const { matrix, profile } = this.places(size);
    const number = Math.floor((point[0] / size[0]) * stage.columns);
    const inMatrix = within(matrix, point);
    this.column = inMatrix || within(profile, point) ? number : null;
    if (!inMatrix || stage.rows === 1) return null;
    return Math.floor(((point[1] - TOP) / matrix[3]) * stage.rows) + firstToken;
  }

  press(step) {
    const { stage, token, firstToken, grid } = this.stepper;
    if (!step) this.column = 0;
    else if (step[1]) this.column = Math.min(stage.columns - 1, Math.max(0, (this.column ?? -1) + step[1]));
    else if (stage.rows > 1) this.stepper.choose(Math.min(grid.count - 1, Math.max(firstToken, token + step[0])));
  }

  // The number pointed at, or null.
  get value() {
    const { stage, row } = this.stepper;
    return this.column === null || row === null ? null : this.line(stage, row)[this.column];
  }

  words() {
    const { stage, row } = this.stepper;
    if (row === null) return "The class token is not there yet.";
    const [what, { value }] = [capital(this.stepper.rowName), this];
    if (value !== null) return `${what}, number ${this.column + 1} of ${stage.width}: ${fixed(value)}.`;
    const moved = this.stepper.moved(row);
    const length = fixed(stage.statistics[3 * row + 2], 2);
    return `${what}: ${moved === null ? `length ${length}` : `moved by ${fixed(moved, 3)} × its length`}.`;
  }

  table() {
    const { stage, row, rowName } = this.stepper;
    if (row === null) return null;
    const count = Math.min(FIRST, stage.columns);
    const shown = stage.before ? [stage.before, stage.update, stage] : [stage];
    const names = stage.before ? ["before", "update", "after"] : [rowName];
    const rows = shown.map((one) => Array.from(this.line(one, row).subarray(0, count), (value) => fixed(value)));
    return table(`${rowName}: the first ${count} of its ${stage.width} numbers`, ordinals(count), names, rows);
  }
}

// ------------------------------------------------------------------------------------------ attention weights

// The chosen token's weights in each head, and their mean, over the image.
export class Heads {
  keys = "Arrow keys choose a patch to ask about, Home the class token";
  key = null; // the token asked about, and in which of the heads: [i, token]

  constructor(stepper) {
    this.stepper = stepper;
    const { H } = stepper.attention;
    this.heads = H > 1 ? [...range(H), MEAN] : [0];
  }

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
    if (token >= grid.prefix) outline(context, grid.box(token, box), colours.mark, Math.min(2, wide / grid.columns / 6));
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
      const next = Math.min(this.heads.length - 1, Math.max(0, i + step[1]));
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
export class Bars {
  keys = "Arrow keys choose a class";
  bar = 0; // the class asked about

  constructor(stepper) {
    this.stepper = stepper;
    const logits = stepper.stages.at(-2).values;
    this.best = [...logits.keys()].sort((a, b) => logits[b] - logits[a]).slice(0, 10);
  }

  clear() {}

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
    this.bar = step ? Math.min(this.best.length - 1, Math.max(0, this.bar + step[0] + step[1])) : 0;
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
