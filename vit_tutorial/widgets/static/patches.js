import {
  arrow, button, bytes, cividis, element, fillBox, frame, onPlainKey, ordinals, outline, picture, pointer, range,
  shuffled, slider, stage, table, tables, tell, watch, write,
} from "./draw.js";
import { chooser } from "./chooser.js";
import { Grid } from "./grid.js";

const CHANNELS = ["red", "green", "blue"];
const HEAD = 18; // above the matrix of the list: the channels' names
const FOOT = 50; // below it: one row of it, with its name above
const WIDEST = 1024; // columns of it that are drawn; more would not be seen
const VIT_B = { width: 768, blocks: 12 };

// Multiplications of ViT-B for one image, and those for pairs of tokens among them: a class token joins the patches.
function cost(patches, P) {
  const { width: D, blocks: L } = VIT_B;
  const N = patches + 1;
  const pairs = 2 * L * N * N * D;
  return { all: patches * 3 * P * P * D + 12 * L * N * D * D + pairs, pairs };
}

const grouped = (value) => value.toLocaleString("en");
const times = (value) => `× ${value >= 10 ? grouped(Math.round(value)) : Number(value.toPrecision(2))}`;

// ------------------------------------------------------------------------------------------ the patches

// An image (side, side, 3) cut into patches: their numbers, the list of them that the model gets, and pictures of it.
class Patches {
  constructor(pixels, side, P) {
    Object.assign(this, { pixels, side, P, columns: side / P, source: picture(pixels, side, side) });
    this.count = this.columns ** 2;
    // Where number i of a patch, of 3 P P, lies from its first: channel by channel, row by row.
    const offset = (i) => 3 * (Math.floor((i % (P * P)) / P) * side + (i % P)) + Math.floor(i / (P * P));
    this.offsets = range(3 * P * P).map(offset);
    this.sums = range(this.count).map((n) => this.numbers(n).reduce((sum, value) => sum + value, 0));
  }

  // x and y of a patch, in pixels
  corner = (n) => [(n % this.columns) * this.P, Math.floor(n / this.columns) * this.P];

  number(n, i) {
    const [x, y] = this.corner(n);
    return this.pixels[3 * (y * this.side + x) + this.offsets[i]];
  }

  numbers = (n, from = 0, count = this.offsets.length) => range(count).map((i) => this.number(n, from + i));

  // What the model gets: the list in its order. And the bag, which is the list without its order.
  arrange(order, dropped) {
    this.order = order;
    this.dropped = new Set(dropped);
    this.list = order.filter((n) => !this.dropped.has(n));
    this.bag = [...this.list].sort((a, b) => this.darker(a, b));
    this.rowOf = new Map(this.list.map((n, row) => [n, row]));
    this.seatOf = new Map(this.bag.map((n, seat) => [n, seat]));
    this.cut = this.compose(range(this.count), 0.15);
    this.laid = this.compose(order, 0);
    this.heap = this.compose(this.bag, 0);
    this.matrix = this.listMatrix();
  }

  get isShuffled() {
    return this.order.some((n, i) => n !== i);
  }

  // By brightness, then number by number: an order that hangs on what the patches hold and not on where they lie.
  darker(a, b) {
    if (this.sums[a] !== this.sums[b]) return this.sums[a] - this.sums[b];
    for (const i of this.offsets.keys()) {
      const difference = this.number(a, i) - this.number(b, i);
      if (difference) return difference;
    }
    return 0;
  }

  // The picture that has patch slots[i] at place i; `faint` is the opacity of those that are dropped.
  compose(slots, faint) {
    const canvas = element("canvas", { width: this.side, height: this.side });
    const context = canvas.getContext("2d");
    slots.forEach((n, i) => {
      context.globalAlpha = this.dropped.has(n) ? faint : 1;
      context.drawImage(this.source, ...this.corner(n), this.P, this.P, ...this.corner(i), this.P, this.P);
    });
    return canvas;
  }

  // The list as a heat map: a row for each patch, a column for each number.
  listMatrix() {
    const [all, rows] = [this.offsets.length, Math.max(1, this.list.length)];
    const across = Math.min(all, WIDEST);
    const shown = range(across).map((x) => Math.floor(((x + 0.5) * all) / across));
    const shades = new Uint8Array(3 * across * rows);
    let at = 0;
    for (const n of this.list) {
      for (const i of shown) {
        const shade = 3 * this.number(n, i);
        shades.set(cividis.subarray(shade, shade + 3), at);
        at += 3;
      }
    }
    return picture(shades, rows, across);
  }
}

