// How the stepper shows the values of a stage: here as three channels or as a matrix of tokens, in heads.js as heads of
// attention or as bars. Each view draws them, keeps what is pointed at, moves it by keys, and says it in words and in a
// table.
import {
  clamp, colour, drawHeat, drawScale, fillBox, inkOn, ordinals, outline, range, table, viridis, write,
} from "./draw.js";

export const [TOP, PROFILE, LEGEND, GAP] = [18, 84, 24, 8]; // above, under and between what is drawn
const FIRST = 16; // numbers of a token in the table
const CHANNELS = ["red", "green", "blue"];

export const fixed = (value, digits = 4) => value.toFixed(digits).replace(/^-(0\.0+)$/, "$1").replace("-", "−");
export const capital = (text) => text[0].toUpperCase() + text.slice(1);
const short = (value) => fixed(value, Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
export const within = ([x, y, w, h], [px, py]) => px >= x && px < x + w && py >= y && py < y + h;

// Under the values: the colours, what their ends mean, and a note where there is room.
export function drawLegend(context, colours, [low, high], note, [width, height]) {
  const y = height - 9;
  const from = Math.ceil(write(context, colours, low, [0, y])) + 6;
  drawScale(context, [from, y - 6, 110, 12]);
  const left = from + 130 + write(context, colours, high, [from + 116, y]);
  if (left + context.measureText(note).width <= width) write(context, colours, note, [left, y]);
}

export class View {
  constructor(stepper) {
    this.stepper = stepper;
  }

  // Forgets what is pointed at. A view also has `keys`, what the keys do, in words; `draw` on a canvas; `point`, which
  // gives the token at a point of it, or null; `press` for an arrow's step, or Home with null; `words` and a `table`.
  clear() {}
}

// ------------------------------------------------------------------------------------------ the image

// The image as the network reads it: three tables of numbers, and the chosen patch of each from near.
export class Channels extends View {
  keys = "Arrow keys choose a patch";

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
export class Matrix extends View {
  keys = "Up and down choose a token, left and right one of its numbers";
  column = null; // the number pointed at

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
    else if (step[1]) this.column = clamp((this.column ?? -1) + step[1], 0, stage.columns - 1);
    else if (stage.rows > 1) this.stepper.choose(clamp(token + step[0], firstToken, grid.count - 1));
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
