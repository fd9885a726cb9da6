// What all explorers share: the frame, labelled controls, a sharp canvas, colour maps, bytes from Python.
// No imports, no network. Text reaches the page through textContent alone, so a hostile label stays text.

export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export const range = (count) => [...Array(count).keys()];
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
export const ordinals = (count) => range(count).map((i) => String(i + 1)); // names of rows and columns

// 0, 1, ..., count - 1 in an order that a seed decides, the same in every browser (Fisher and Yates).
export function shuffled(count, seed) {
  const list = range(count);
  let state = Math.imul(seed, 2654435761) >>> 0;
  for (let n = count - 1; n > 0; n--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((state / 2 ** 32) * (n + 1));
    [list[n], list[other]] = [list[other], list[n]];
  }
  return list;
}

// ------------------------------------------------------------------------------------------ from and to Python

// Sets traits, and tells Python.
export function tell(model, values) {
  for (const [trait, value] of Object.entries(values)) model.set(trait, value);
  model.save_changes();
}

// Runs `changed` whenever one of the traits has another value.
export const watch = (model, traits, changed) => traits.forEach((trait) => model.on(`change:${trait}`, changed));

// A Bytes trait arrives as a DataView that may be unaligned, or as base64 where a front end drops buffers: copy it.
export function bytes(value) {
  if (!value) return new Uint8Array(0);
  if (typeof value === "string") return Uint8Array.from(atob(value), (letter) => letter.charCodeAt(0));
  if (value instanceof DataView) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
  return new Uint8Array(value).slice();
}

export const floats = (value) => new Float32Array(bytes(value).buffer);

// RGB pixels, row by row, as a canvas of their own size: drawImage takes it at once, nothing to decode or to wait for.
export function picture(pixels, rows, columns) {
  const canvas = element("canvas", { width: columns, height: rows });
  const data = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) {
    for (let channel = 0; channel < 3; channel++) data.data[4 * i + channel] = pixels[3 * i + channel];
    data.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(data, 0, 0);
  return canvas;
}

// ------------------------------------------------------------------------------------------ colour

// A map of 256 colours (256 x 3 bytes) between 33 of matplotlib's.
function colourMap(hex) {
  const stops = Array.from({ length: 99 }, (_, i) => parseInt(hex.slice(2 * i, 2 * i + 2), 16));
  return Uint8Array.from({ length: 768 }, (_, i) => {
    const place = (Math.floor(i / 3) / 255) * 32;
    const below = Math.min(31, Math.floor(place));
    const [low, high] = [stops[3 * below + (i % 3)], stops[3 * below + 3 + (i % 3)]];
    return Math.round(low + (high - low) * (place - below));
  });
}

export const viridis = colourMap(
  "440154470d6048186a482374472d7b4537814240863e49893b528b375b8d33638d2f6b8e2c728e297a8e26828e23898e21918c" +
    "1f988b1fa08822a78528ae8032b67a3fbc734ec36b5ec96270cf5784d44b98d83eaddc30c2df23d8e219ece51bfde725",
);
export const cividis = colourMap(
  "00224e00285b002e6a0533711a386f273e6e32436d3b496c434e6c4b546c535a6d5a5f6e61656f686a716f70737676767d7c78" +
    "8482798c8878938e789b9476a39a74aba072b4a76fbcae6cc4b468cdbb63d5c25edec958e7d150f0d846f9e03afee838",
);

export const diverging = colourMap( // matplotlib's PuOr_r, for numbers of both signs: purple below 0, orange above
  "2d004b390c5e4518715225845f3a916d529c7b6aa88a7eb39990bfa9a1cbb7b1d5c3c0ddcfcfe5dadcece4e5f0eeeef3f7f7" +
    "f6f9efe1fce8cdfee1b9fed59ffdc885fdbc6bf7ac52ee9b39e58a20d97b12cb6e0dbd6109ae55069e4c078d43077f3b08",
);

const index = (t) => 3 * Math.round(255 * clamp(t, 0, 1));

// The colour of t in 0..1 as CSS, and the ink that can be read on it: black or white, whichever contrasts more (WCAG).
export const colour = (map, t) => `rgb(${map[index(t)]}, ${map[index(t) + 1]}, ${map[index(t) + 2]})`;
export function inkOn(map, t) {
  const [red, green, blue] = [0, 1, 2].map((channel) => (map[index(t) + channel] / 255) ** 2.2);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.18 ? "#fff" : "#000";
}