// ------------------------------------------------------------------------------------------ the explorer

class PatchExplorer {
  constructor({ model, el }) {
    Object.assign(this, { model, side: model.get("side"), captions: {} });
    Object.assign(this, { shuffles: 0, halves: 0 }); // how often the buttons were pressed: their seeds
    this.halved = false; // the button chose what is dropped
    this.patch = model.get("patch"); // follows the pointer; the trait holds what was chosen
    const view = (this.view = frame(el, {
      name: "patches",
      title: "Patch explorer",
      hint: "Point at a patch; click to drop or restore it. By keyboard: arrow keys and Enter.",
    }));
    slider(view, model, "patch_size", "Patch size", model.get("patch_sizes"), (P) => `${P} x ${P}`);
    button(view, "Shuffle", () => this.shuffle());
    button(view, "Drop half", () => this.dropHalf());
    button(view, "Restore", () => this.restore());
    this.showTables = tables(view, model, () => [this.table()]);
    offerUpload(view, model);
    this.cut(bytes(model.get("pixels")));
    this.addStages();
    this.facts = element("dl", { className: "vit-facts" });
    this.cell("sums", "In numbers", this.facts);
    this.follow();
    this.refresh();
  }

  cut(pixels) {
    this.patches = new Patches(pixels, this.side, this.model.get("patch_size"));
    this.grid = new Grid(this.patches.columns, this.patches.columns);
  }

  cell(name, caption, ...content) {
    this.captions[name] = element("div", { className: "vit-caption" }, caption);
    const node = element("div", { className: `vit-cell vit-${name}` }, this.captions[name], ...content);
    this.view.body.append(node);
    return node;
  }

  // A picture of patches; patchAt(i) is the patch at place i, or undefined.
  pictureStage(name, caption, patchAt, options) {
    const made = stage(this.view, this.cell(name, caption), { height: (width) => width, ...options });
    const under = (event) => patchAt(this.grid.under(event, made.canvas));
    made.canvas.addEventListener("pointermove", (event) => this.point(under(event)));
    made.canvas.addEventListener("click", (event) => this.toggleDrop(under(event)));
    return made;
  }

  addStages() {
    const cut = this.pictureStage("cut", "The image, cut", (i) => i ?? undefined, {
      label:
        "The image in patches. Arrow keys choose a patch, Home the first, End the last; Enter drops or restores it.",
      role: "application",
      focusable: true,
      draw: (...on) => this.drawPicture(this.patches.cut, this.patch, true, ...on),
    });
    onPlainKey(cut.canvas, (event) => this.press(event));
    const laid = this.pictureStage("laid", "", (i) => this.patches.order[i], {
      label: "The list of patches, laid out row by row.",
      draw: (context, width, height, colours) => {
        fillBox(context, [0, 0, width, width], colours.line, 0.35); // where patches are missing
        const slot = this.patches.order.indexOf(this.patch);
        this.drawPicture(this.patches.laid, slot, false, context, width, height, colours);
      },
    });
    const heap = this.pictureStage("heap", "Without positions: a bag", (i) => this.patches.bag[i], {
      label: "The same patches as a bag, sorted by brightness.",
      draw: (...on) => this.drawPicture(this.patches.heap, this.patches.seatOf.get(this.patch), true, ...on),
    });
    const one = stage(this.view, this.cell("one", ""), {
      label: "The pixels of the patch, enlarged.",
      height: (width) => width,
      draw: (...on) => this.drawPatch(...on),
    });
    const matrix = stage(this.view, this.cell("matrix", ""), {
      label: "The list as a matrix: a row for each patch, a column for each of its numbers.",
      height: (width) => Math.max(200, 0.62 * width),
      draw: (...on) => this.drawMatrix(...on),
    });
    matrix.canvas.addEventListener("pointermove", (event) => {
      const [high, { list }] = [matrix.canvas.clientHeight, this.patches];
      const down = pointer(event, matrix.canvas)[1] * high - HEAD;
      this.point(list[Math.floor((down / (high - HEAD - FOOT)) * list.length)]);
    });
    this.stages = [cut, laid, heap, one, matrix];
  }

