import {
  button, choice, clamp, colour, element, frame, inkOn, range, slider, strokeLines, table, tell, viridis, watch,
} from "./draw.js";
import { drawArrow, Plane } from "./plane.js";

const COLOURS = ["accent", "mark", "third", "fourth", "ink"]; // of the tokens
const WIDTHS = range(9).map((i) => 2 ** (i + 1));
// From 1/8 to 32, the root of every width among them.
const TAUS = range(33).map((i) => Math.sqrt(2 ** ((i - 12) / 2)));
const NAMES = { q: "query", k: "key", v: "value" };
const KINDS = Object.keys(NAMES);

const fixed = (value, decimals = 2) => value.toFixed(decimals).replace(/^-([0.]+)$/, "$1"); // never -0.00
const pair = ([x, y]) => `${fixed(x)}, ${fixed(y)}`;
const copy = (vectors) => vectors.map((vector) => [...vector]);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const equal = (a, b) => Math.abs(a / b - 1) < 1e-6;
const shorten = (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);

function softmax(scores) {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  return powers.map((power) => power / sum(powers));
}

// ------------------------------------------------------------------------------------------ tables of numbers

const tokenColour = (i) => `var(--vit-${COLOURS[i]})`;

// Behind a number, as long as its share.
function bar(share, shade) {
  const end = `${100 * share}%`;
  return `linear-gradient(to right, color-mix(in srgb, ${shade} 35%, transparent) ${end}, transparent ${end})`;
}

// A small table whose texts change in place.
class Numbers {
  constructor(parent, columns, rows, extra = "") {
    this.inner = table("", columns, rows, rows.map(() => columns.map(() => ""))).firstChild;
    this.lines = [...this.inner.tBodies[0].rows];
    parent.append(element("div", { className: `vit-small ${extra}` }, this.inner));
  }

  caption(text) {
    this.inner.caption.textContent = text;
  }

  // Writes a text into a cell; returns the cell's style.
  write(i, j, text) {
    const cell = this.lines[i].cells[j + 1];
    if (cell.textContent !== text) cell.textContent = text;
    return cell.style;
  }

  heat(values, low, high, decimals) {
    values.forEach((line, i) => {
      line.forEach((value, j) => {
        const t = high > low ? (value - low) / (high - low) : 0;
        const style = this.write(i, j, fixed(value, decimals));
        Object.assign(style, { background: colour(viridis, t), color: inkOn(viridis, t) });
      });
    });
  }
}

// ------------------------------------------------------------------------------------------ the playground

class Playground {
  constructor({ model, el }) {
    const names = model.get("names");
    Object.assign(this, { model, names, N: names.length, one: model.get("one_view"), vectors: {}, active: null });
    this.view = frame(el, {
      name: "playground",
      title: "Attention playground",
      hint:
        "Drag the tips. Or Tab to a tip and move it with the arrow keys, with Shift further; " +
        "Enter asks for its row.",
    });
    this.addControls();
    this.addPlanes();
    this.addTables();
    watch(model, ["query", "width", "temperature"], () => {
      this.showTau();
      this.update();
    });
    watch(model, KINDS, () => this.committing || this.read());
    this.showTau();
    this.read();
  }

  // What Python has.
  read() {
    for (const kind of KINDS) this.vectors[kind] = copy(this.model.get(kind));
    this.fit();
  }

  fit() {
    this.planes[0].fit([...this.vectors.q, ...this.vectors.k]);
    this.planes[1].fit(this.vectors.v);
    this.update();
  }

  commit() {
    this.committing = true;
    for (const kind of KINDS) this.model.set(kind, copy(this.vectors[kind]));
    this.committing = false;
    this.model.save_changes();
  }

  // ---------------------------------------------------------------- controls

  get root() {
    return Math.sqrt(this.model.get("width"));
  }

