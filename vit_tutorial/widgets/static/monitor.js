import {
  button, clamp, element, fillBox, floats, frame, onPlainKey, pointer, range, stage, strokeLines, table, tables, toggle,
  watch, write,
} from "./draw.js";

const PATIENCE = 1.5; // seconds that Python has to hear of Stop before the kernel is interrupted
const MARGIN = 2; // seconds of training that must be left then: no later cell may be hit
const SILENCE = 10; // seconds without news after which the kernel may be doing something else
const BY_HAND = "Press the notebook's own stop button; the model is kept.";

// ------------------------------------------------------------------------------------------ numbers as words

// A loss in digits; what is not a number says so.
function loss(v) {
  if (Number.isFinite(v)) return v < 1e4 ? v.toFixed(4) : v.toExponential(3);
  return Number.isNaN(v) ? "NaN" : "infinite";
}
const rate = (v) => (v === 0 ? "0" : v.toPrecision(3));
const percent = (v) => `${(100 * v).toFixed(2)} %`;
const count = (v) => Math.round(v).toLocaleString("en");

// Round numbers from low to high, about `wanted` of them.
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((s) => s * power >= rough * 0.7);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return found;
}

// The same for a logarithmic axis: powers of ten, with 2 and 5 between them where there is room.
function logTicks(low, high) {
  const first = Math.floor(Math.log10(low));
  const powers = range(Math.ceil(Math.log10(high)) - first + 1).map((i) => 10 ** (first + i));
  const found = powers.flatMap((power) => (high / low < 50 ? [power, 2 * power, 5 * power] : [power]));
  const seen = found.filter((v) => v >= low && v <= high);
  return seen.filter((v, i) => i % Math.ceil(seen.length / 6) === 0);
}

// What stands at a tick.
function short(v) {
  const digits = +v.toPrecision(4);
  return v !== 0 && (v < 1e-4 || v >= 1e5) ? digits.toExponential().replace("+", "") : String(digits);
}

// ------------------------------------------------------------------------------------------ the stop button

// Python hears the message at once where the kernel reads messages during a cell, and says so. Elsewhere the page
// does what the notebook's own stop button does, but only while this training was heard a moment ago and has some
// time left: an interrupt that comes too late would end a later cell.
class StopButton {
  constructor(view, model, redraw) {
    Object.assign(this, { model, redraw, note: "", asked: 0, timer: 0, told: 0 });
    this.button = button(view, "Stop training", () => this.ask());
    view.own(() => clearTimeout(this.timer));
    watch(model, ["series", "state"], () => (this.told = Date.now())); // Python said something
    model.on("msg:custom", (message) => message.stopping === this.asked && clearTimeout(this.timer));
  }

  ask() {
    this.asked = this.model.get("run");
    this.note = "Stopping; the model is kept.";
    this.model.send({ stop: this.asked });
    this.timer = setTimeout(() => this.insist(), 1000 * PATIENCE);
    this.redraw();
  }

  insist() {
    const { model } = this;
    if (model.get("state") !== "running" || model.get("run") !== this.asked) return;
    const silence = (Date.now() - this.told) / 1000;
    const kernel = model.widget_manager?.kernel ?? globalThis.Jupyter?.notebook?.kernel;
    if (!kernel?.interrupt || silence > SILENCE) this.note = BY_HAND;
    else if (model.get("left") - silence < MARGIN) this.timer = setTimeout(() => this.insist(), 250); // about to end
    else {
      Promise.resolve(kernel.interrupt()).catch(() => {
        this.note = BY_HAND;
        this.redraw();
      });
    }
    this.redraw();
  }

  show(running) {
    const { model } = this;
    if (this.asked !== model.get("run")) this.note = "";
    this.button.hidden = !running;
    this.button.disabled = model.get("state") !== "running" || this.asked === model.get("run");
  }
}

// ------------------------------------------------------------------------------------------ one panel of the plot

const isWide = (width) => width >= 600;

