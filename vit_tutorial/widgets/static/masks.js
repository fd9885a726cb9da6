import {
  arrow, button, choice, element, fillBox, floats, frame, onPlainKey, outline, picture, range, shuffled, slider, stage,
  strokeLines, table, tables, tell, watch,
} from "./draw.js";
import { Grid } from "./grid.js";
import { Autoencoder } from "./mae.js";

const SHARES = range(19).map((i) => 5 * (i + 1)); // percent
const printed = (error) => (Number.isNaN(error) ? "–" : error.toFixed(3));

class MaskExplorer {
  constructor({ model, el }) {
    const [sizes, count] = [model.get("sizes"), model.get("count")];
    Object.assign(this, { model, sizes, covering: null, draws: 1, patch: model.get("patch") });
    this.autoencoder = new Autoencoder(sizes, floats(model.get("weights")));
    this.grid = new Grid(...sizes.grid);
    const view = (this.view = frame(el, {
      name: "masks",
      title: "Mask explorer",
      hint: "Click or drag over patches to cover or uncover them. By keyboard: arrow keys and Space.",
    }));
    if (count > 1) choice(view, model, "image", "Picture", range(count).map((i) => [i, String(i + 1)]));
    const share = slider(view, model, "share", "Cover at random", SHARES, (value) => `${value} %`);
    share.addEventListener("input", () => model.set("hidden", this.drawn()));
    button(view, "Cover other patches", () => {
      this.draws += 1;
      tell(model, { hidden: this.drawn() });
    });
    button(view, "Uncover all", () => tell(model, { hidden: [] }));
    this.showTables = tables(view, model, () => [this.table()]);
    this.addStages();
    watch(model, ["image"], () => this.open());
    watch(model, ["hidden"], () => this.answer());
    watch(model, ["patch"], () => this.point(model.get("patch")));
    this.open();
  }

  // As many patches as the slider says, the first of an order: where it moves up, others join them.
  drawn() {
    const hidden = Math.floor((this.model.get("share") * this.grid.count) / 100);
    return shuffled(this.grid.count, this.draws).slice(0, hidden).sort((a, b) => a - b);
  }

  // ---------------------------------------------------------------- what is computed

  open() {
    const { N, M } = this.autoencoder;
    const at = this.model.get("image") * N * M;
    this.patches = floats(this.model.get("patches")).subarray(at, at + N * M); // (N, M)
    this.original = this.paste(this.patches);
    this.answer();
  }

  // Patches (N, M), normalised, as a picture.
  paste(patches) {
    const { grid: { rows, columns }, autoencoder: { M }, sizes: { patch: P, mean, std } } = this;
    const pixels = new Uint8ClampedArray(patches.length);
    patches.forEach((value, at) => { // channel by channel, row by row
      const [n, i] = [Math.floor(at / M), at % M];
      const [row, column] = [Math.floor((i % (P * P)) / P), i % P];
      const [y, x, channel] = [Math.floor(n / columns) * P + row, (n % columns) * P + column, Math.floor(i / (P * P))];
      pixels[3 * (y * columns * P + x) + channel] = 255 * (value * std[channel] + mean[channel]);
    });
    return picture(pixels, rows * P, columns * P);
  }

  answer() {
    const { patches, autoencoder: { N, M } } = this;
    const hidden = (this.hidden = new Set(this.model.get("hidden")));
    const answers = this.autoencoder.reconstruct(patches, hidden);
    const covered = (at) => hidden.has(Math.floor(at / M));
    const channel = (at) => Math.floor((3 * (at % M)) / M);
    const colour = [0, 0, 0]; // the guess: the mean of the patches that are left
    patches.forEach((value, at) => covered(at) || (colour[channel(at)] += (3 * value) / (M * (N - hidden.size))));
    const guess = patches.map((_, at) => colour[channel(at)]);
    const row = (n) => patches.subarray(n * M, (n + 1) * M);
    const error = (x, n) => row(n).reduce((sum, value, i) => sum + (x[n * M + i] - value) ** 2 / M, 0);
    this.errors = range(N).map((n) => [answers, guess].map((x) => (hidden.has(n) ? error(x, n) : NaN)));
    this.filled = this.paste(patches.map((value, at) => (covered(at) ? answers[at] : value)));
    this.redraw();
  }

  // ---------------------------------------------------------------- how it is drawn

