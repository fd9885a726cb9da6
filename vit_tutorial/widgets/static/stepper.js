import {
  arrow, button, bytes, clamp, drawHeat, element, floats, frame, onPlainKey, outline, picture, pointer, range, stage,
  strokeLines, tables, tell, veil, watch, write,
} from "./draw.js";
import { Grid } from "./grid.js";
import { Bars, Heads } from "./heads.js";
import { Rail } from "./rail.js";
import { Channels, fixed, Matrix } from "./stages.js";
import { readAttention } from "./weights.js";

// The stages with their values, from the bytes; what follows from them is computed here as torch computes it.
function readStages(model, pixels) {
  const data = floats(model.get("data"));
  const stages = model.get("stages").map((s) => ({ ...s }));
  stages.forEach((s, i) => {
    if (s.kind === "sum") {
      Object.assign(s, { before: stages[s.before], update: stages[i - 1] });
      const add = (value, k) => value + s.update.values[k];
      s.values = s.before.values.map(add); // Float32Array: rounded as in torch
    } else if (s.kind === "image") s.values = normalised(pixels, model.get("mean"), model.get("std"));
    else if (s.rows) s.values = data.subarray(s.at, s.at + s.rows * s.columns);
    if (s.rows) s.statistics = data.subarray(s.facts, s.facts + 3 * s.rows); // mean, std, length of each row
    const [low, high] = s.scale;
    s.heat = s.values?.map((value) => (value - low) / (high - low));
  });
  return stages;
}

function normalised(pixels, mean, std) {
  const [values, area] = [new Float32Array(pixels.length), pixels.length / 3];
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < area; i++) {
      const centred = Math.fround(Math.fround(pixels[3 * i + channel] / 255) - mean[channel]);
      values[channel * area + i] = centred / std[channel];
    }
  }
  return values;
}

class Stepper {
  constructor({ model, el }) {
    const [pixels, [rows, columns]] = [bytes(model.get("pixels")), model.get("grid")];
    Object.assign(this, { model, size: model.get("size"), classes: model.get("classes") });
    this.attention = readAttention(model);
    const [Y, X] = this.size;
    this.grid = new Grid(rows, columns, { names: this.attention.N > rows * columns ? ["class token"] : [], ratio: Y / X });
    [this.image, this.stages] = [picture(pixels, Y, X), readStages(model, pixels)];
    this.whole = this.grid.prefix ? "class token" : "mean of the tokens"; // what the head reads
    this.over = null; // the token under the pointer; the trait holds the chosen one
    const matrix = new Matrix(this);
    this.views = { image: new Channels(this), attention: new Heads(this), bars: new Bars(this) };
    Object.assign(this.views, { tokens: matrix, sum: matrix });
    this.frame = frame(el, {
      name: "stepper",
      title: "Encoder stepper",
      hint:
        "Press → and watch the image become an answer. " +
        "Point at a patch or a token to follow it; click to choose it.",
    });
    this.addControls();
    this.addHeading();
    this.addImage();
    this.addValues();
    onPlainKey(this.frame.root, (event) => this.pressAnywhere(event));
    watch(model, ["stage"], () => this.showStage());
    watch(model, ["token"], () => this.redraw());
    this.showStage();
  }

  addControls() {
    const { model, frame: view, stages, attention } = this;
    this.previous = button(view, "← Previous", () => this.go(this.at - 1));
    this.next = button(view, "Next →", () => this.go(this.at + 1));
    this.rail = new Rail(view, stages, {
      blocks: attention.L,
      current: () => this.at,
      go: (to) => this.go(to),
      goToBlock: (block) => this.goToBlock(block),
    });
    this.chooser = element("select");
    for (const i of range(attention.L + 2)) {
      this.chooser.append(element("option", { value: String(i - 1) }, this.rail.partName(i - 1)));
    }
    this.chooser.addEventListener("change", () => this.goToBlock(Number(this.chooser.value)));
    view.controls.append(element("label", { className: "vit-control" }, element("span", {}, "Part"), this.chooser));
    this.showTables = tables(view, model, () => [this.view.table()].filter((made) => made));
  }

  // What the stage is: name, sentence, line of code, shape.
  addHeading() {
    const title = element("div", { className: "vit-step-title" });
    const text = element("p", { className: "vit-step-text" });
    const [code, shape] = [element("code"), element("span", { className: "vit-step-shape" })];
    this.heading = { title, text, code, shape };
    const line = element("div", { className: "vit-step-code" }, code, shape);
    this.frame.body.before(element("div", { className: "vit-step" }, title, text, line));
  }