  addControls() {
    const { model, view } = this;
    choice(view, model, "query", "Query", this.names.map((name, i) => [i, name]));
    const width = slider(view, model, "width", "Width d", WIDTHS);
    // Scores that are divided by the root of d stay so when d is dragged.
    const isRoot = () => equal(model.get("temperature"), this.root);
    let byRoot = isRoot();
    watch(model, ["temperature"], () => (byRoot = isRoot()));
    width.addEventListener("input", () => byRoot && model.set("temperature", this.root));
    this.addTau();
    this.snaps = [["τ = 1", () => 1], ["τ = √d", () => this.root]].map(([label, value]) =>
      button(view, label, () => tell(model, { temperature: value() })),
    );
    button(view, "Reset", () => {
      KINDS.forEach((kind, i) => (this.vectors[kind] = copy(model.get("start")[i])));
      this.commit();
      this.fit();
    });
  }

  // The slider of τ, with marks at 1 and the root of d.
  addTau() {
    const { model } = this;
    const input = { type: "range", "aria-label": "Divide by τ", min: 0, max: TAUS.length - 1, step: 1 };
    this.tau = element("input", input);
    this.tauMarks = [element("i"), element("i", { className: "vit-root" })];
    this.tauValue = element("span", { className: "vit-value", "aria-hidden": "true" });
    const track = element("span", { className: "vit-track" }, this.tau, ...this.tauMarks);
    const words = element("span", {}, "Divide by τ");
    this.view.controls.append(element("label", { className: "vit-control" }, words, track, this.tauValue));
    this.tau.addEventListener("input", () => model.set("temperature", TAUS[Number(this.tau.value)]));
    this.tau.addEventListener("change", () => model.save_changes());
  }

  showTau() {
    const value = this.model.get("temperature");
    const step = (x) => clamp(Math.round(4 * Math.log2(x / TAUS[0])), 0, TAUS.length - 1);
    this.tau.value = step(value);
    this.tau.setAttribute("aria-valuetext", fixed(value));
    this.tauValue.textContent = fixed(value);
    [1, this.root].forEach((mark, i) => {
      this.tauMarks[i].style.left = `calc(8px + ${step(mark) / (TAUS.length - 1)} * (100% - 16px))`;
      this.snaps[i].setAttribute("aria-pressed", String(equal(value, mark)));
    });
  }

  // ---------------------------------------------------------------- planes

  addPlanes() {
    const { one, names, view } = this;
    const tips = (...kinds) => names.flatMap((_, token) => kinds.map((kind) => ({ kind, token })));
    this.planes = [
      new Plane(this, view, {
        title: one ? "Tokens" : "Queries, keys (dashed)",
        label: "The chosen query as an arrow, and how far each key reaches along it: the score.",
        tips: one ? tips("q") : tips("q", "k"),
        draw: (...where) => this.drawQueries(...where),
      }),
      new Plane(this, view, {
        title: one ? "New tokens, tokens (dashed)" : "New tokens, values (dashed)",
        label: "New tokens as arrows; they cannot leave the shaded area between the values.",
        tips: one ? [] : tips("v"),
        draw: (...where) => this.drawOutputs(...where),
      }),
    ];
  }

  tipAt = ({ kind, token }) => this.vectors[kind][token];
  choose = ({ token }) => tell(this.model, { query: token });
  grab = (tip) => tip.kind === "q" && !this.one && this.choose(tip);

  focus(tip) {
    if (tip === this.active) return;
    this.active = tip;
    this.update();
  }

  move({ kind, token }, to) {
    for (const moved of this.one ? KINDS : [kind]) this.vectors[moved][token] = [...to];
    this.update();
  }

  // Arrows from the origin to the vectors of a kind, dashed; returns their labels.
  drawDashed(kind, plane, context, colours, strong) {
    return this.vectors[kind].map((vector, i) => {
      const [at, style] = [plane.toPixel(vector), colours[COLOURS[i]]];
      drawArrow(context, plane.toPixel([0, 0]), at, { style, thick: 2, dash: [5, 4], hollow: colours.surface });
      return { text: `${this.one ? "" : `${kind} `}${shorten(this.names[i])}`, at, strong };
    });
  }

