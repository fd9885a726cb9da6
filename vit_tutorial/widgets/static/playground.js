import {
  arrow, button, choice, colour, element, frame, inkOn, onPlainKey, pointer, slider, stage, table, viridis, watch,
} from "./draw.js";

const STEP = 20; // places where a tip can stand, to the unit: 0.05 apart
const FAR = 10; // steps of an arrow key with Shift
const REACH = 24; // CSS pixels from a tip within which the pointer takes it
const COLOURS = ["accent", "mark", "third", "fourth", "ink"]; // of the tokens
const WIDTHS = Array.from({ length: 9 }, (_, i) => 2 ** (i + 1));
// From 1/8 to 32, the root of every width among them.
const TAUS = Array.from({ length: 33 }, (_, i) => Math.sqrt(2 ** ((i - 12) / 2)));
const NAMES = { q: "query", k: "key", v: "value" };

const fixed = (value, decimals = 2) => value.toFixed(decimals).replace(/^-([0.]+)$/, "$1"); // never -0.00
const pair = ([x, y]) => `${fixed(x)}, ${fixed(y)}`;
const copy = (vectors) => vectors.map((vector) => [...vector]);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const dot = (a, b) => a[0] * b[0] + a[1] * b[1];
const equal = (a, b) => Math.abs(a / b - 1) < 1e-6;

function softmax(scores) {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  return powers.map((power) => power / sum(powers));
}

// A square around the points and the origin, with some room: as in playground.py.
function windowOf(points) {
  const [xs, ys] = [0, 1].map((axis) => [0, ...points.map((point) => point[axis])]);
  const [low, high] = [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]];
  const span = Math.max(high[0] - low[0], high[1] - low[1]);
  const side = 1.24 * span + Math.min(1, span || 1);
  return { left: (low[0] + high[0] - side) / 2, bottom: (low[1] + high[1] - side) / 2, side };
}

// ------------------------------------------------------------------------------------------ drawing in a plane

function drawAxes(context, size, colours, { left, bottom, side }, toPixel) {
  const unit = 10 ** Math.round(Math.log10(side / 3)); // between lines
  context.font = `11px ${colours.font}`;
  for (const [axis, from] of [[0, left], [1, bottom]]) {
    for (let i = Math.ceil(from / unit); i * unit < from + side; i++) {
      const at = Math.round(toPixel(axis ? [0, i * unit] : [i * unit, 0])[axis]) + 0.5;
      Object.assign(context, { lineWidth: 1, strokeStyle: i ? colours.line : colours.muted });
      context.globalAlpha = i ? 0.6 : 0.7;
      context.beginPath();
      context.moveTo(...(axis ? [0, at] : [at, 0]));
      context.lineTo(...(axis ? [size, at] : [at, size]));
      context.stroke();
      if (!i || at < 16 || at > size - 16) continue;
      context.globalAlpha = 1;
      context.fillStyle = colours.muted;
      context.textAlign = axis ? "left" : "center";
      context.textBaseline = axis ? "middle" : "bottom";
      const text = String(Number((i * unit).toPrecision(6)));
      Object.assign(context, { lineWidth: 4, strokeStyle: colours.surface });
      context.strokeText(text, ...(axis ? [3, at] : [at, size - 2]));
      context.fillText(text, ...(axis ? [3, at] : [at, size - 2]));
    }
  }
  context.globalAlpha = 1;
}

// An arrow between pixels; an arrow of no length is a dot.
function drawArrow(context, from, to, { style, thick = 2.5, dash = [], hollow = null, alpha = 1 }) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(dx, dy);
  context.globalAlpha = alpha;
  Object.assign(context, { strokeStyle: style, fillStyle: hollow ?? style, lineWidth: thick, lineJoin: "round" });
  context.beginPath();
  if (length < 6) context.arc(...to, 4.5, 0, 7);
  else {
    const [ux, uy] = [dx / length, dy / length];
    const head = Math.min(11, length);
    const base = [to[0] - head * ux, to[1] - head * uy];
    context.setLineDash(dash);
    context.moveTo(...from);
    context.lineTo(...base);
    context.stroke();
    context.setLineDash([]);
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(...to);
    for (const side of [-5, 5]) context.lineTo(base[0] - side * uy, base[1] + side * ux);
    context.closePath();
  }
  context.fill();
  context.stroke();
  context.globalAlpha = 1;
}