// Where the three panels are: loss, accuracy, learning rate.
function places(width, height) {
  if (!isWide(width)) return [[0, 0.42], [0.42, 0.3], [0.72, 0.28]].map(([y, h]) => [0, y * height, width, h * height]);
  return [[0, 0.46], [0.46, 0.27], [0.73, 0.27]].map(([x, w]) => [x * width, 0, w * width, height]);
}
// The plot's own rectangle in its place, between labels.
const inside = ([x, y, width, height]) => [x + 44, y + 28, width - 58, height - 54];

// Axes over the steps 0 to `end` and the values `low` to `high`, of which `scale` says how they are spread.
class Panel {
  constructor(context, colours, place, { end, low, high, scale = (v) => v }) {
    const [x, y, w, h] = inside(place);
    Object.assign(this, { context, colours, x, y, w, h, end, left: place[0] + 2, top: place[1] + 10 });
    this.down = (v) => y + h - (h * (scale(v) - scale(low))) / (scale(high) - scale(low));
    this.across = (step) => x + (w * step) / end;
  }

  write = (text, at, style = {}) => write(this.context, this.colours, text, at, { size: 11, ...style });

  axes(title, value, marks, text = short) {
    const { x, y, w, h, left, top, colours } = this;
    const style = { ink: colours.ink, size: 12.5 };
    this.write(value, [left + 8 + this.write(title, [left, top], { ...style, bold: true }), top], style);
    for (const mark of marks) {
      const level = Math.round(this.down(mark)) + 0.5;
      strokeLines(this.context, [[[x, level], [x + w, level]]], { style: colours.line });
      this.write(text(mark), [x - 6, level], { align: "right" });
    }
    ticks(0, this.end, Math.max(2, Math.floor(w / 90))).forEach((step, k) => {
      const label = k ? count(step) : "step 0";
      const at = Math.min(this.across(step), x + w + 12 - this.context.measureText(label).width / 2);
      this.write(label, [at, y + h + 12], { align: k ? "center" : "left" });
    });
  }

  // A line for each stretch of numbers.
  curve(steps, values, style, thick = 2, alpha = 1) {
    const { context, x, y, w, h } = this;
    const lines = [[]];
    values.forEach((v, i) => {
      if (Number.isFinite(v)) lines.at(-1).push([this.across(steps[i]), this.down(v)]);
      else lines.push([]);
    });
    context.save();
    context.beginPath();
    context.rect(x - 2, y - 2, w + 4, h + 4);
    context.clip();
    strokeLines(context, lines.filter((line) => line.length), { style, thick, alpha });
    context.restore();
  }

  dot(step, value, style, radius = 3.5) {
    if (!Number.isFinite(value)) return;
    this.context.beginPath();
    this.context.arc(this.across(step), this.down(value), radius, 0, 7);
    this.context.fillStyle = style;
    this.context.fill();
  }

  // A band over steps where the value was no number, and its name.
  gap(from, to, name) {
    const { context, colours, x, y, w, h } = this;
    const left = this.across(from);
    fillBox(context, [left, y, Math.max(3, this.across(to) - left), h], colours.mark, 0.2);
    const style = { ink: colours.ink, size: 12, bold: true };
    const over = left + context.measureText(name).width + 8 > x + w;
    this.write(name, [over ? left - 4 : left + 4, y + 10], { ...style, align: over ? "right" : "left" });
  }

  crosshair(step) {
    const at = Math.round(this.across(step)) + 0.5;
    strokeLines(this.context, [[[at, this.y], [at, this.y + this.h]]], { style: this.colours.ink });
  }
}

// ------------------------------------------------------------------------------------------ the monitor

class Monitor {
  constructor({ model, el }) {
    this.model = model;
    this.at = null; // the step under the crosshair
    const view = (this.view = frame(el, {
      name: "monitor",
      title: "Training monitor",
      hint: "Point at a curve to read its numbers; arrow keys move along it, Home and End to its ends.",
    }));
    this.stop = new StopButton(view, model, () => this.redraw());
    this.bar = element("progress", { className: "vit-progress", max: 1, "aria-label": "Progress of the training" });
    this.facts = element("span", { className: "vit-pace" });
    view.controls.append(this.bar, this.facts);
    toggle(view, model, "log", "Logarithmic loss");
    this.showTables = tables(view, model, () => [this.table()]);
    this.plot = stage(view, view.body, {
      label:
        "Training loss, test accuracy and learning rate over the steps. Arrow keys move along the curves, " +
        "Page Up and Page Down in larger strides, Home and End to the ends, Escape leaves them.",
      role: "application",
      focusable: true,
      height: (width) => (isWide(width) ? 230 : 430),
      draw: (...on) => this.draw(...on),
    });
    const { canvas } = this.plot;
    canvas.style.height = "230px"; // until it is on the page, so that what stands below hardly moves
    canvas.addEventListener("pointermove", (event) => this.point(event));
    canvas.addEventListener("pointerleave", () => this.move(null));
    onPlainKey(canvas, (event) => this.press(event));
    model.on("change", () => this.redraw());
    this.redraw();
  }

