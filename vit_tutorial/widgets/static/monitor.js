import { button, element, floats, frame, onPlainKey, pointer, stage, table, toggle, watch } from "./draw.js";

const PATIENCE = 1.5; // seconds that Python has to hear of Stop before the kernel is interrupted
const MARGIN = 2; // seconds of training that must be left then: no later cell may be hit
const SILENCE = 10; // seconds without news after which the kernel may be doing something else

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
  const found = [];
  const digits = high / low < 50 ? [1, 2, 5] : [1];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) {
    for (const digit of digits) found.push(digit * 10 ** e);
  }
  const seen = found.filter((v) => v >= low && v <= high);
  return seen.filter((v, i) => i % Math.ceil(seen.length / 6) === 0);
}

// What stands at a tick.
function short(v) {
  const digits = +v.toPrecision(4);
  return v !== 0 && (v < 1e-4 || v >= 1e5) ? digits.toExponential().replace("+", "") : String(digits);
}

function render({ model, el }) {
  const view = frame(el, {
    name: "monitor",
    title: "Training monitor",
    hint: "Point at a curve to read its numbers; arrow keys move along it, Home and End to its ends.",
  });
  const stop = button(view, "Stop training", ask);
  const bar = element("progress", { className: "vit-progress", max: 1, "aria-label": "Progress of the training" });
  const facts = element("span", { className: "vit-pace" });
  view.controls.append(bar, facts);
  toggle(view, model, "log", "Logarithmic loss");
  toggle(view, model, "numbers", "Numbers");

  // ---------------------------------------------------------------- what Python sent

  let steps, losses, means, rates; // one entry a point
  let tests = []; // [step, epoch, training loss, test loss, accuracy] of each evaluation
  let told = 0; // when Python last said something
  function read() {
    const data = floats(model.get("series"));
    const n = data.length / 4;
    [steps, losses, means, rates] = [0, 1, 2, 3].map((row) => data.subarray(row * n, (row + 1) * n));
    const rows = floats(model.get("evaluations"));
    tests = Array.from({ length: rows.length / 5 }, (_, i) => rows.subarray(5 * i, 5 * i + 5));
  }
  const last = () => steps.length - 1;
  const tested = () => tests.filter((test) => !Number.isNaN(test[4]));
  const running = () => ["running", "stopping", "finishing"].includes(model.get("state"));

  // ---------------------------------------------------------------- the stop button

  let asked = 0; // the run that is to stop
  let note = ""; // what is said about it
  let timer = 0;
  view.own(() => clearTimeout(timer));
  function ask() {
    asked = model.get("run");
    note = "Stopping; the model is kept.";
    model.send({ stop: asked });
    timer = setTimeout(insist, 1000 * PATIENCE);
    redraw();
  }
  // Python hears the message at once where the kernel reads messages during a cell, and says so. Elsewhere the page
  // does what the notebook's own stop button does, but only while this training was heard a moment ago and has some
  // time left: an interrupt that comes too late would end a later cell.
  function insist() {
    if (model.get("state") !== "running" || model.get("run") !== asked) return;
    const silence = (Date.now() - told) / 1000;
    const kernel = model.widget_manager?.kernel ?? globalThis.Jupyter?.notebook?.kernel;
    if (!kernel?.interrupt || silence > SILENCE) {
      note = "Press the notebook's own stop button; the model is kept.";
    } else if (model.get("left") - silence < MARGIN) {
      timer = setTimeout(insist, 250); // about to end by itself
    } else {
      Promise.resolve(kernel.interrupt()).catch(() => {
        note = "Press the notebook's own stop button; the model is kept.";
        redraw();
      });
    }
    redraw();
  }
  model.on("msg:custom", (message) => message.stopping === asked && clearTimeout(timer));

  // ---------------------------------------------------------------- three panels over the same steps

  let at = null; // the step under the crosshair
  const point = () => {
    if (at === null || !steps.length) return null;
    let [low, high] = [0, last()];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (steps[middle] > at) high = middle;
      else low = middle;
    }
    return at - steps[low] <= steps[high] - at ? low : high;
  };

  const wide = (width) => width >= 600;
  function places(width, height) {
    if (!wide(width)) return [[0, 0.42], [0.42, 0.3], [0.72, 0.28]].map(([y, h]) => [0, y * height, width, h * height]);
    return [[0, 0.46], [0.46, 0.27], [0.73, 0.27]].map(([x, w]) => [x * width, 0, w * width, height]);
  }
  // The plot's own rectangle in its place, between labels.
  const inside = ([x, y, width, height]) => [x + 44, y + 28, width - 58, height - 54];

  const end = () => {
    const now = steps.length ? steps[last()] : 1;
    return running() && model.get("progress") > 0 ? Math.max(now, now / model.get("progress")) : Math.max(now, 1);
  };

  function draw(context, width, height, colours) {
    const all = places(width, height);
    const log = model.get("log");
    const finite = losses.filter((v) => Number.isFinite(v) && (!log || v > 0));
    const top = finite.reduce((a, b) => Math.max(a, b), log ? 1e-6 : 1e-3);
    const bottom = log ? finite.reduce((a, b) => Math.min(a, b), top / 2) : 0;
    const most = rates.reduce((a, b) => Math.max(a, b), 0) || 1e-3;
    const i = point();
    const seen = tested();
    const before = i === null ? seen : seen.filter((test) => test[0] <= steps[i]);
    const now = i ?? last();

    function axes(place, title, value, low, high, marks, scale = (v) => v, text = short) {
      const [x, y, w, h] = inside(place);
      const down = (v) => y + h - (h * (scale(v) - scale(low))) / (scale(high) - scale(low));
      const across = (step) => x + (w * step) / end();
      context.textBaseline = "alphabetic";
      context.textAlign = "left";
      context.font = `600 12.5px ${colours.font}`;
      context.fillStyle = colours.ink;
      context.fillText(title, place[0] + 2, place[1] + 14);
      const used = context.measureText(title).width;
      context.font = `12.5px ${colours.font}`;
      context.fillText(value, place[0] + 2 + used + 8, place[1] + 14);
      context.font = `11px ${colours.font}`;
      context.fillStyle = colours.muted;
      context.strokeStyle = colours.line;
      context.lineWidth = 1;
      context.textAlign = "right";
      context.textBaseline = "middle";
      for (const mark of marks) {
        const level = Math.round(down(mark)) + 0.5;
        context.beginPath();
        context.moveTo(x, level);
        context.lineTo(x + w, level);
        context.stroke();
        context.fillText(text(mark), x - 6, level);
      }
      context.textBaseline = "alphabetic";
      const labels = ticks(0, end(), Math.max(2, Math.floor(w / 90)));
      labels.forEach((step, k) => {
        context.textAlign = k ? "center" : "left";
        const label = k ? count(step) : "step 0";
        const place = Math.min(across(step), x + w + 12 - context.measureText(label).width / 2);
        context.fillText(label, place, y + h + 16);
      });
      return { x, y, w, h, down, across };
    }
    function curve(axis, values, colour, thickness, alpha = 1, xs = steps) {
      context.save();
      context.beginPath();
      context.rect(axis.x - 2, axis.y - 2, axis.w + 4, axis.h + 4);
      context.clip();
      context.beginPath();
      let pen = false;
      for (let k = 0; k < values.length; k++) {
        const v = values[k];
        if (!Number.isFinite(v)) pen = false;
        else if (pen) context.lineTo(axis.across(xs[k]), axis.down(v));
        else {
          context.moveTo(axis.across(xs[k]), axis.down(v));
          pen = true;
        }
      }
      Object.assign(context, { strokeStyle: colour, lineWidth: thickness, globalAlpha: alpha, lineJoin: "round" });
      context.stroke();
      context.restore();
    }
    function dot(axis, step, value, colour, radius = 3.5) {
      if (!Number.isFinite(value)) return;
      context.beginPath();
      context.arc(axis.across(step), axis.down(value), radius, 0, 7);
      context.fillStyle = colour;
      context.fill();
    }

    const nothing = now < 0;
    const lossAxis = axes(
      all[0], "Training loss", nothing ? "" : loss(losses[now]), bottom, top * (log ? 1.1 : 1.04),
      log ? logTicks(bottom, top * 1.1) : ticks(0, top, 4), log ? (v) => Math.log(Math.max(v, 1e-30)) : undefined,
    );
    lost(context, lossAxis, colours);
    curve(lossAxis, losses, colours.accent, 1, 0.45);
    curve(lossAxis, means, colours.accent, 2.4);
    if (!nothing) {
      context.font = `11px ${colours.font}`;
      context.fillStyle = colours.muted;
      context.textAlign = "right";
      const legend = wide(width) || width > 420 ? `thick: mean of ${model.get("window")} steps` : "";
      context.fillText(legend, lossAxis.x + lossAxis.w, all[0][1] + 14);
    }

    const shown = before.length ? percent(before.at(-1)[4]) : "";
    const testAxis = axes(all[1], "Test accuracy", shown, 0, 1, [0, 0.5, 1], undefined, (v) => `${100 * v} %`);
    const accuracies = seen.map((test) => test[4]);
    curve(testAxis, accuracies, colours.mark, 2, 1, seen.map((test) => test[0]));
    seen.forEach((test) => dot(testAxis, test[0], test[4], colours.mark));
    if (!seen.length && !nothing) {
      context.textAlign = "center";
      context.fillStyle = colours.muted;
      context.fillText("no test set", testAxis.x + testAxis.w / 2, testAxis.y + testAxis.h / 2 - 8);
    }
    const rateAxis = axes(
      all[2], "Learning rate", nothing ? "" : rate(rates[now]), 0, most * 1.04, ticks(0, most, wide(width) ? 4 : 2),
    );
    curve(rateAxis, rates, colours.third, 2);

    if (i === null) return;
    for (const axis of [lossAxis, testAxis, rateAxis]) {
      const x = Math.round(axis.across(steps[i])) + 0.5;
      context.beginPath();
      context.moveTo(x, axis.y);
      context.lineTo(x, axis.y + axis.h);
      Object.assign(context, { strokeStyle: colours.ink, lineWidth: 1 });
      context.stroke();
    }
    dot(lossAxis, steps[i], losses[i], colours.ink, 4);
    if (before.length) dot(testAxis, before.at(-1)[0], before.at(-1)[4], colours.ink, 4.5);
    dot(rateAxis, steps[i], rates[i], colours.ink, 4);
  }

  // Where the loss was no number: a band, and its name.
  function lost(context, axis, colours) {
    for (let k = 0; k < losses.length; k++) {
      if (Number.isFinite(losses[k])) continue;
      const first = k;
      while (k + 1 < losses.length && !Number.isFinite(losses[k + 1])) k++;
      const x = axis.across(steps[first]);
      const w = Math.max(3, axis.across(steps[k]) - x);
      Object.assign(context, { fillStyle: colours.mark, globalAlpha: 0.2 });
      context.fillRect(x, axis.y, w, axis.h);
      context.globalAlpha = 1;
      context.font = `600 12px ${colours.font}`;
      context.fillStyle = colours.ink;
      const name = loss(losses[first]);
      const over = x + context.measureText(name).width + 6 > axis.x + axis.w;
      context.textAlign = over ? "right" : "left";
      context.fillText(name, over ? x - 4 : x + 4, axis.y + 14);
    }
  }

  const plot = stage(view, view.body, {
    label: "Training loss, test accuracy and learning rate over the steps. Arrow keys move along the curves, " +
      "Page Up and Page Down in larger strides, Home and End to the ends, Escape leaves them.",
    role: "application",
    focusable: true,
    height: (width) => (wide(width) ? 230 : 430),
    draw,
  });
  plot.canvas.style.height = "230px"; // until it is on the page, so that what stands below hardly moves
  const numbers = element("div", { className: "vit-numbers" });
  view.root.append(numbers);

  plot.canvas.addEventListener("pointermove", (event) => {
    const [x, y] = pointer(event, plot.canvas);
    const [width, height] = [plot.canvas.clientWidth, plot.canvas.clientHeight];
    const place = places(width, height).find(([a, b, w, h]) => x * width <= a + w && y * height <= b + h);
    if (!place) return;
    const [left, , across] = inside(place);
    move(((x * width - left) / across) * end());
  });
  plot.canvas.addEventListener("pointerleave", () => move(null));
  onPlainKey(plot.canvas, (event) => {
    const from = point();
    const stride = Math.max(1, Math.round(steps.length / 20));
    const strides = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: stride, PageUp: -stride };
    const by = strides[event.key];
    if (!steps.length) return;
    if (by) move(steps[from === null ? (by > 0 ? 0 : last()) : Math.min(last(), Math.max(0, from + by))]);
    else if (event.key === "Home") move(steps[0]);
    else if (event.key === "End") move(steps[last()]);
    else if (event.key === "Escape") move(null);
    else return;
    event.preventDefault();
  });
  function move(step) {
    if (step === at) return;
    at = step === null || !steps.length ? null : Math.min(steps[last()], Math.max(steps[0], step));
    plot.redraw();
    describe();
  }

  function describe() {
    const i = point();
    if (i === null) return view.say(model.get("state") === "running" && note ? note : model.get("says"));
    const values = `loss ${loss(losses[i])} (mean ${loss(means[i])}), learning rate ${rate(rates[i])}`;
    const words = [`Step ${count(steps[i])}: ${values}.`];
    const test = tested().findLast((entry) => entry[0] <= steps[i]);
    if (test) words.push(`Test accuracy after step ${count(test[0])}: ${percent(test[4])}.`);
    view.say(words.join(" "));
  }
  function redraw() {
    const state = model.get("state");
    if (asked !== model.get("run")) note = "";
    stop.hidden = bar.hidden = !running();
    stop.disabled = state !== "running" || asked === model.get("run");
    bar.value = model.get("progress");
    facts.textContent = model.get("facts");
    plot.redraw();
    describe();
    if (!model.get("numbers")) return numbers.replaceChildren();
    const cells = tests.map(([step, epoch, train, test, accuracy]) => [
      String(+epoch.toFixed(2)),
      step ? loss(train) : "–",
      ...(Number.isNaN(accuracy) ? ["–", "–"] : [loss(test), percent(accuracy)]),
    ]);
    const columns = ["epoch", "training loss", "test loss", "test accuracy"];
    const rows = tests.map(([step]) => `step ${count(step)}`);
    const caption = "Each evaluation. The training loss is the mean over the epoch before it.";
    numbers.replaceChildren(table(caption, columns, rows, cells));
  }

  watch(model, ["series", "state"], () => (told = Date.now()));
  model.on("change", () => {
    read();
    redraw();
  });
  read();
  redraw();
  return view.close;
}

export default { render };