const scratch = element("canvas");
const scratchContext = scratch.getContext("2d", { willReadFrequently: true });

// Values in 0..1, row by row, as a heat map in the rectangle (x, y, width, height); alpha(t) says how much it covers.
export const drawHeat = (context, values, columns, area, alpha = () => 1, map = viridis) =>
  drawHeats(context, [[values, area]], columns, alpha, map);

// Several heat maps of one shape, as [values, area]: one upload of pixels for all of them.
export function drawHeats(context, maps, columns, alpha = () => 1, map = viridis) {
  const rows = Math.ceil(maps[0][0].length / columns);
  const high = rows * maps.length;
  if (scratch.width !== columns || scratch.height !== high) Object.assign(scratch, { width: columns, height: high });
  const data = scratchContext.createImageData(columns, high);
  maps.forEach(([values], m) => {
    values.forEach((t, i) => {
      const [from, to] = [index(t), 4 * (m * rows * columns + i)];
      data.data[to] = map[from];
      data.data[to + 1] = map[from + 1];
      data.data[to + 2] = map[from + 2];
      data.data[to + 3] = 255 * alpha(t);
    });
  });
  scratchContext.putImageData(data, 0, 0);
  context.imageSmoothingEnabled = false;
  maps.forEach(([, area], m) => context.drawImage(scratch, 0, m * rows, columns, rows, ...area));
}

// The colours themselves, from the lowest to the highest.
export const ramp = range(64).map((i) => i / 63);
export const drawScale = (context, area, map = viridis) => drawHeat(context, ramp, ramp.length, area, () => 1, map);

// How much of the image a patch's attention covers; t is its share of the highest. As in plots.draw_attention.
export const veil = (t) => 0.15 + 0.65 * Math.sqrt(t);

// A frame inside the rectangle, dark outside and coloured inside, so that it shows on any picture.
export function outline(context, [x, y, width, height], colour, thickness = 2.5) {
  for (const [style, inset] of [["rgba(0, 0, 0, 0.75)", -0.5 * thickness], [colour, 0.5 * thickness]]) {
    context.strokeStyle = style;
    context.lineWidth = thickness;
    context.strokeRect(x + inset, y + inset, width - 2 * inset, height - 2 * inset);
  }
}

// Lines, each through a list of points.
export function strokeLines(context, lines, { style, thick = 1, dash = [], alpha = 1 }) {
  context.save();
  Object.assign(context, { strokeStyle: style, lineWidth: thick, globalAlpha: alpha, lineJoin: "round" });
  context.setLineDash(dash);
  context.beginPath();
  for (const [first, ...others] of lines) {
    context.moveTo(...first);
    for (const point of others) context.lineTo(...point);
  }
  context.stroke();
  context.restore();
}

export function fillBox(context, area, style, alpha = 1) {
  Object.assign(context, { fillStyle: style, globalAlpha: alpha });
  context.fillRect(...area);
  context.globalAlpha = 1;
}

// Words in the theme's font; returns their width.
export function write(context, colours, text, [x, y], { ink = colours.muted, align = "left", size = 11.5, bold } = {}) {
  Object.assign(context, { fillStyle: ink, textAlign: align, textBaseline: "middle" });
  context.font = `${bold ? "600 " : ""}${size}px ${colours.font}`;
  context.fillText(text, x, y);
  return context.measureText(text).width;
}

// ------------------------------------------------------------------------------------------ the frame

// Whether a key was pressed without Ctrl, Cmd or Alt: with them it is the browser's (zoom, the page before).
export const plain = (event) => !event.ctrlKey && !event.metaKey && !event.altKey;
export const onPlainKey = (node, act) => node.addEventListener("keydown", (event) => plain(event) && act(event));