  // What Python sent: for each point shown its step, loss, mean loss and rate; and the evaluations, as
  // [step, epoch, training loss, test loss, accuracy].
  read() {
    const data = floats(this.model.get("series"));
    const n = data.length / 4;
    [this.steps, this.losses, this.means, this.rates] = range(4).map((row) => data.subarray(row * n, (row + 1) * n));
    const rows = floats(this.model.get("evaluations"));
    this.evaluations = range(rows.length / 5).map((i) => rows.subarray(5 * i, 5 * i + 5));
    this.tests = this.evaluations.filter((test) => !Number.isNaN(test[4]));
    this.last = n - 1;
  }

  get running() {
    return ["running", "stopping", "finishing"].includes(this.model.get("state"));
  }

  // The last step of the axes: while training runs, the step at which it will end.
  get end() {
    const [now, progress] = [this.steps[this.last] ?? 1, this.model.get("progress")];
    return Math.max(1, now, this.running && progress > 0 ? now / progress : 0);
  }

  // The index of the point that is nearest to the crosshair, or null.
  nearest() {
    const { at, steps, last } = this;
    if (at === null || last < 0) return null;
    const after = steps.findIndex((step) => step >= at);
    if (after < 1) return after < 0 ? last : 0;
    return at - steps[after - 1] <= steps[after] - at ? after - 1 : after;
  }

  // ---------------------------------------------------------------- drawing

  draw(context, width, height, colours) {
    const all = places(width, height);
    const i = this.nearest();
    const panels = [
      this.drawLosses(context, width, all[0], colours, i ?? this.last),
      this.drawAccuracies(context, all[1], colours, i),
      this.drawRates(context, width, all[2], colours, i ?? this.last),
    ];
    if (i === null) return;
    const step = this.steps[i];
    panels.forEach((panel) => panel.crosshair(step));
    panels[0].dot(step, this.losses[i], colours.ink, 4);
    const test = this.testBefore(i);
    if (test) panels[1].dot(test[0], test[4], colours.ink, 4.5);
    panels[2].dot(step, this.rates[i], colours.ink, 4);
  }

  drawLosses(context, width, place, colours, now) {
    const { steps, losses, means, end, last } = this;
    const log = this.model.get("log");
    const finite = losses.filter((v) => Number.isFinite(v) && (!log || v > 0));
    const top = finite.reduce((a, b) => Math.max(a, b), log ? 1e-6 : 1e-3);
    const low = log ? finite.reduce((a, b) => Math.min(a, b), top / 2) : 0;
    const high = top * (log ? 1.1 : 1.04);
    const scale = log ? (v) => Math.log(Math.max(v, 1e-30)) : undefined;
    const panel = new Panel(context, colours, place, { end, low, high, scale });
    panel.axes("Training loss", now < 0 ? "" : loss(losses[now]), log ? logTicks(low, high) : ticks(0, top, 4));
    for (let k = 0; k <= last; k++) {
      const first = k;
      while (k <= last && !Number.isFinite(losses[k])) k++;
      if (k > first) panel.gap(steps[first], steps[k - 1], loss(losses[first]));
    }
    panel.curve(steps, losses, colours.accent, 1, 0.45);
    panel.curve(steps, means, colours.accent, 2.4);
    const legend = now >= 0 && width > 420 ? `thick: mean of ${this.model.get("window")} steps` : "";
    panel.write(legend, [panel.x + panel.w, panel.top], { align: "right" });
    return panel;
  }

