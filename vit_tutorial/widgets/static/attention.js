import {
  bytes, choice, clamp, colour, drawHeat, drawHeats, drawScale, fillBox, frame, outline, picture, pointer, range,
  slider, tables, tell, veil, viridis, watch, write,
} from "./draw.js";
import { Grid, pane, Question } from "./grid.js";
import { MEAN, readAttention, ROLLOUT } from "./weights.js";

const [LABEL, GAP] = [16, 8]; // above each small map, and between two

class Attention {
  constructor({ model, el }) {
    const [Y, X] = model.get("size");
    const [rows, columns] = model.get("grid");
    Object.assign(this, { model, ...readAttention(model) });
    this.grid = new Grid(rows, columns, { names: model.get("prefix"), ratio: Y / X });
    const pixels = bytes(model.get("pixels"));
    this.pictures = range(this.B).map((b) => picture(pixels.subarray(3 * b * Y * X), Y, X));
    this.smooth = X > 64; // small images keep their pixels
    const heads = range(this.H).map((h) => [h, `head ${h + 1}`]);
    this.heads = [[MEAN, "mean of heads"], [ROLLOUT, "rollout"], ...heads];
    this.question = new Question(this.grid, clamp(model.get("query"), 0, this.N - 1), {
      redraw: () => this.redraw(),
      choose: (query) => query !== model.get("query") && tell(model, { query }),
    });
    const first = this.grid.name(0);
    this.view = frame(el, {
      name: "attention",
      title: "Attention explorer",
      hint: `Point at a patch: where does its token look? Click to hold it; arrow keys move, Home is ${first}.`,
    });
    this.addControls();
    this.panes = ["left", "right"].map((trait) => this.addPane(() => model.get(trait)));
    watch(model, ["layer", "head", "left", "right"], () => this.redraw());
    watch(model, ["query"], () => {
      this.question.token = clamp(model.get("query"), 0, this.N - 1);
      this.redraw();
    });
    this.redraw();
  }

  addControls() {
    const { model, view, L, B } = this;
    slider(view, model, "layer", "Layer", range(L), (layer) => `${layer + 1} of ${L}`);
    choice(view, model, "head", "Show", this.heads);
    if (B > 2) {
      const names = range(B).map((image) => [image, this.title(image)]);
      choice(view, model, "left", "Image", names);
      choice(view, model, "right", "beside", [[-1, "none"], ...names]);
    }
    this.showTables = tables(view, model, () => this.shown().map((image) => this.table(image)));
  }

  addPane(image) {
    const first = this.grid.name(0);
    const added = pane(this.view, {
      main: {
        label: `Patches of the image. Arrow keys choose a patch, Home ${first}, Enter holds it, Escape lets go.`,
        height: (width) => this.grid.height(width),
        draw: (context, width, height, colours) => this.drawMain(image(), context, width, colours),
      },
      small: {
        label: "The same query in every head; the menu Show chooses among them.",
        height: (width) => this.tiling(width).height,
        draw: (context, width, height, colours) => this.drawHeads(image(), context, width, colours),
      },
    });
    this.question.listen(added.main);
    added.small.addEventListener("click", (event) => {
      const { across, down } = this.tiling(added.small.clientWidth);
      const [x, y] = pointer(event, added.small);
      const found = this.heads[Math.floor(y * down) * across + Math.floor(x * across)];
      if (found) tell(this.model, { head: found[0] });
    });
    return { image, ...added };
  }

  // ---------------------------------------------------------------- what is shown

  shown = () => ["left", "right"].map((trait) => this.model.get(trait)).filter((image) => image >= 0);
  title = (image) => this.model.get("titles")[image] ?? `image ${image + 1}`;

  values(image, head = this.model.get("head")) {
    return this.row(this.model.get("layer"), image, head, this.question.token);
  }

  // Each patch's share of what the strongest gets, and that.
  patches(values) {
    const most = values.subarray(this.grid.prefix).reduce((a, b) => Math.max(a, b), 1e-12);
    return { most, shares: values.subarray(this.grid.prefix).map((value) => value / most) };
  }

  percent = (value) => (100 * value).toFixed(this.exact ? 2 : 1);

  // ---------------------------------------------------------------- drawing

  drawMain(image, context, width, colours) {
    const { grid, question } = this;
    const values = this.values(image);
    const [{ most, shares }, area] = [this.patches(values), grid.area(width)];
    context.imageSmoothingEnabled = this.smooth;
    context.drawImage(this.pictures[image], ...area);
    drawHeat(context, shares, grid.columns, area, veil);
    if (grid.prefix) this.drawStrip(context, width, colours, values, most);
    outline(context, grid.box(question.token, area), colours.mark);
    if (question.other !== null) outline(context, grid.box(question.other, area), "#fff", 1.5);
  }