const shorten = (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);

// Names beside their tips, where there is room: each goes to the first of twelve places that covers no other.
function drawLabels(context, size, colours, labels) {
  context.font = `12px ${colours.font}`;
  Object.assign(context, { textAlign: "left", textBaseline: "middle", lineJoin: "round", lineWidth: 4 });
  const taken = labels.map(({ at: [x, y] }) => [x - 5, y - 5, x + 5, y + 5]);
  for (const { text, at: [x, y], strong } of labels) {
    const wide = context.measureText(text).width;
    const [right, left, middle] = [9, -9 - wide, -wide / 2];
    const places = [[right, 8], [left, 8], [middle, 15], [right, 22], [left, 22], [middle, 29]];
    const shifts = places.flatMap(([dx, dy]) => [[dx, -dy], [dx, dy]]);
    const boxes = shifts.map(([dx, dy]) => [x + dx, y + dy - 7, x + dx + wide, y + dy + 7]);
    const inside = (box) => box[0] > 1 && box[1] > 0 && box[2] < size - 1 && box[3] < size;
    const free = (box) => taken.every((t) => box[2] < t[0] || box[0] > t[2] || box[3] < t[1] || box[1] > t[3]);
    const box = boxes.find((b) => inside(b) && free(b)) ?? boxes.find(inside) ?? boxes[0];
    taken.push(box);
    context.strokeStyle = colours.surface;
    context.fillStyle = strong ? colours.ink : colours.muted;
    context.strokeText(text, box[0], box[1] + 7);
    context.fillText(text, box[0], box[1] + 7);
  }
}

const dashed = ({ surface }) => ({ thick: 2, dash: [5, 4], hollow: surface });

// ------------------------------------------------------------------------------------------ the playground

