import {
  bytes, choice, clamp, drawHeat, drawScale, element, frame, onPlainKey, outline, picture, range, slider, stage, tables,
  tell, watch,
} from "./draw.js";
import { Grid, Question } from "./grid.js";

const NEAREST = 3; // outlined in each picture
const COVER = 0.7; // how much of the picture, which is grey then, the colours of cosines hide
const QUERY = "#d55e00"; // around the query's patch, which is the brightest of all in any theme
const VIEWS = [["alike", "how alike"], ["colours", "features as colours"], ["pictures", "pictures alone"]];

class Similarity {
  constructor({ model, el }) {
    const [layers, B, N, D] = model.get("shape");
    const [[Y, X], [rows, columns]] = [model.get("size"), model.get("grid")];
    Object.assign(this, { model, B, N, D, L: layers - 1, smooth: X > 64 });
    this.codes = new Int16Array(bytes(model.get("codes")).buffer); // (L + 1, B, N, D)
    this.sizes = range(layers * B * N).map((n) => Math.sqrt(this.dot(n, n)));
    this.colours = bytes(model.get("colours")); // (L + 1, B, N, 3)
    const pixels = bytes(model.get("pixels"));
    const greys = pixels.map((_, i) => (pixels[i - (i % 3)] + pixels[i - (i % 3) + 1] + pixels[i - (i % 3) + 2]) / 3);
    const cut = (all) => range(B).map((b) => picture(all.subarray(3 * b * Y * X), Y, X));
    [this.pictures, this.greys] = [cut(pixels), cut(greys)];
    this.grid = new Grid(rows, columns, { ratio: Y / X });
    this.sides = ["left", "right"].slice(0, B);
    this.question = new Question(this.field(), model.get("patch"), {
      redraw: () => this.redraw(),
      choose: (patch) => patch !== model.get("patch") && tell(model, { patch }),
    });
    this.view = frame(el, {
      name: "similarity",
      title: "Similarity explorer",
      hint: "Point at a patch: white frames are around those most like it. Click to hold it; arrow keys move.",
    });
    this.addControls();
    this.addStages();
    watch(model, ["layer", "left", "right", "show"], () => this.redraw());
    watch(model, ["patch"], () => {
      this.question.token = model.get("patch");
      this.redraw();
    });
    this.redraw();
  }

  // Both pictures' patches, one after the other; arrow keys walk from the left one into the right one.
  field() {
    const { grid, N, sides } = this;
    const under = (event, canvas) => {
      const n = grid.under(event, canvas);
      return n === null ? null : n + N * this.stages.findIndex((one) => one.canvas === canvas);
    };
    const step = (token, [down, right]) => {
      const [row, column] = grid.place(token % N);
      const along = column + right + grid.columns * Math.floor(token / N);
      const side = clamp(Math.floor(along / grid.columns), 0, sides.length - 1);
      const n = grid.token(row + down, along - side * grid.columns);
      return n === null ? token : n + N * side;
    };
    return { under, step, count: N * sides.length };
  }

  addControls() {
    const { model, view, L, B } = this;
    slider(view, model, "layer", "Layer", range(L + 1), (layer) => (layer ? `${layer} of ${L}` : "embedding"));
    choice(view, model, "show", "Show", VIEWS);
    if (B > 2) {
      const pictures = range(B).map((b) => [b, String(b + 1)]);
      choice(view, model, "left", "Left picture", pictures);
      choice(view, model, "right", "Right picture", pictures);
    }
    this.showTables = tables(view, model, () => this.sides.map((side, s) => this.table(side, s)));
  }

  addStages() {
    const label = "Patches. Arrow keys choose one, Home the first, End the last; Enter holds it, Escape lets go.";
    const field = element("div", { className: "vit-field", role: "application", tabIndex: 0, "aria-label": label });
    this.view.body.append(field);
    this.stages = this.sides.map((side, s) => {
      const title = element("div", { className: "vit-caption" });
      const cell = element("div", {}, title);
      field.append(cell);
      const draw = (context, width) => this.drawPicture(s, context, this.grid.area(width));
      const made = stage(this.view, cell, { label: `The picture on the ${side}.`, height: this.grid.height, draw });
      this.question.listen(made.canvas);
      return { ...made, title };
    });
    onPlainKey(field, (event) => this.question.press(event));
    this.words = range(2).map(() => element("span"));
    this.scale = element("div", { className: "vit-scale" });
    const draw = (context, width, height) => drawScale(context, [0, 0, width, height]);
    stage(this.view, this.scale, { label: "colours from the lowest to the highest cosine", height: () => 14, draw });
    this.view.body.append(element("div", { className: "vit-legend" }, this.words[0], this.scale, this.words[1]));
  }

