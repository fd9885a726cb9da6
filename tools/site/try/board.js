// The drawing board: a sheet of white paper, a brush, and the tools for it.
import { arrow, element, plain } from "../../../vit_tutorial/widgets/static/draw.js";
import { able } from "./card.js";
import { paper } from "./picture.js";

const SHEET = 256; // pixels
const STEP = SHEET / 32; // of the keyboard's brush: one of the model's pixels
const REMEMBERED = 40; // strokes that can be undone
const COLOURS = [
  ["black", "#1b1d20"],
  ["grey", "#868c94"],
  ["white", "#ffffff"],
  ["brown", "#7a4f2c"],
  ["red", "#c43a2f"],
  ["orange", "#e58a3c"],
  ["yellow", "#f1d04b"],
  ["green", "#3f8d50"],
  ["sky blue", "#84bdea"],
  ["blue", "#2b5fa8"],
];

// `changed()` runs after every mark. Places are fractions [x, y] of the sheet.
export function makeBoard(changed) {
  const [canvas, context] = paper(SHEET, SHEET);
  Object.assign(context, { lineCap: "round", lineJoin: "round" });
  const past = [];
  let colour = COLOURS[0][1];
  let last = null; // where the stroke under way is
  const cursor = [SHEET / 2, SHEET / 2]; // the keyboard's brush

  const size = element("input", { type: "range", min: 4, max: 64, step: 4, value: 16, "aria-label": "Brush size" });
  const act = (label, onclick) => element("button", { type: "button", className: "vit-button", onclick }, label);
  const undoButton = act("Undo", undo);
  const eraser = act("Eraser", () => choose("#ffffff", eraser));
  able(undoButton, false);
  const swatches = COLOURS.map(([name, value]) => {
    const swatch = element("button", { type: "button", className: "try-swatch", title: name, "aria-label": name });
    swatch.style.backgroundColor = value;
    swatch.addEventListener("click", () => choose(value, swatch));
    return swatch;
  });
  const tools = element(
    "div",
    { className: "try-tools", role: "group", "aria-label": "Drawing tools" },
    element("div", { className: "try-swatches", role: "group", "aria-label": "Colour" }, ...swatches),
    element("label", { className: "vit-control" }, element("span", {}, "Brush"), size),
    eraser,
    act("Fill", () => mark(() => fill(colour))),
    undoButton,
    act("Clear", () => mark(() => fill("#fff"))),
  );
  choose(colour, swatches[0]);

  function choose(value, button) {
    colour = value;
    for (const other of [...swatches, eraser]) other.setAttribute("aria-pressed", String(other === button));
  }
  function remember() {
    past.push(context.getImageData(0, 0, SHEET, SHEET));
    if (past.length > REMEMBERED) past.shift();
    able(undoButton, true);
  }
  function undo() {
    if (!past.length) return;
    context.putImageData(past.pop(), 0, 0);
    able(undoButton, past.length);
    changed();
  }
  function mark(draw) {
    remember();
    draw();
    changed();
  }
  function fill(value) {
    context.fillStyle = value;
    context.fillRect(0, 0, SHEET, SHEET);
  }
  function line(from, to) {
    context.strokeStyle = colour;
    context.lineWidth = Number(size.value);
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]); // a line without length would draw no dot
    context.stroke();
  }
  const place = ([x, y]) => [x * SHEET, y * SHEET];

  return {
    canvas,
    tools,
    begin: (at) => {
      last = place(at);
      mark(() => line(last, last));
    },
    move: (at) => {
      if (!last) return;
      const next = place(at);
      line(last, next);
      last = next;
      changed();
    },
    end: () => (last = null),
    // Arrow keys move the brush, with Shift they draw, Space sets a dot. Whether the key meant anything.
    key: (event) => {
      const step = arrow(event);
      if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
      else if (!plain(event)) return false;
      else if (step) {
        const from = [...cursor];
        cursor.forEach((value, i) => (cursor[i] = Math.min(SHEET, Math.max(0, value + STEP * step[1 - i]))));
        if (event.shiftKey) mark(() => line(from, cursor));
      } else if (event.key === " ") mark(() => line(cursor, cursor));
      else return false;
      return true;
    },
    brush: () => ({ at: cursor.map((value) => value / SHEET), size: Number(size.value) / SHEET }),
  };
}