  drawQueries(plane, context, colours) {
    const { one, vectors, names } = this;
    const chosen = this.model.get("query");
    this.drawProjections(plane, context, colours, vectors.q[chosen]);
    const labels = one ? [] : this.drawDashed("k", plane, context, colours, true);
    for (const i of range(this.N).sort((a, b) => (a === chosen) - (b === chosen))) { // the chosen one on top
      const [strong, at] = [i === chosen, plane.toPixel(vectors.q[i])];
      const style = { style: colours[COLOURS[i]], thick: strong ? 4 : 2.5, alpha: strong || one ? 1 : 0.4 };
      drawArrow(context, plane.toPixel([0, 0]), at, style);
      labels.unshift({ text: `${one ? "" : "q "}${shorten(names[i])}`, at, strong: strong || one });
    }
    return labels;
  }

  // The line through the query, and from each key to where it reaches along it.
  drawProjections(plane, context, colours, q) {
    const long = dot(q, q);
    if (long <= 1e-6) return;
    const along = (far) => plane.toPixel([far * q[0], far * q[1]]);
    const far = (3 * plane.window.side) / Math.sqrt(long); // beyond the canvas
    const lines = this.vectors.k.map((k) => [plane.toPixel(k), along(dot(q, k) / long)]);
    strokeLines(context, [[along(-far), along(far)], ...lines], { style: colours.muted, dash: [2, 3] });
  }

  drawOutputs(plane, context, colours) {
    const [chosen, origin] = [this.model.get("query"), plane.toPixel([0, 0])];
    this.drawHull(plane, context, colours);
    const labels = this.drawDashed("v", plane, context, colours, false);
    const ends = this.now.outputs.map((output) => plane.toPixel(output));
    ends.forEach((end, i) => {
      if (i !== chosen) drawArrow(context, origin, end, { style: colours[COLOURS[i]], alpha: 0.4 });
    });
    drawArrow(context, origin, ends[chosen], { style: colours[COLOURS[chosen]], thick: 4 });
    return [{ text: `new ${shorten(this.names[chosen])}`, at: ends[chosen], strong: true }, ...labels];
  }

  // All triangles between values together are their convex hull.
  drawHull(plane, context, colours) {
    const [corners, last] = [this.vectors.v.map((value) => plane.toPixel(value)), this.N - 1];
    Object.assign(context, { fillStyle: colours.line, strokeStyle: colours.line, lineWidth: 4, lineJoin: "round" });
    for (let a = 0; a < last; a++) {
      for (let b = a + 1; b <= last; b++) {
        for (let c = Math.min(b + 1, last); c <= last; c++) {
          context.beginPath();
          for (const i of [a, b, c]) context.lineTo(...corners[i]);
          context.closePath();
          context.fill();
          context.stroke();
        }
      }
    }
  }

  // ---------------------------------------------------------------- numbers

  addTables() {
    const { names, view, one } = this;
    const beside = element("div", { className: "vit-panel vit-beside" });
    const line = element("div", { className: "vit-smalls" });
    view.body.append(beside, line);
    this.columns = one ? ["score", "÷ τ", "weight", "token"] : ["key", "score", "÷ τ", "weight", "value"];
    this.asked = new Numbers(beside, this.columns, [...names, "new"], "vit-asked");
    const measures = ["largest weight", "entropy", "gradient left, Σ w (1 − w)"];
    this.soft = new Numbers(beside, ["now", "at most"], measures, "vit-soft");
    this.tables = [names, names, ["x", "y"]].map((columns) => new Numbers(line, columns, names));
    for (const { lines } of [this.asked, ...this.tables]) {
      names.forEach((name, i) => {
        lines[i].cells[0].title = name;
        lines[i].cells[0].style.boxShadow = `inset 4px 0 ${tokenColour(i)}`;
      });
    }
    for (const { lines } of this.tables) {
      lines.forEach((each, i) => (each.onclick = () => this.choose({ token: i })));
    }
  }