  // ---------------------------------------------------------------- what is computed

  // The number of a token of the left or right picture, in all of its layer's and its image's.
  at(token) {
    const image = this.model.get(this.sides[Math.floor(token / this.N)]);
    return (this.model.get("layer") * this.B + image) * this.N + (token % this.N);
  }

  dot(a, b) {
    const { codes, D } = this;
    let sum = 0;
    for (let i = 0; i < D; i++) sum += codes[a * D + i] * codes[b * D + i];
    return sum;
  }

  // Cosines of the token asked about with all of the field.
  cosines() {
    const from = this.at(this.question.token);
    return range(this.N * this.sides.length).map((token) => {
      const to = this.at(token);
      return this.dot(from, to) / Math.max(1, this.sizes[from] * this.sizes[to]);
    });
  }

  // ---------------------------------------------------------------- how it is drawn

  drawPicture(side, context, area) {
    const { grid, N, question, values, low } = this;
    const [start, box] = [N * side, (token) => grid.box(token % N, area)];
    const [show, image] = [this.model.get("show"), this.model.get(this.sides[side])];
    context.imageSmoothingEnabled = this.smooth && show !== "colours"; // small images keep their pixels
    if (show === "colours") {
      const from = 3 * this.at(start);
      context.drawImage(picture(this.colours.subarray(from, from + 3 * N), grid.rows, grid.columns), ...area);
    } else context.drawImage((show === "alike" ? this.greys : this.pictures)[image], ...area);
    if (show === "alike") {
      const shares = values.slice(start, start + N).map((value) => (value - low) / Math.max(1 - low, 1e-12));
      drawHeat(context, shares.map((share) => clamp(share, 0, 1)), grid.columns, area, () => COVER);
    }
    for (const token of this.nearest[side]) outline(context, box(token), "#fff", 2);
    const here = (token) => token !== null && Math.floor(token / N) === side;
    if (here(question.other)) outline(context, box(question.other), "#fff", 4);
    if (here(question.token)) outline(context, box(question.token), QUERY);
  }

  showLegend() {
    const show = this.model.get("show");
    this.scale.hidden = show !== "alike";
    const texts = {
      alike: [`Cosine ${this.low.toFixed(2)}`, "1.00"],
      colours: ["Principal components 1, 2, 3 as red, green, blue", ""],
      pictures: ["", ""],
    };
    this.words.forEach((word, i) => (word.textContent = texts[show][i]));
  }

  // ---------------------------------------------------------------- the whole

  redraw() {
    const { N, question, sides } = this;
    this.values = this.cosines();
    this.low = Math.min(...this.values);
    this.nearest = sides.map((_, s) => {
      const tokens = range(N).map((n) => N * s + n).filter((token) => token !== question.token);
      return tokens.sort((a, b) => this.values[b] - this.values[a]).slice(0, NEAREST);
    });
    this.stages.forEach((one, s) => {
      one.title.textContent = `Picture ${this.model.get(sides[s]) + 1}`;
      one.redraw();
    });
    this.showLegend();
    this.view.say(this.said());
    this.showTables();
  }

  said() {
    const { N, question, sides, values } = this;
    const side = (token) => (sides.length > 1 ? ` on the ${sides[Math.floor(token / N)]}` : "");
    const place = (token) => `${this.grid.name(token % N)}${side(token)}`;
    const alike = (token) => `${place(token)}, ${values[token].toFixed(2)}`;
    const facts = [`Query: ${place(question.token)}${question.held ? " (held)" : ""}.`];
    if (question.other !== null) facts.push(`To ${place(question.other)}: ${values[question.other].toFixed(2)}.`);
    else facts.push(`Most alike: ${this.nearest.flatMap((tokens) => tokens.slice(0, 1).map(alike)).join("; ")}.`);
    if (this.model.get("show") === "colours") {
      const from = 3 * this.at(question.other ?? question.token);
      const parts = Array.from(this.colours.subarray(from, from + 3), (byte) => (byte / 255).toFixed(2));
      facts.push(`Red, green, blue: ${parts.join(", ")}.`);
    }
    return facts.join(" ");
  }

  table(side, s) {
    const caption = `Cosines of each patch of picture ${this.model.get(side) + 1} with the query`;
    return this.grid.table(caption, this.values.slice(this.N * s, this.N * (s + 1)).map((value) => value.toFixed(2)));
  }
}

const render = (context) => new Similarity(context).view.close;
export default { render };