  addStages() {
    const add = (name, caption, draw, options) => {
      const title = element("div", { className: "vit-caption" }, caption);
      const cell = element("div", { className: `vit-${name}` }, title);
      this.view.body.append(cell);
      const made = stage(this.view, cell, { height: (width) => this.grid.height(width), draw, ...options });
      made.canvas.addEventListener("pointermove", (event) => this.point(this.grid.under(event, made.canvas)));
      return { ...made, title };
    };
    const seen = add("seen", "", (...on) => this.drawPicture(this.original, true, ...on), {
      label: "What it sees. Arrow keys choose a patch, Home the first, End the last; Space covers or uncovers.",
      role: "application",
      focusable: true,
    });
    this.listen(seen.canvas);
    const filled = add("filled", "What it fills in", (...on) => this.drawPicture(this.filled, false, ...on), {
      label: "The patches that the model sees, and what it fills in for the others.",
    });
    const whole = add("whole", "The picture itself", (...on) => this.drawPicture(this.original, false, ...on), {
      label: "The picture itself.",
    });
    this.stages = [seen, filled, whole];
    this.facts = table("Mean squared error of covered patches", [], [], []);
    this.facts.classList.add("vit-errors");
    this.view.body.append(this.facts);
  }

  drawPicture(image, covers, context, width, height, colours) {
    const area = this.grid.area(width);
    context.imageSmoothingEnabled = false;
    context.drawImage(image, ...area);
    if (covers) {
      for (const n of this.hidden) this.drawCover(context, this.grid.box(n, area), colours);
      strokeLines(context, this.grid.lines(area), { style: colours.surface });
    }
    outline(context, this.grid.box(this.patch, area), colours.mark);
  }

  // Hatched, so that it is no colour of the picture.
  drawCover(context, [x, y, width, height], colours) {
    fillBox(context, [x, y, width, height], colours.line);
    const at = (right, down) => [x + right * width, y + down * height];
    const lines = [[at(0, 0.5), at(0.5, 0)], [at(0, 1), at(1, 0)], [at(0.5, 1), at(1, 0.5)]];
    strokeLines(context, lines, { style: colours.muted, alpha: 0.5 });
  }

  // ---------------------------------------------------------------- what the pointer and keys do

  // The first patch says whether the pointer covers or uncovers, until it is let go.
  listen(canvas) {
    canvas.addEventListener("pointerdown", (event) => {
      const n = this.grid.under(event, canvas);
      if (event.button || n === null) return;
      canvas.setPointerCapture(event.pointerId);
      this.covering = !this.hidden.has(n);
      this.patch = n;
      this.cover(n, this.covering);
    });
    canvas.addEventListener("pointermove", (event) => {
      const n = this.grid.under(event, canvas);
      if (this.covering !== null && n !== null) this.cover(n, this.covering);
    });
    canvas.addEventListener("lostpointercapture", () => {
      this.covering = null;
      tell(this.model, { patch: this.patch });
    });
    onPlainKey(canvas, (event) => {
      const step = arrow(event);
      if (event.key === "Enter" || event.key === " ") this.cover(this.patch, !this.hidden.has(this.patch));
      else if (step) this.point(this.grid.step(this.patch, step));
      else if (event.key === "Home" || event.key === "End") this.point(event.key === "Home" ? 0 : this.grid.count - 1);
      else return;
      event.preventDefault();
      tell(this.model, { patch: this.patch });
    });
  }

  cover(n, covered) {
    if (this.hidden.has(n) === covered) return;
    const hidden = covered ? [...this.hidden, n] : [...this.hidden].filter((other) => other !== n);
    if (hidden.length < this.grid.count) this.model.set("hidden", hidden.sort((a, b) => a - b));
    else this.view.say("One patch has to be left: from nothing the model can tell nothing.");
  }

  point(n) {
    if (n === null || n === this.patch) return;
    this.patch = n;
    this.redraw();
  }

  // ---------------------------------------------------------------- the whole

  redraw() {
    const { grid, hidden, errors, patch, stages } = this;
    stages.forEach((one) => one.redraw());
    stages[0].title.textContent = `The model sees ${grid.count - hidden.size} of ${grid.count} patches`;
    const mean = [0, 1].map((k) => [...hidden].reduce((sum, n) => sum + errors[n][k], 0) / hidden.size);
    const lines = [0, 1].map((k) => [printed(errors[patch][k]), printed(mean[k])]);
    const names = ["the model", "mean colour seen"];
    const fresh = table("Mean squared error of covered patches", ["this one", `all ${hidden.size}`], names, lines);
    this.facts.replaceChildren(...fresh.children);
    const said = hidden.has(patch) ? `error ${lines[0][0]}, of the mean colour ${lines[1][0]}` : "not covered";
    this.view.say(`Patch in ${grid.name(patch)}: ${said}.`);
    this.showTables();
  }

  table() {
    const texts = this.errors.map(([error], n) => (this.hidden.has(n) ? printed(error) : ""));
    return this.grid.table("The model's mean squared error in each covered patch", texts);
  }
}

const render = (context) => new MaskExplorer(context).view.close;
export default { render };
