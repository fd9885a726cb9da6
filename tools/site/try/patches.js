// Card 2: the 64 patches that the model gets. Painting covers them; a map says which of them matter.
import {
  arrow, button, diverging, drawHeat, element, onPlainKey, outline, picture, pointer, ramp, stage, table,
} from "../../../vit_tutorial/widgets/static/draw.js";
import { able, card } from "./card.js";
import { COLUMNS, PATCH, SIDE } from "./model.js";
import { interleaved } from "./picture.js";

// `changed()` runs when another set of patches is covered. `measure(progress)` gives what each patch is worth,
// {lost: (64), name} or null where the picture changed meanwhile, once `enable(true)` has said that it can; what it
// throws goes to `failed`.
export function patchesCard(el, changed, measure, failed) {
  const view = card(el, {
    name: "tokens",
    title: "2 · What the model gets",
    hint: `${COLUMNS * COLUMNS} patches of ${PATCH} × ${PATCH} pixels. Drag to cover some.`,
  });
  const covered = new Set();
  let shown = null; // the picture as a small canvas
  let paintColour = "#888"; // of a covered patch
  let map = null; // {lost, name}
  let at = 27; // the keyboard's patch
  let stroke = null; // {cover, last} while painting
  let idle = false; // the model is there, and busy with no map

  const panel = element("div", { className: "vit-panel" });
  view.body.append(panel);
  const main = stage(view, panel, {
    label: "The patches that the model gets. Arrow keys move, Space covers a patch or uncovers it.",
    role: "application",
    focusable: true,
    height: (width) => width,
    draw: (context, width, height, colours) => {
      if (!shown) return;
      const length = width / COLUMNS;
      const box = (patch) => [(patch % COLUMNS) * length, Math.floor(patch / COLUMNS) * length, length, length];
      context.imageSmoothingEnabled = false;
      context.drawImage(shown, 0, 0, width, width);
      if (map) drawMap(context, width);
      context.beginPath();
      for (let i = 1; i < COLUMNS; i++) {
        const where = Math.round(i * length) + 0.5;
        context.moveTo(where, 0);
        context.lineTo(where, width);
        context.moveTo(0, where);
        context.lineTo(width, where);
      }
      for (const [style, thickness] of [["rgba(0, 0, 0, 0.25)", 2], ["rgba(255, 255, 255, 0.55)", 1]]) {
        Object.assign(context, { strokeStyle: style, lineWidth: thickness }); // to be seen on any picture
        context.stroke();
      }
      for (const patch of covered) hatch(context, box(patch));
      if (main.canvas.matches(":focus-visible")) outline(context, box(at), colours.mark);
    },
  });
  const now = element("p", { className: "try-now", "aria-hidden": "true" }); // where the answer's card is out of sight
  const below = element("div", { className: "vit-controls try-below" });
  panel.append(now, below);
  const controls = { controls: below };
  const clear = button(controls, "Uncover all", () => {
    if (!covered.size) return;
    covered.clear();
    changed();
  });
  const ask = button(controls, "Which patch matters?", () => findMap().catch(failed));
  able(clear, false);
  enable(false);
  const progress = element("progress", { className: "vit-progress", max: COLUMNS * COLUMNS, hidden: true });
  progress.setAttribute("aria-label", "Patches covered in turn");
  below.append(progress);
  const legend = element("div", { className: "try-legend", hidden: true });
  panel.append(legend);

  function hatch(context, [x, y, width, height]) {
    context.save();
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.fillStyle = paintColour;
    context.fillRect(x, y, width, height);
    for (const [style, shift] of [["rgba(0, 0, 0, 0.4)", 0], ["rgba(255, 255, 255, 0.55)", 1.5]]) {
      context.strokeStyle = style;
      context.lineWidth = 1.5;
      context.beginPath();
      for (let i = 0; i < 2 * width; i += width / 4) {
        context.moveTo(x + i + shift, y);
        context.lineTo(x + i - height + shift, y + height);
      }
      context.stroke();
    }
    context.restore();
  }
  // Orange where the answer lost by covering, purple where it gained; the more, the less of the picture shows.
  function drawMap(context, width) {
    const most = Math.max(...map.lost.map(Math.abs), 1e-6);
    const values = map.lost.map((value) => 0.5 + value / most / 2);
    const strength = (t) => 0.2 + 0.75 * Math.sqrt(Math.abs(2 * t - 1));
    drawHeat(context, values, COLUMNS, [0, 0, width, width], strength, diverging);
  }

  function enable(can) {
    idle = can;
    able(ask, can && shown);
  }
  async function findMap() {
    if (!idle || !shown) return;
    enable(false);
    Object.assign(progress, { hidden: false, value: 0 });
    try {
      const found = await measure((done) => (progress.value = done));
      if (found) showMap(found);
      else view.say("The picture changed meanwhile: ask again.");
      enable(true);
    } finally {
      progress.hidden = true;
    }
  }
  function showMap(found) {
    map = found;
    const most = Math.max(...map.lost.map(Math.abs), 1e-6);
    const percent = (value) => `${(100 * value).toFixed(1)}`;
    const bar = element("canvas", { width: 128, height: 10, "aria-hidden": "true" });
    drawHeat(bar.getContext("2d"), ramp, ramp.length, [0, 0, 128, 10], () => 1, diverging);
    const names = Array.from({ length: COLUMNS }, (_, i) => String(i + 1));
    const lines = names.map((_, y) => map.lost.slice(y * COLUMNS, (y + 1) * COLUMNS).map(percent));
    const caption = `Points of ${map.name} lost where a patch is covered`;
    const numbers = element("details", {}, element("summary", {}, "Numbers"), table(caption, names, names, lines));
    legend.replaceChildren(
      element("p", {}, `Each patch covered in turn. Orange: “${map.name}” loses by it; purple: it gains.`),
      element("p", { className: "try-scale" }, `gains ${percent(most)} points`, bar, `loses ${percent(most)}`),
      numbers,
    );
    legend.hidden = false;
    const best = map.lost.indexOf(Math.max(...map.lost));
    view.say(`Most is lost at ${place(best)}: ${percent(map.lost[best])} points of ${map.name}.`);
    main.redraw();
  }

  // ---------------------------------------------------------------- what the pointer and the keys do

  const place = (patch) => `row ${Math.floor(patch / COLUMNS) + 1}, column ${(patch % COLUMNS) + 1}`;
  function patchAt([x, y]) {
    const inside = (value) => Math.min(COLUMNS - 1, Math.max(0, Math.floor(value * COLUMNS)));
    return inside(y) * COLUMNS + inside(x);
  }
  function set(patch, cover) {
    if (covered.has(patch) === cover) return;
    if (cover) covered.add(patch);
    else covered.delete(patch);
    changed();
  }
  main.canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button || !shown) return; // a second finger does nothing
    main.canvas.setPointerCapture(event.pointerId);
    const last = pointer(event, main.canvas);
    at = patchAt(last);
    stroke = { cover: !covered.has(at), last };
    set(at, stroke.cover);
  });
  main.canvas.addEventListener("pointermove", (event) => {
    if (!event.isPrimary || !stroke) return;
    const to = pointer(event, main.canvas);
    const steps = 1 + Math.ceil(2 * COLUMNS * Math.hypot(to[0] - stroke.last[0], to[1] - stroke.last[1]));
    for (let i = 1; i <= steps; i++) { // a quick stroke leaves no patch out
      at = patchAt(to.map((value, axis) => stroke.last[axis] + ((value - stroke.last[axis]) * i) / steps));
      set(at, stroke.cover);
    }
    stroke.last = to;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    main.canvas.addEventListener(name, (event) => event.isPrimary && (stroke = null));
  }
  onPlainKey(main.canvas, (event) => {
    const step = arrow(event);
    if (step) {
      const [y, x] = [Math.floor(at / COLUMNS) + step[0], (at % COLUMNS) + step[1]];
      if (y >= 0 && y < COLUMNS && x >= 0 && x < COLUMNS) at = y * COLUMNS + x;
      view.say(`Patch in ${place(at)}${covered.has(at) ? ", covered" : ""}.`);
      main.redraw();
    } else if (event.key === " ") set(at, !covered.has(at));
    else return;
    event.preventDefault();
  });
  for (const name of ["focus", "blur"]) main.canvas.addEventListener(name, () => main.redraw());

  // The pixels that the model gets now: a map of other pixels goes.
  function show(pixels, meanColour) {
    shown = picture(interleaved(pixels), SIDE, SIDE);
    paintColour = `rgb(${meanColour.join(", ")})`;
    map = null;
    legend.hidden = true;
    able(clear, covered.size);
    enable(idle);
    const count = covered.size === 1 ? "1 patch is" : `${covered.size} patches are`;
    view.say(covered.size ? `${count} covered, with the picture's mean colour.` : "");
    main.redraw();
  }
  return { covered, enable, show, tell: (text) => (now.textContent = text) };
}