  // ---------------------------------------------------------------- how it is drawn

  // A patch's frame, which stands around it where it is small.
  mark(context, [x, y, w, h], colours) {
    if (Math.min(w, h) < 14) outline(context, [x - 3, y - 3, w + 6, h + 6], colours.mark, 1.75);
    else outline(context, [x, y, w, h], colours.mark);
  }

  drawPicture(image, slot, gaps, context, width, height, colours) {
    const [area, step] = [[0, 0, width, width], width / this.grid.columns];
    context.imageSmoothingEnabled = this.side > 64; // small images keep their pixels
    context.drawImage(image, ...area);
    const gap = Math.min(3, Math.max(0.75, 0.09 * step));
    for (const i of gaps ? range(this.grid.columns).slice(1) : []) {
      fillBox(context, [i * step - gap / 2, 0, gap, width], colours.surface);
      fillBox(context, [0, i * step - gap / 2, width, gap], colours.surface);
    }
    if (slot !== undefined) this.mark(context, this.grid.box(slot, area), colours);
  }

  drawPatch(context, width, height, colours) {
    const { source, dropped, P } = this.patches;
    context.imageSmoothingEnabled = false; // the pixels themselves
    context.globalAlpha = dropped.has(this.patch) ? 0.3 : 1;
    context.drawImage(source, ...this.patches.corner(this.patch), P, P, 0, 0, width, width);
    context.globalAlpha = 1;
    outline(context, [0, 0, width, width], colours.mark);
  }

  drawMatrix(context, width, height, colours) {
    const { list, matrix, rowOf } = this.patches;
    const [deep, row] = [height - HEAD - FOOT, rowOf.get(this.patch)];
    CHANNELS.forEach((name, i) => {
      write(context, colours, name, [((i + 0.5) * width) / 3, HEAD - 10], { align: "center" });
    });
    context.imageSmoothingEnabled = list.length > deep;
    if (list.length) context.drawImage(matrix, 0, HEAD, width, deep);
    const text = row === undefined ? "dropped: not in the list" : `row ${grouped(row + 1)}, from left to right`;
    write(context, colours, text, [0, height - 34], { ink: colours.ink });
    if (row === undefined) return;
    context.imageSmoothingEnabled = false;
    context.drawImage(matrix, 0, row, matrix.width, 1, 0, height - 24, width, 24);
    for (const i of [1, 2]) fillBox(context, [(i * width) / 3 - 1, height - 24, 2, 24], colours.surface);
    this.mark(context, [0, HEAD + (row * deep) / list.length, width, deep / list.length], colours);
  }

  // ---------------------------------------------------------------- what the pointer, keys and buttons do

  point(n) {
    if (n === undefined || n === this.patch) return;
    this.patch = n;
    this.redraw();
  }

  toggleDrop(n) {
    if (n === undefined) return;
    this.halved = false;
    this.patch = n;
    const others = this.model.get("dropped").filter((other) => other !== n);
    tell(this.model, { patch: n, dropped: this.patches.dropped.has(n) ? others : [...others, n] });
  }

  press(event) {
    const step = arrow(event);
    if (event.key === "Enter" || event.key === " ") this.toggleDrop(this.patch);
    else if (step || event.key === "Home" || event.key === "End") {
      this.point(step ? this.grid.step(this.patch, step) : event.key === "Home" ? 0 : this.grid.count - 1);
      tell(this.model, { patch: this.patch });
    } else return;
    event.preventDefault();
  }

  shuffle() {
    this.shuffles += 1;
    tell(this.model, { order: shuffled(this.grid.count, this.shuffles) });
    this.view.say("Shuffled: the list has another order, the bag is the same.");
  }

  half() {
    const { count } = this.grid;
    return shuffled(count, 7919 * this.halves).slice(0, Math.ceil(count / 2)).sort((a, b) => a - b);
  }

  dropHalf() {
    this.halves += 1;
    this.halved = true;
    tell(this.model, { dropped: this.half() });
    const left = `${grouped(this.patches.list.length)} of ${grouped(this.grid.count)} patches are left`;
    this.view.say(`${left}: about a quarter of the attention weights.`);
  }

  restore() {
    Object.assign(this, { shuffles: 0, halves: 0, halved: false });
    tell(this.model, { dropped: [], order: range(this.grid.count) });
    this.view.say("All patches are back in their places.");
  }