function render({ model, el }) {
  const names = model.get("names");
  const one = model.get("one_view");
  const N = names.length;
  const view = frame(el, {
    name: "playground",
    title: "Attention playground",
    hint: "Drag the tips. Or Tab to a tip and move it with the arrow keys, with Shift further; Enter asks for its row.",
  });
  const vectors = {};
  const read = () => ["q", "k", "v"].forEach((kind) => (vectors[kind] = copy(model.get(kind))));
  read();

  // ---------------------------------------------------------------- controls

  choice(view, model, "query", "Query", names.map((name, i) => [i, name]));
  const widthSlider = slider(view, model, "width", "Width d", WIDTHS);
  const root = () => Math.sqrt(model.get("width"));
  // Scores that are divided by the root of d stay so when d is dragged.
  let byRoot = equal(model.get("temperature"), root());
  model.on("change:temperature", () => (byRoot = equal(model.get("temperature"), root())));
  widthSlider.addEventListener("input", () => byRoot && model.set("temperature", root()));

  const tau = element("input", { type: "range", "aria-label": "Divide by τ", min: 0, max: TAUS.length - 1, step: 1 });
  const tauMarks = [element("i"), element("i", { className: "vit-root" })];
  const tauValue = element("span", { className: "vit-value", "aria-hidden": "true" });
  const track = element("span", { className: "vit-track" }, tau, ...tauMarks);
  const label = element("label", { className: "vit-control" }, element("span", {}, "Divide by τ"), track, tauValue);
  view.controls.append(label);
  tau.addEventListener("input", () => model.set("temperature", TAUS[Number(tau.value)]));
  tau.addEventListener("change", () => model.save_changes());
  const snap = (value) => () => {
    model.set("temperature", value());
    model.save_changes();
  };
  const snaps = [button(view, "τ = 1", snap(() => 1)), button(view, "τ = √d", snap(root))];
  button(view, "Reset", () => {
    ["q", "k", "v"].forEach((kind, i) => (vectors[kind] = copy(model.get("start")[i])));
    commit();
    fit();
    update();
  });

  function showTau() {
    const value = model.get("temperature");
    const step = (x) => Math.min(TAUS.length - 1, Math.max(0, Math.round(4 * Math.log2(x / TAUS[0]))));
    tau.value = step(value);
    tau.setAttribute("aria-valuetext", fixed(value));
    tauValue.textContent = fixed(value);
    [1, root()].forEach((mark, i) => {
      tauMarks[i].style.left = `calc(8px + ${step(mark) / (TAUS.length - 1)} * (100% - 16px))`;
      snaps[i].setAttribute("aria-pressed", String(equal(value, mark)));
    });
  }

  // ---------------------------------------------------------------- what follows from the arrows

  let now = null;
  function compute() {
    const larger = Math.sqrt(model.get("width") / 2);
    const scores = vectors.q.map((q) => vectors.k.map((k) => larger * dot(q, k)));
    const scaled = scores.map((row) => row.map((score) => score / model.get("temperature")));
    const weights = scaled.map(softmax);
    const outputs = weights.map((row) => [0, 1].map((axis) => sum(row.map((w, j) => w * vectors.v[j][axis]))));
    now = { scores, scaled, weights, outputs };
  }

  // ---------------------------------------------------------------- planes

  let active = null; // the tip that has the focus
  let dragged = null;
  const planes = [
    {
      kinds: one ? ["q"] : ["q", "k"],
      title: one ? "Tokens" : "Queries, keys (dashed)",
      label: "The chosen query as an arrow, and how far each key reaches along it: the score.",
      draw: drawQueries,
    },
    {
      kinds: one ? [] : ["v"],
      title: one ? "New tokens, tokens (dashed)" : "New tokens, values (dashed)",
      label: "New tokens as arrows; they cannot leave the shaded area between the values.",
      draw: drawOutputs,
    },
  ];
  for (const plane of planes) {
    const holder = element("div", { className: "vit-place" });
    const caption = element("div", { className: "vit-caption" }, plane.title);
    view.body.append(element("div", { className: "vit-panel vit-plane" }, caption, holder));
    plane.stage = stage(view, holder, {
      label: plane.label,
      height: (width) => width,
      draw: (context, width, height, colours) => drawPlane(plane, context, width, colours),
    });
    plane.tips = names.flatMap((name, token) => plane.kinds.map((kind) => makeTip(plane, holder, kind, token)));
    listen(plane, plane.stage.canvas);
  }
  function fit() {
    planes[0].window = windowOf([...vectors.q, ...vectors.k]);
    planes[1].window = windowOf(vectors.v);
  }
  const pixel = ({ left, bottom, side }, size) => ([x, y]) => [
    ((x - left) / side) * size,
    size - ((y - bottom) / side) * size,
  ];

  function drawPlane(plane, context, size, colours) {
    const toPixel = pixel(plane.window, size);
    drawAxes(context, size, colours, plane.window, toPixel);
    const labels = plane.draw(context, size, colours, toPixel);
    for (const tip of plane.tips) {
      const at = toPixel(vectors[tip.kind][tip.token]);
      Object.assign(tip.node.style, { left: `${at[0]}px`, top: `${at[1]}px` });
    }
    drawLabels(context, size, colours, labels);
  }

  function drawQueries(context, size, colours, toPixel) {
    const origin = toPixel([0, 0]);
    const chosen = model.get("query");
    const q = vectors.q[chosen];
    const long = dot(q, q);
    if (long > 1e-6) {
      const far = (3 * planes[0].window.side) / Math.sqrt(long); // beyond the canvas
      Object.assign(context, { strokeStyle: colours.muted, lineWidth: 1 });
      context.setLineDash([2, 3]);
      context.beginPath();
      for (const end of [-far, far]) context.lineTo(...toPixel([end * q[0], end * q[1]]));
      vectors.k.forEach((k) => {
        const along = dot(q, k) / long;
        context.moveTo(...toPixel(k));
        context.lineTo(...toPixel([along * q[0], along * q[1]]));
      });
      context.stroke();
      context.setLineDash([]);
    }
    const labels = [];
    const order = [...vectors.q.keys()].sort((a, b) => (a === chosen) - (b === chosen)); // the chosen one on top
    if (!one) {
      vectors.k.forEach((k, i) => {
        drawArrow(context, origin, toPixel(k), { ...dashed(colours), style: colours[COLOURS[i]] });
        labels.push({ text: `k ${shorten(names[i])}`, at: toPixel(k), strong: true });
      });
    }
    for (const i of order) {
      const strong = i === chosen;
      const alpha = strong || one ? 1 : 0.4;
      drawArrow(context, origin, toPixel(vectors.q[i]), { style: colours[COLOURS[i]], thick: strong ? 4 : 2.5, alpha });
      const text = `${one ? "" : "q "}${shorten(names[i])}`;
      labels.unshift({ text, at: toPixel(vectors.q[i]), strong: strong || one });
    }
    return labels;
  }

  function drawOutputs(context, size, colours, toPixel) {
    const origin = toPixel([0, 0]);
    const chosen = model.get("query");
    const corners = vectors.v.map(toPixel);
    // All triangles between values together are their convex hull.
    Object.assign(context, { fillStyle: colours.line, strokeStyle: colours.line, lineWidth: 4, lineJoin: "round" });
    for (let a = 0; a < N; a++) {
      for (let b = a + 1; b < N; b++) {
        for (let c = Math.min(b + 1, N - 1); c < N; c++) {
          context.beginPath();
          [a, b, c].forEach((i) => context.lineTo(...corners[i]));
          context.closePath();
          context.fill();
          context.stroke();
        }
      }
    }
    const labels = [];
    vectors.v.forEach((v, i) => {
      drawArrow(context, origin, corners[i], { ...dashed(colours), style: colours[COLOURS[i]] });
      labels.push({ text: `${one ? "" : "v "}${shorten(names[i])}`, at: corners[i] });
    });
    now.outputs.forEach((output, i) => {
      if (i !== chosen) drawArrow(context, origin, toPixel(output), { style: colours[COLOURS[i]], alpha: 0.4 });
    });
    const end = toPixel(now.outputs[chosen]);
    drawArrow(context, origin, end, { style: colours[COLOURS[chosen]], thick: 4 });
    labels.unshift({ text: `new ${shorten(names[chosen])}`, at: end, strong: true });
    return labels;
  }

  // ---------------------------------------------------------------- moving a tip

  function makeTip(plane, holder, kind, token) {
    const node = element("button", { type: "button", className: "vit-tip" });
    const tip = { plane, kind, token, node };
    node.addEventListener("focus", () => activate(tip));
    node.addEventListener("blur", () => activate(null));
    node.addEventListener("click", () => choose(token));
    onPlainKey(node, (event) => {
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      const [x, y] = vectors[kind][token];
      const far = (event.shiftKey ? FAR : 1) / STEP;
      move(tip, [x + step[1] * far, y - step[0] * far]);
      commit();
    });
    holder.append(node);
    return tip;
  }
  function activate(tip) {
    if (tip === active) return;
    active = tip;
    update();
  }
  function choose(token) {
    model.set("query", token);
    model.save_changes();
  }
  function move({ plane, kind, token }, [x, y]) {
    const { left, bottom, side } = plane.window;
    const onGrid = (value, low) =>
      Math.min(Math.floor((low + side) * STEP), Math.max(Math.ceil(low * STEP), Math.round(value * STEP))) / STEP;
    const to = [onGrid(x, left), onGrid(y, bottom)].map(Math.fround); // as torch has it: Python has nothing to correct
    for (const moved of one ? ["q", "k", "v"] : [kind]) vectors[moved][token] = [...to];
    update();
  }
  let own = false; // a change that comes from here
  function commit() {
    own = true;
    for (const kind of ["q", "k", "v"]) model.set(kind, copy(vectors[kind]));
    own = false;
    model.save_changes();
  }

  function listen(plane, canvas) {
    const at = (event) => pointer(event, canvas).map((part) => part * canvas.clientWidth);
    const distance = (tip, [x, y]) => {
      const [tipX, tipY] = pixel(plane.window, canvas.clientWidth)(vectors[tip.kind][tip.token]);
      return Math.hypot(tipX - x, tipY - y);
    };
    const nearest = (event) => {
      const here = at(event);
      const sorted = plane.tips.map((tip) => [distance(tip, here), tip]).sort((a, b) => a[0] - b[0]);
      return sorted.length && sorted[0][0] < REACH ? sorted[0][1] : null;
    };
    canvas.addEventListener("mousedown", (event) => event.preventDefault()); // the tip keeps the focus
    canvas.addEventListener("pointerdown", (event) => {
      const tip = nearest(event);
      if (!tip || dragged) return;
      canvas.setPointerCapture(event.pointerId);
      const [x, y] = at(event);
      const [tipX, tipY] = pixel(plane.window, canvas.clientWidth)(vectors[tip.kind][tip.token]);
      dragged = { tip, shift: [tipX - x, tipY - y] };
      tip.node.focus({ preventScroll: true });
      if (tip.kind === "q" && !one) choose(tip.token);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!dragged) {
        canvas.style.cursor = nearest(event) ? "grab" : "default";
        return;
      }
      canvas.style.cursor = "grabbing";
      const [x, y] = at(event);
      const { left, bottom, side } = plane.window;
      const size = canvas.clientWidth;
      const [right, down] = [x + dragged.shift[0], y + dragged.shift[1]];
      move(dragged.tip, [left + (right / size) * side, bottom + (1 - down / size) * side]);
    });
    canvas.addEventListener("lostpointercapture", () => {
      if (dragged) commit();
      dragged = null;
    });
  }

  // ---------------------------------------------------------------- numbers

  function numbers(parent, columns, rows, extra = "") {
    const inner = table("", columns, rows, rows.map(() => columns.map(() => ""))).firstChild;
    const lines = [...inner.tBodies[0].rows];
    parent.append(element("div", { className: `vit-small ${extra}` }, inner));
    return {
      lines,
      caption: (text) => (inner.caption.textContent = text),
      write: (i, j, text) => {
        const cell = lines[i].cells[j + 1];
        if (cell.textContent !== text) cell.textContent = text;
        return cell.style;
      },
    };
  }
  const asked = one ? ["score", "÷ τ", "weight", "token"] : ["key", "score", "÷ τ", "weight", "value"];
  const beside = element("div", { className: "vit-panel vit-beside" });
  view.body.append(beside);
  const row = numbers(beside, asked, [...names, "new"], "vit-asked");
  const measures = ["largest weight", "entropy", "gradient left, Σ w (1 − w)"];
  const soft = numbers(beside, ["now", "at most"], measures, "vit-soft");
  const line = element("div", { className: "vit-smalls" });
  view.body.append(line);
  const scores = numbers(line, names, names);
  const weights = numbers(line, names, names);
  const outputs = numbers(line, ["x", "y"], names);
  const tokenColour = (i) => `var(--vit-${COLOURS[i]})`;
  for (const { lines } of [row, scores, weights, outputs]) {
    names.forEach((name, i) => {
      lines[i].cells[0].title = name;
      lines[i].cells[0].style.boxShadow = `inset 4px 0 ${tokenColour(i)}`;
    });
  }
  for (const { lines } of [scores, weights, outputs]) lines.forEach((each, i) => (each.onclick = () => choose(i)));

  function bar(share, shade) {
    const end = `${100 * share}%`;
    return `linear-gradient(to right, color-mix(in srgb, ${shade} 35%, transparent) ${end}, transparent ${end})`;
  }
  function heat(into, values, low, high, decimals) {
    values.forEach((line, i) => {
      line.forEach((value, j) => {
        const t = high > low ? (value - low) / (high - low) : 0;
        const style = into.write(i, j, fixed(value, decimals));
        Object.assign(style, { background: colour(viridis, t), color: inkOn(viridis, t) });
      });
    });
  }
  function showNumbers() {
    const chosen = model.get("query");
    const larger = Math.sqrt(model.get("width") / 2);
    const p = now.weights[chosen];
    row.caption(`${shorten(names[chosen])} asks with ${one ? "" : "its query "}(${pair(vectors.q[chosen])})`);
    names.forEach((_, j) => {
      const [score, scaled] = [now.scores[chosen][j], now.scaled[chosen][j]];
      const texts = [pair(vectors.k[j]), fixed(score), fixed(scaled), fixed(p[j], 3), pair(vectors.v[j])];
      texts.slice(one ? 1 : 0).forEach((text, column) => row.write(j, column, text));
      row.write(j, asked.length - 2, fixed(p[j], 3)).background = bar(p[j], tokenColour(j));
    });
    row.write(N, asked.length - 2, "1.000");
    row.write(N, asked.length - 1, pair(now.outputs[chosen]));

    const every = now.scores.flat();
    scores.caption(larger > 1 ? `scores q · k, × ${fixed(larger)}` : "scores q · k");
    heat(scores, now.scores, Math.min(...every), Math.max(...every), 2);
    weights.caption("weights");
    heat(weights, now.weights, 0, 1, 3);
    outputs.caption("new tokens");
    now.outputs.forEach((output, i) => output.forEach((value, axis) => outputs.write(i, axis, fixed(value))));
    for (const { lines } of [scores, weights, outputs]) {
      lines.forEach((each, i) => each.classList.toggle("vit-chosen", i === chosen));
    }

    const most = Math.max(...p);
    const entropy = -sum(p.map((w) => (w > 0 ? w * Math.log(w) : 0)));
    const gradient = sum(p.map((w) => w * (1 - w)));
    soft.caption("How soft is this choice?");
    [[most, 1], [entropy, Math.log(N)], [gradient, 1 - 1 / N]].forEach(([value, limit], i) => {
      soft.write(i, 0, fixed(value, 3)).background = bar(value / limit, "var(--vit-muted)");
      soft.write(i, 1, fixed(limit, 3));
    });

    const kindOf = (kind) => (one ? "token" : NAMES[kind]);
    const called = ({ kind, token }) => `${kindOf(kind)} ${names[token]} (${pair(vectors[kind][token])})`;
    for (const { tips } of planes) for (const tip of tips) tip.node.setAttribute("aria-label", called(tip));
    const best = p.indexOf(most);
    const facts = [`${names[chosen]} takes most from ${names[best]}: ${fixed(most, 3)}.`];
    facts.push(`Gradient left: ${fixed(gradient, 3)} of ${fixed(1 - 1 / N, 3)}.`);
    if (active) facts.unshift(`Moving ${called(active)}.`);
    view.say(facts.join(" "));
  }

  function update() {
    compute();
    planes.forEach((plane) => plane.stage.redraw());
    showNumbers();
  }
  watch(model, ["query", "width", "temperature"], () => {
    showTau();
    update();
  });
  watch(model, ["q", "k", "v"], () => {
    if (own) return;
    read();
    fit();
    update();
  });
  fit();
  showTau();
  update();
  return view.close;
}

export default { render };