  // The image, and the facts about the chosen token.
  addImage() {
    this.caption = element("div", { className: "vit-caption" });
    const holder = element("div", { className: "vit-aside-image" }, this.caption);
    const list = element("dl", { className: "vit-stats" });
    this.facts = {};
    for (const name of ["token", "mean", "std", "length", "moved", "number"]) {
      this.facts[name] = [element("dt", {}, name), element("dd", { className: `vit-fact-${name}` })];
      list.append(...this.facts[name]);
    }
    this.frame.body.append(element("div", { className: "vit-aside" }, holder, list));
    this.small = stage(this.frame, holder, {
      label: "The image. Arrow keys choose a patch, Home the class token.",
      role: "application",
      focusable: true,
      height: (width) => this.grid.height(width),
      draw: (context, width, height, colours) => this.drawImage(context, width, colours),
    });
    const { canvas } = this.small;
    const under = (event) => this.grid.under(event, canvas);
    const preview = (token) => token !== this.over && ((this.over = token), this.redraw());
    canvas.addEventListener("pointermove", (event) => preview(under(event)));
    canvas.addEventListener("pointerleave", () => preview(null));
    canvas.addEventListener("click", (event) => this.choose(under(event)));
    onPlainKey(canvas, (event) => {
      const [step, ends] = [arrow(event), { Home: 0, End: this.grid.count - 1 }];
      if (!step && !(event.key in ends)) return;
      this.choose(step ? this.grid.step(this.token, step) : ends[event.key]);
      event.preventDefault();
    });
  }

  addValues() {
    const holder = element("div", { className: "vit-matrix" });
    this.frame.body.append(holder);
    this.main = stage(this.frame, holder, {
      label: "Values of the stage",
      role: "application",
      focusable: true,
      height: (width) => (width < 420 ? 400 : 452),
      draw: (context, width, height, colours) => this.view.draw(context, [width, height], colours),
    });
    const { canvas } = this.main;
    const point = (event) => {
      const size = [canvas.clientWidth, canvas.clientHeight];
      return this.view.point(pointer(event, canvas).map((part, axis) => part * size[axis]), size);
    };
    canvas.addEventListener("pointermove", (event) => {
      this.over = point(event);
      this.redraw();
    });
    canvas.addEventListener("pointerleave", () => this.clear());
    canvas.addEventListener("click", (event) => this.choose(point(event) ?? this.view.chosen ?? null));
    onPlainKey(canvas, (event) => {
      const step = arrow(event);
      if (event.key === "Escape") this.clear();
      else if (step || event.key === "Home") this.view.press(step);
      else return;
      event.preventDefault();
      this.redraw();
    });
  }

  // ---------------------------------------------------------------- what is shown

  // What is shown now. The row is null where there is none, or the class token is not there yet.
  update() {
    const { model, stages, grid } = this;
    this.at = clamp(model.get("stage"), 0, stages.length - 1);
    this.stage = stages[this.at];
    this.view = this.views[this.stage.kind];
    this.token = this.over ?? clamp(model.get("token"), 0, grid.count - 1);
    const { kind, rows } = this.stage;
    this.firstToken = grid.count - rows; // that of the first row
    const row = rows === 1 ? 0 : this.token - this.firstToken;
    this.row = rows && kind !== "bars" && row >= 0 ? row : null;
    this.rowName = rows === 1 ? this.whole : this.nameOf(this.token);
  }

  nameOf = (token) => (token < this.grid.prefix ? "class token" : this.grid.name(token));

  // How far the sum moved a row's token, as a share of its length; null in other stages.
  moved(row) {
    const { before, update } = this.stage;
    if (!before || row === null) return null;
    const length = ({ statistics }) => statistics[3 * row + 2];
    return length(update) / Math.max(length(before), 1e-12);
  }

  // The same for each patch.
  movements() {
    const patches = this.grid.rows * this.grid.columns;
    return Float32Array.from({ length: patches }, (_, i) => this.moved(i + this.stage.rows - patches));
  }

  // ---------------------------------------------------------------- what the pointer and the keys do

  go(to) {
    if (to >= 0 && to < this.stages.length && to !== this.at) tell(this.model, { stage: to });
  }

  // To the same stage of another block, or to the first of the embedding or the answer.
  goToBlock(block) {
    const { L } = this.attention;
    if (block < -1 || block > L) return;
    const isBlock = (i) => i >= 0 && i < L;
    const same = isBlock(this.stage.block) && isBlock(block);
    this.go(this.stages.findIndex((s) => s.block === block && (!same || s.name === this.stage.name)));
  }