  // ---------------------------------------------------------------- the whole

  follow() {
    const { model } = this;
    watch(model, ["patch_size"], () => this.changeSize());
    watch(model, ["order", "dropped"], () => this.refresh());
    watch(model, ["patch"], () => model.get("patch") < this.grid.count && this.point(model.get("patch")));
    watch(model, ["pixels"], () => {
      this.cut(bytes(model.get("pixels")));
      this.refresh();
    });
  }

  // Another patch size: what was shuffled or halved is so again, and the patch is the one at the same place.
  changeSize() {
    const { model, grid, patches } = this;
    const [row, column] = grid.place(this.patch);
    this.cut(patches.pixels);
    this.patch = this.grid.at((column + 0.5) / grid.columns, (row + 0.5) / grid.rows);
    const { count } = this.grid;
    if (model.get("order").length === count) return this.refresh(); // all came together from Python
    model.set("patch", this.patch);
    model.set("dropped", this.halved ? this.half() : []);
    model.set("order", patches.isShuffled ? shuffled(count, this.shuffles) : range(count));
  }

  refresh() {
    const { model, patches } = this;
    if (model.get("order").length !== patches.count) return; // another patch size: the order is under way
    patches.arrange(model.get("order"), model.get("dropped"));
    this.showFacts();
    this.redraw();
  }

  redraw() {
    this.stages.forEach((one) => one.redraw());
    const { rowOf, list } = this.patches;
    const row = rowOf.get(this.patch);
    const found = row === undefined ? "dropped" : `number ${grouped(row + 1)} of ${grouped(list.length)} in the list`;
    this.view.say(`Patch in ${this.grid.name(this.patch)}: ${found}.`);
    this.showTables();
  }

  showFacts() {
    const { list, sums, P, count, columns, isShuffled } = this.patches;
    const N = list.length;
    const { all, pairs } = cost(N, P);
    const of = N < count ? `${grouped(N)} of ` : "";
    const mean = list.reduce((sum, n) => sum + sums[n], 0) / (N * 3 * P * P * 255);
    const lines = [
      ["tokens N", `${of}${columns} x ${columns} = ${grouped(count)}`],
      ["numbers in each, 3 P²", grouped(3 * P * P)],
      ["weights a head, N²", grouped(N * N)],
      ["N² against P = 16", times((N / (this.side / 16) ** 2) ** 2)],
      ["ViT-B, 10⁹ FLOPs", ((2 * all) / 1e9).toFixed(1)],
      ["of these for pairs", `${((100 * pairs) / all).toFixed(1)} %`],
      ["mean of all numbers", N ? mean.toFixed(4) : "none"],
    ];
    this.facts.replaceChildren(...lines.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
    this.captions.laid.textContent = isShuffled ? "The list, shuffled" : "The list, put together again";
    this.captions.one.textContent = `One patch: ${P} x ${P} pixels`;
    this.captions.matrix.textContent = `The list: ${grouped(N)} patches x ${grouped(3 * P * P)} numbers`;
  }

  // The first row of the patch's pixels. As many numbers of torch's patches[0, n] in each channel.
  table() {
    const { P } = this.patches;
    const where = `patches[0, ${this.patch}], the patch in ${this.grid.name(this.patch)}`;
    const caption = `${where}: its first row of pixels, in each channel ${P} numbers of ${grouped(P * P)}`;
    const names = CHANNELS.map((name, channel) => `${name}, ${channel * P * P} to ${channel * P * P + P - 1}`);
    const rows = CHANNELS.map((_, channel) => this.patches.numbers(this.patch, channel * P * P, P));
    return table(caption, ordinals(P), names, rows.map((row) => row.map((value) => (value / 255).toFixed(4))));
  }
}

// The button is there only while Python listens: in a page without it nobody could read the file.
async function offerUpload(view, model) {
  const note = element("p", { className: "vit-note", role: "alert" });
  view.body.before(note);
  const say = (text) => Object.assign(note, { textContent: text, hidden: !text });
  const show = () => say(model.get("message"));
  watch(model, ["message"], show);
  show();
  const upload = await model.widget_manager?.get_model(model.get("upload").replace("IPY_MODEL_", ""));
  if (upload?.comm_live) chooser(view, upload, "Upload a picture", say);
}

const render = (context) => new PatchExplorer(context).view.close;
export default { render };