  drawAccuracies(context, place, colours, i) {
    const { tests, end } = this;
    const panel = new Panel(context, colours, place, { end, low: 0, high: 1 });
    const shown = this.testBefore(i);
    panel.axes("Test accuracy", shown ? percent(shown[4]) : "", [0, 0.5, 1], (v) => `${100 * v} %`);
    panel.curve(tests.map((test) => test[0]), tests.map((test) => test[4]), colours.mark);
    tests.forEach((test) => panel.dot(test[0], test[4], colours.mark));
    if (tests.length || this.last < 0) return panel;
    panel.write("no test set", [panel.x + panel.w / 2, panel.y + panel.h / 2 - 12], { align: "center" });
    return panel;
  }

  drawRates(context, width, place, colours, now) {
    const { steps, rates, end } = this;
    const most = rates.reduce((a, b) => Math.max(a, b), 0) || 1e-3;
    const panel = new Panel(context, colours, place, { end, low: 0, high: most * 1.04 });
    panel.axes("Learning rate", now < 0 ? "" : rate(rates[now]), ticks(0, most, isWide(width) ? 4 : 2));
    panel.curve(steps, rates, colours.third);
    return panel;
  }

  // The last evaluation with a test set, up to point i where there is a crosshair.
  testBefore = (i) => this.tests.findLast((test) => i === null || test[0] <= this.steps[i]);

  // ---------------------------------------------------------------- what the pointer and the keys do

  point(event) {
    const { clientWidth: width, clientHeight: height } = this.plot.canvas;
    const [x, y] = pointer(event, this.plot.canvas);
    const place = places(width, height).find(([a, b, w, h]) => x * width <= a + w && y * height <= b + h);
    if (!place) return;
    const [left, , across] = inside(place);
    this.move(((x * width - left) / across) * this.end);
  }

  press(event) {
    const { steps, last } = this;
    const [from, stride] = [this.nearest(), Math.max(1, Math.round(steps.length / 20))];
    const strides = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: stride, PageUp: -stride };
    const by = strides[event.key];
    if (last < 0) return;
    if (by) this.move(steps[from === null ? (by > 0 ? 0 : last) : clamp(from + by, 0, last)]);
    else if (event.key === "Home") this.move(steps[0]);
    else if (event.key === "End") this.move(steps[last]);
    else if (event.key === "Escape") this.move(null);
    else return;
    event.preventDefault();
  }

  move(step) {
    if (step === this.at) return;
    const { steps, last } = this;
    this.at = step === null || last < 0 ? null : clamp(step, steps[0], steps[last]);
    this.plot.redraw();
    this.describe();
  }

  // ---------------------------------------------------------------- words and numbers

  describe() {
    const [{ model, view, steps }, i] = [this, this.nearest()];
    const note = model.get("state") === "running" && this.stop.note;
    if (i === null) return view.say(note || model.get("says"));
    const values = `loss ${loss(this.losses[i])} (mean ${loss(this.means[i])}), learning rate ${rate(this.rates[i])}`;
    const test = this.testBefore(i);
    const tested = test ? ` Test accuracy after step ${count(test[0])}: ${percent(test[4])}.` : "";
    view.say(`Step ${count(steps[i])}: ${values}.${tested}`);
  }

  table() {
    const cells = this.evaluations.map(([step, epoch, train, test, accuracy]) => [
      String(+epoch.toFixed(2)),
      step ? loss(train) : "–",
      ...(Number.isNaN(accuracy) ? ["–", "–"] : [loss(test), percent(accuracy)]),
    ]);
    const columns = ["epoch", "training loss", "test loss", "test accuracy"];
    const rows = this.evaluations.map(([step]) => `step ${count(step)}`);
    return table("Each evaluation. The training loss is the mean over the epoch before it.", columns, rows, cells);
  }

  redraw() {
    this.read();
    this.stop.show(this.running);
    this.bar.hidden = !this.running;
    this.bar.value = this.model.get("progress");
    this.facts.textContent = this.model.get("facts");
    this.plot.redraw();
    this.describe();
    this.showTables();
  }
}

const render = (context) => new Monitor(context).view.close;
export default { render };