  showAsked(chosen, weights) {
    const { asked, columns, names, vectors, now, one, N } = this;
    asked.caption(`${shorten(names[chosen])} asks with ${one ? "" : "its query "}(${pair(vectors.q[chosen])})`);
    names.forEach((_, j) => {
      const numbers = [fixed(now.scores[chosen][j]), fixed(now.scaled[chosen][j]), fixed(weights[j], 3)];
      const texts = [...(one ? [] : [pair(vectors.k[j])]), ...numbers, pair(vectors.v[j])];
      texts.forEach((text, column) => asked.write(j, column, text));
      asked.write(j, columns.length - 2, fixed(weights[j], 3)).background = bar(weights[j], tokenColour(j));
    });
    asked.write(N, columns.length - 2, "1.000");
    asked.write(N, columns.length - 1, pair(now.outputs[chosen]));
  }

  showTables(chosen) {
    const [{ now }, [scores, weights, outputs]] = [this, this.tables];
    const [every, larger] = [now.scores.flat(), Math.sqrt(this.model.get("width") / 2)];
    scores.caption(larger > 1 ? `scores q · k, × ${fixed(larger)}` : "scores q · k");
    scores.heat(now.scores, Math.min(...every), Math.max(...every), 2);
    weights.caption("weights");
    weights.heat(now.weights, 0, 1, 3);
    outputs.caption("new tokens");
    now.outputs.forEach((output, i) => output.forEach((value, axis) => outputs.write(i, axis, fixed(value))));
    for (const { lines } of this.tables) {
      lines.forEach((each, i) => each.classList.toggle("vit-chosen", i === chosen));
    }
  }

  // How soft the choice is: the largest weight, the entropy, and what is left of the gradient, each with its limit.
  showSoft(weights, gradient) {
    const { N, soft } = this;
    const entropy = -sum(weights.map((w) => (w > 0 ? w * Math.log(w) : 0)));
    soft.caption("How soft is this choice?");
    [[Math.max(...weights), 1], [entropy, Math.log(N)], [gradient, 1 - 1 / N]].forEach(([value, limit], i) => {
      soft.write(i, 0, fixed(value, 3)).background = bar(value / limit, "var(--vit-muted)");
      soft.write(i, 1, fixed(limit, 3));
    });
  }

  // ---------------------------------------------------------------- the whole

  // What follows from the arrows.
  compute() {
    const { q, k, v } = this.vectors;
    const larger = Math.sqrt(this.model.get("width") / 2);
    const scores = q.map((query) => k.map((key) => larger * dot(query, key)));
    const scaled = scores.map((row) => row.map((score) => score / this.model.get("temperature")));
    const weights = scaled.map(softmax);
    const outputs = weights.map((row) => [0, 1].map((axis) => sum(row.map((w, j) => w * v[j][axis]))));
    this.now = { scores, scaled, weights, outputs };
  }

  update() {
    this.compute();
    for (const plane of this.planes) plane.redraw();
    const chosen = this.model.get("query");
    const weights = this.now.weights[chosen];
    const gradient = sum(weights.map((w) => w * (1 - w)));
    this.showAsked(chosen, weights);
    this.showTables(chosen);
    this.showSoft(weights, gradient);
    const kindOf = (kind) => (this.one ? "token" : NAMES[kind]);
    const called = ({ kind, token }) => `${kindOf(kind)} ${this.names[token]} (${pair(this.vectors[kind][token])})`;
    for (const { tips } of this.planes) for (const tip of tips) tip.node.setAttribute("aria-label", called(tip));
    const most = Math.max(...weights);
    const facts = [`${this.names[chosen]} takes most from ${this.names[weights.indexOf(most)]}: ${fixed(most, 3)}.`];
    facts.push(`Gradient left: ${fixed(gradient, 3)} of ${fixed(1 - 1 / this.N, 3)}.`);
    if (this.active) facts.unshift(`Moving ${called(this.active)}.`);
    this.view.say(facts.join(" "));
  }
}

const render = (context) => new Playground(context).view.close;
export default { render };