// The explorer's frame. `controls` and `body` are to be filled; `say(text)` writes the line that screen readers
// announce; `own(f)` runs f when the view goes; `onTheme(f)` runs f when light turns dark or the screen finer. Keys
// that mean something here stay here: JupyterLab's and Notebook's own shortcuts do not see them.
export function frame(el, { name, title, hint }) {
  const [endings, themed] = [[], new Set()];
  const root = element("div", { className: `vit-explorer vit-${name}`, role: "group", "aria-label": title });
  const controls = element("div", { className: "vit-controls" });
  const body = element("div", { className: "vit-body" });
  const status = element("p", { className: "vit-status", role: "status", "aria-live": "polite" });
  const header = element("div", { className: "vit-header" });
  header.append(element("span", { className: "vit-title" }, title), element("span", { className: "vit-hint" }, hint));
  root.append(header, controls, body, status);
  el.append(root);
  const say = (text) => {
    if (status.textContent !== text) status.textContent = text;
  };
  const view = {
    root,
    controls,
    body,
    say,
    own: (ending) => endings.push(ending),
    onTheme: (redraw) => themed.add(redraw),
    close: () => endings.forEach((ending) => ending()),
  };
  keepKeys(view);
  followTheme(view, () => themed.forEach((redraw) => redraw()));
  return view;
}

// addEventListener until the view goes.
function listen(view, target, type, act, capture = false) {
  target.addEventListener(type, act, capture);
  view.own(() => target.removeEventListener(type, act, capture));
}

function keepKeys(view) {
  onPlainKey(view.root, (event) => event.stopPropagation());
  // JupyterLab and Notebook 7 look for shortcuts before any element sees the key, and would take a slider's arrows.
  const shield = (event) =>
    view.root.contains(event.target) && event.target.toggleAttribute("data-lm-suppress-shortcuts", plain(event));
  listen(view, window, "keydown", shield, true);
}

function followTheme(view, redrawAll) {
  let seen = "";
  const changed = () => {
    const now = JSON.stringify([palette(view.root), window.devicePixelRatio]);
    if (now === seen) return;
    seen = now;
    // JupyterLab hides the page while it changes its theme: what is drawn then has no size.
    requestAnimationFrame(redrawAll);
  };
  const observer = new MutationObserver(changed);
  const attributes = { attributes: true, attributeFilter: ["class", "data-theme", "data-jp-theme-light", "style"] };
  for (const node of [document.documentElement, document.body]) observer.observe(node, attributes);
  view.own(() => observer.disconnect());
  listen(view, window.matchMedia("(prefers-color-scheme: dark)"), "change", changed);
  listen(view, window, "beforeprint", redrawAll); // the page has turned light for it, and waits for no frame
  let sharpness = null; // a window that moves to a finer screen keeps its size: no ResizeObserver tells
  const screenChanged = () => {
    sharpness?.removeEventListener("change", screenChanged);
    sharpness = window.matchMedia(`(resolution: ${window.devicePixelRatio}dppx)`);
    sharpness.addEventListener("change", screenChanged);
    changed();
  };
  screenChanged();
  view.own(() => sharpness.removeEventListener("change", screenChanged));
}

// The theme's colours and font for a canvas, which knows nothing of CSS variables.
export function palette(root) {
  const style = getComputedStyle(root);
  const names = ["ink", "muted", "line", "surface", "accent", "mark", "third", "fourth"];
  const colours = names.map((name) => [name, style.getPropertyValue(`--vit-${name}`).trim()]);
  return { ...Object.fromEntries(colours), font: style.fontFamily };
}

// A canvas as wide as its place and height(width) high, sharp on any screen. draw(context, width, height, colours) works
// in CSS pixels, and runs again when the size, the screen or the theme changes. Returns the canvas and `redraw`.
export function stage(view, parent, { label, height, draw, role = "img", focusable = false }) {
  const canvas = element("canvas", { className: "vit-stage", role, "aria-label": label });
  if (focusable) canvas.tabIndex = 0;
  parent.append(canvas);
  const context = canvas.getContext("2d");
  let colours = null;
  function redraw() {
    const [width, ratio] = [canvas.clientWidth, window.devicePixelRatio || 1];
    if (!width) return; // not on the page yet: the observer below calls again
    const down = height(width);
    const [w, h] = [Math.round(width * ratio), Math.round(down * ratio)];
    if (canvas.width !== w || canvas.height !== h) {
      Object.assign(canvas, { width: w, height: h });
      canvas.style.height = `${down}px`;
    }
    colours ??= palette(view.root);
    context.setTransform(w / width, 0, 0, h / down, 0, 0);
    context.clearRect(0, 0, width, down);
    draw(context, width, down, colours);
  }
  const resized = new ResizeObserver(() => requestAnimationFrame(redraw));
  resized.observe(canvas);
  // JupyterLab lays out nothing that is scrolled away: a size or theme that changed meanwhile is seen on the way back.
  const appeared = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && redraw());
  appeared.observe(canvas);
  view.own(() => (resized.disconnect(), appeared.disconnect()));
  view.onTheme(() => {
    colours = null;
    redraw();
  });
  return { canvas, redraw };
}