  choose(token) {
    if (token === null) return;
    this.over = null;
    tell(this.model, { token });
    this.redraw();
  }

  clear() {
    this.over = null;
    this.view.clear();
    this.redraw();
  }

  pressAnywhere(event) {
    if (event.target.closest("select, input, .vit-table")) return;
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    if (event.key === "PageDown") this.goToBlock(this.stage.block + 1);
    else if (event.key === "PageUp") this.goToBlock(this.stage.block - 1);
    else if ([this.main.canvas, this.small.canvas].includes(event.target)) return;
    else if (event.key in steps) this.go(this.at + steps[event.key]);
    else if (event.key === "Home") this.go(0);
    else if (event.key === "End") this.go(this.stages.length - 1);
    else return;
    event.preventDefault();
  }

  // ---------------------------------------------------------------- drawing and words

  drawImage(context, width, colours) {
    const { grid, stage: shown, view } = this;
    const area = grid.area(width);
    context.imageSmoothingEnabled = this.size[1] > 64; // small images keep their pixels
    context.drawImage(this.image, ...area);
    if (shown.kind === "sum") {
      const most = Math.max(...this.movements(), 1e-12);
      drawHeat(context, this.movements().map((share) => share / most), grid.columns, area, veil);
    } else strokeLines(context, grid.lines(area), { style: "rgba(255, 255, 255, 0.3)" });
    const whole = shown.kind === "bars" || shown.rows === 1;
    if (grid.prefix) this.drawClassToken(context, colours);
    if (!whole || grid.prefix) outline(context, grid.box(whole ? 0 : this.token, area), colours.mark);
    const asked = view.chosen ?? -1; // in a head
    if (asked >= grid.prefix) outline(context, grid.box(asked, area), "#fff", 1.5);
  }

  drawClassToken(context, colours) {
    const there = this.stages.findIndex((s) => s.name === "class token") <= this.at;
    Object.assign(context, { strokeStyle: colours.muted, lineWidth: 1 });
    context.setLineDash(there ? [] : [3, 3]);
    context.strokeRect(3.5, 4.5, 19, 19);
    context.setLineDash([]);
    const style = { ink: there ? colours.ink : colours.muted, size: 12 };
    write(context, colours, there ? "class token" : "class token: later", [31, 14], style);
  }

  showFacts() {
    const { stage: shown, row, view } = this;
    const put = (name, value, term = name) => {
      const [dt, dd] = this.facts[name];
      [dt.textContent, dd.textContent] = [term, value];
      for (const node of [dt, dd]) node.style.visibility = value ? "visible" : "hidden";
    };
    put("token", shown.kind === "bars" ? "" : this.rowName, shown.kind === "image" ? "patch" : "token");
    const statistic = (i, digits) => (row === null ? "" : fixed(shown.statistics[3 * row + i], digits));
    put("mean", statistic(0, 4));
    put("std", statistic(1, 4));
    put("length", statistic(2, 3));
    const moved = this.moved(row);
    put("moved", moved === null ? "" : `by ${fixed(moved, 3)} × its length`);
    const value = view.value ?? null;
    put("number", value === null ? "" : fixed(value), `no. ${(view.column ?? 0) + 1}`);
  }

  redraw() {
    this.update();
    for (const one of [this.rail, this.small, this.main]) one.redraw();
    this.showFacts();
    this.frame.say(this.view.words());
    this.showTables();
  }

  showStage() {
    this.over = null;
    this.update();
    const { at, stages, stage: shown, attention, heading } = this;
    const last = stages.length - 1;
    const inBlock = shown.block >= 0 && shown.block < attention.L;
    const part = inBlock ? `block ${shown.block + 1} of ${attention.L}, ${shown.name}` : shown.name;
    heading.title.textContent = `${at + 1} of ${stages.length} · ${part}`;
    for (const name of ["text", "code", "shape"]) heading[name].textContent = shown[name];
    this.chooser.value = String(shown.block);
    for (const [node, end] of [[this.previous, at === 0], [this.next, at === last]]) {
      if (end && node === document.activeElement) this.rail.canvas.focus(); // so that the keys still work
      node.disabled = end;
    }
    this.rail.show(`${part}: ${shown.text}`);
    const most = shown.kind === "sum" && fixed(Math.max(...this.movements()), 1);
    this.caption.textContent = most ? `Moved by up to ${most} ×` : "The image";
    const label = `${part}. ${this.view.keys}; Page Up and Page Down change the block.`;
    this.main.canvas.setAttribute("aria-label", label);
    this.clear();
  }
}

const render = (context) => new Stepper(context).frame.close;
export default { render };