  // Above the image: the tokens before the patches, the name and weight of one of them, and the colours.
  drawStrip(context, width, colours, values, most) {
    const { grid, question } = this;
    const area = grid.area(width);
    for (const token of range(grid.prefix)) {
      const [x, y, wide, high] = grid.box(token, area);
      fillBox(context, [x, y, wide, high], colour(viridis, Math.min(1, values[token] / most)));
      Object.assign(context, { strokeStyle: colours.muted, lineWidth: 1 });
      context.strokeRect(x + 0.5, y + 0.5, wide - 1, high - 1);
    }
    const named = [question.other ?? grid.count, question.token].find((token) => token < grid.prefix) ?? 0;
    const style = { ink: colours.ink, size: 13 };
    const [x, , wide] = grid.box(grid.prefix - 1, area);
    const said = `${grid.names[named]}  ${this.percent(values[named])} %`;
    const end = x + wide + 8 + write(context, colours, said, [x + wide + 8, 15], style);
    if (end > width - 160) return; // no room for the colours
    const left = width - write(context, colours, `${this.percent(most)} %`, [width, 15], { ...style, align: "right" });
    drawScale(context, [left - 76, 8, 70, 14]);
    write(context, colours, "0", [left - 88, 15], style);
  }

  drawHeads(image, context, width, colours) {
    const { boxes } = this.tiling(width);
    const maps = this.heads.map(([head], i) => [this.patches(this.values(image, head)).shares, boxes[i]]);
    drawHeats(context, maps, this.grid.columns);
    this.heads.forEach(([head, name], i) => {
      const [[x, y], chosen] = [boxes[i], head === this.model.get("head")];
      const ink = chosen ? colours.ink : colours.muted;
      write(context, colours, head === MEAN ? "mean" : name, [x + 1, y - 8], { ink });
      if (chosen) outline(context, boxes[i], colours.accent, 2);
    });
  }

  tiling(width) {
    const count = this.heads.length;
    const most = Math.max(3, Math.ceil(Math.sqrt(count)));
    const across = Math.min(count, most, Math.max(3, Math.floor(width / 62)));
    const wide = (width - GAP * (across - 1)) / across;
    const [high, down] = [wide * this.grid.ratio, Math.ceil(count / across)];
    const step = high + LABEL + GAP;
    const left = (i) => (i % across) * (wide + GAP);
    const boxes = range(count).map((i) => [left(i), Math.floor(i / across) * step + LABEL, wide, high]);
    return { across, down, boxes, height: down * step - GAP };
  }

  // ---------------------------------------------------------------- the whole

  redraw() {
    const { grid, question } = this;
    const shown = this.shown();
    const titled = this.B > 1 || this.model.get("titles").length;
    this.view.body.classList.toggle("vit-two", shown.length > 1);
    for (const { image, show } of this.panes) show(image() < 0 ? null : titled ? this.title(image()) : "");
    const values = this.values(shown[0]);
    const weight = (token) => `${this.percent(values[token])} %`;
    const facts = [`Query: ${grid.name(question.token)}${question.held ? " (held)" : ""}.`];
    if (question.other === null) {
      const best = range(this.N).slice(grid.prefix).reduce((a, b) => (values[b] > values[a] ? b : a));
      facts.push(`Strongest patch: ${grid.name(best)}, ${weight(best)}.`);
    } else facts.push(`To ${grid.name(question.other)}: ${weight(question.other)}.`);
    const before = grid.names.map((_, token) => `${grid.name(token)}: ${weight(token)}`);
    if (grid.prefix) facts.push(`To ${before.join(", ")}.`);
    this.view.say(facts.join(" "));
    this.showTables();
  }

  table(image) {
    const name = this.heads.find(([head]) => head === this.model.get("head"))[1];
    const from = `${this.B > 1 ? `${this.title(image)}: ` : ""}attention from ${this.grid.name(this.question.token)}`;
    const caption = `${from} to each patch, layer ${this.model.get("layer") + 1}, ${name}, in per cent`;
    const values = this.values(image).subarray(this.grid.prefix);
    return this.grid.table(caption, Array.from(values, (value) => this.percent(value)));
  }
}

const render = (context) => new Attention(context).view.close;
export default { render };