// Where a pointer event is on a canvas, as fractions of its width and height.
export function pointer(event, canvas) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

// The step (rows, columns) that an arrow key asks for, or null.
export const arrow = (event) =>
  ({ ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] })[event.key] ?? null;

// ------------------------------------------------------------------------------------------ controls

// Each control is bound to a trait: it shows the trait's value, sets it at once, and tells Python when it rests.

function control(view, model, trait, show, ...content) {
  watch(model, [trait], show);
  show();
  view.controls.append(element("label", { className: "vit-control" }, ...content));
}

export function choice(view, model, trait, label, options) {
  const select = element("select", { "aria-label": label });
  for (const [value, text] of options) select.append(element("option", { value: String(value) }, text));
  const show = () => (select.value = String(model.get(trait)));
  select.addEventListener("change", () => tell(model, { [trait]: options[select.selectedIndex][0] }));
  control(view, model, trait, show, element("span", {}, label), select);
  return select;
}

// A slider over the entries of `values`, the trait being one of them; text(value) is what stands beside it.
export function slider(view, model, trait, label, values, text = String) {
  const input = element("input", { type: "range", "aria-label": label, min: 0, max: values.length - 1, step: 1 });
  const output = element("span", { className: "vit-value", "aria-hidden": "true" });
  const show = () => {
    input.value = values.indexOf(model.get(trait));
    output.textContent = text(model.get(trait));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", () => model.set(trait, values[Number(input.value)]));
  input.addEventListener("change", () => model.save_changes());
  control(view, model, trait, show, element("span", {}, label), input, output);
  return input;
}

export function toggle(view, model, trait, label) {
  const input = element("input", { type: "checkbox" });
  const show = () => (input.checked = model.get(trait));
  input.addEventListener("change", () => tell(model, { [trait]: input.checked }));
  control(view, model, trait, show, input, element("span", {}, label));
  return input;
}

export function button(view, label, onclick) {
  const node = element("button", { type: "button", className: "vit-button", onclick }, label);
  view.controls.append(node);
  return node;
}

// ------------------------------------------------------------------------------------------ numbers

// A table of texts with a caption and named rows and columns; rows is a list of lists.
export function table(caption, columnNames, rowNames, rows) {
  const head = element("tr", {}, element("td"), ...columnNames.map((n) => element("th", { scope: "col" }, n)));
  const lines = rows.map((row, i) =>
    element("tr", {}, element("th", { scope: "row" }, rowNames[i]), ...row.map((text) => element("td", {}, text))),
  );
  const inner = element("table", {}, element("caption", {}, caption), element("thead", {}, head));
  inner.append(element("tbody", {}, ...lines));
  // It scrolls on its own where it is wide, so the keyboard must be able to reach it.
  return element("div", { className: "vit-table", tabIndex: 0, role: "region", "aria-label": caption }, inner);
}

// The box "Numbers", and the tables under the explorer while it is ticked: make() gives them. Returns what shows them.
export function tables(view, model, make) {
  toggle(view, model, "numbers", "Numbers");
  const holder = element("div", { className: "vit-numbers" });
  view.root.append(holder);
  const show = () => {
    const made = model.get("numbers") ? make() : [];
    made.forEach((fresh, i) => {
      const old = holder.children[i];
      if (!old) return holder.append(fresh);
      old.setAttribute("aria-label", fresh.getAttribute("aria-label"));
      old.replaceChildren(...fresh.children); // it keeps its place and focus
    });
    while (holder.children.length > made.length) holder.lastChild.remove();
  };
  watch(model, ["numbers"], show);
  return show;
}
