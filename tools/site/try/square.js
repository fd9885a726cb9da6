// Card 1: the reader's picture, and the square of it that the model gets; or the drawing board.
import { arrow, button, element, plain, pointer, slider, stage } from "../../../vit_tutorial/widgets/static/draw.js";
import { makeBoard } from "./board.js";
import { card } from "./card.js";
import { readPicture } from "./picture.js";

const HINTS = {
  picture: "The model gets this square of it. Drag it, zoom in.",
  board: "The model gets the whole sheet. Draw with the pointer, or with Shift and the arrow keys.",
};
// Halves go to the even number, as in torchvision's center_crop.
const round = (value) => (value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value));
const ZOOMS = [1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8];

// `bar` gets the ways to choose a picture. `state` holds "source" {canvas, about, board} and "zoom"; `moved()` runs
// when the square or what is in it changed.
export function squareCard(el, bar, state, moved) {
  const view = card(el, {
    name: "square",
    title: "1 · Your picture",
    hint: HINTS.picture,
  });
  const note = element("p", { className: "vit-note", role: "alert", hidden: true });
  const below = element("div", { className: "vit-controls try-below" });
  let centre = [0, 0]; // of the square, in the source's pixels
  let sheet = null; // the drawing board, kept while another picture is shown
  let newest = 0; // the picture that was asked for last; one that took longer to read is dropped

  const file = element("input", { type: "file", accept: "image/*", hidden: true });
  file.addEventListener("change", () => {
    if (file.files.length) take(file.files[0]);
    file.value = ""; // so that the same file can be chosen again
  });
  button({ controls: bar }, "Choose a picture", () => file.click()).classList.add("try-first");
  button({ controls: bar }, "Draw one", draw);
  const samples = element("div", { className: "try-samples", role: "group", "aria-label": "Photographs to try" });
  bar.append(file, element("span", { className: "try-tip" }, "or try a photograph"), samples);

  const source = () => state.get("source");
  function square() {
    const { canvas } = source();
    const length = Math.max(1, Math.round(Math.min(canvas.width, canvas.height) / state.get("zoom")));
    const start = (at, whole) => Math.min(whole - length, Math.max(0, round(at - length / 2)));
    return { x: start(centre[0], canvas.width), y: start(centre[1], canvas.height), side: length };
  }
  // The square's picture in the rectangle (x, y, width, height).
  function paint(context, area) {
    if (!source()) return;
    const { x, y, side } = square();
    context.imageSmoothingEnabled = true;
    context.imageSmoothingQuality = "high";
    context.drawImage(source().canvas, x, y, side, side, ...area);
  }

  const panel = element("div", { className: "vit-panel" });
  view.body.append(panel);
  const main = stage(view, panel, {
    label: "",
    role: "application",
    focusable: true,
    height: (width) => width,
    draw: (context, width) => {
      paint(context, [0, 0, width, width]);
      const board = source()?.board;
      if (!board || !main.canvas.matches(":focus-visible")) return;
      const { at, size } = board.brush();
      for (const [style, extra] of [["#000", 0], ["#fff", 1.5]]) {
        context.strokeStyle = style;
        context.lineWidth = 1.5;
        context.beginPath();
        context.arc(at[0] * width, at[1] * width, Math.max(3, (size * width) / 2) + extra, 0, 2 * Math.PI);
        context.stroke();
      }
    },
  });
  panel.append(below);
  view.root.append(note);
  const zoom = slider({ controls: below }, state, "zoom", "Zoom", ZOOMS, (value) => `${value} ×`);
  const zoomLabel = zoom.closest("label");

  // ---------------------------------------------------------------- where pictures come from

  function show(next) {
    newest++;
    note.hidden = true;
    centre = [next.canvas.width / 2, next.canvas.height / 2];
    state.set("zoom", 1);
    state.set("source", next);
    const { board } = next;
    zoomLabel.hidden = Boolean(board);
    below.querySelector(".try-tools")?.remove();
    if (board) below.append(board.tools);
    view.root.querySelector(".vit-hint").textContent = board ? HINTS.board : HINTS.picture;
    const what = board
      ? "Your sheet of paper. Draw with the pointer; arrow keys move the brush, with Shift they draw, Space sets a dot."
      : "Your picture. Drag it, or use the arrow keys, to move the square that the model gets; plus and minus zoom.";
    main.canvas.setAttribute("aria-label", what);
    main.canvas.classList.toggle("try-drawing", Boolean(board));
    for (const node of samples.children) node.setAttribute("aria-pressed", String(node.dataset.name === next.sample));
    view.say(next.about);
    redraw();
  }
  async function take(blob, sample = null) {
    const mine = ++newest;
    try {
      const { canvas, about } = await readPicture(blob);
      const said = sample ? `${sample}: one of the course's photographs.` : `Shown: ${about}.`;
      if (mine === newest) show({ canvas, sample, about: said });
    } catch (error) {
      if (mine === newest) refuse(error.message);
    }
  }
  function refuse(sentence) {
    note.textContent = sentence;
    note.hidden = false;
  }
  function draw() {
    sheet ??= makeBoard(redraw);
    show({ canvas: sheet.canvas, board: sheet, about: "Your sheet of paper: draw one of the ten things." });
    main.canvas.focus({ preventScroll: true });
  }
  function offer(photographs) {
    for (const [name, url] of Object.entries(photographs)) {
      const image = element("img", { src: url, alt: "", width: 64, height: 48 });
      const node = element("button", { type: "button", className: "try-sample", "aria-pressed": "false" });
      node.dataset.name = name;
      node.append(image, element("span", {}, name));
      const packed = Uint8Array.from(atob(url.split(",")[1]), (letter) => letter.charCodeAt(0));
      node.addEventListener("click", () => take(new Blob([packed], { type: "image/webp" }), name));
      samples.append(node);
    }
    if (!newest) samples.firstChild.click(); // else the reader was quicker
  }

  // ---------------------------------------------------------------- what the pointer and the keys do

  let held = null; // the pointer's last place, in fractions of the canvas
  const move = (right, down) => {
    const { x, y, side: length } = square();
    centre = [x + length / 2 + right * length, y + length / 2 + down * length];
    const reached = square(); // at a border it stops
    centre = [reached.x + length / 2, reached.y + length / 2];
    redraw();
  };
  main.canvas.addEventListener("pointerdown", (event) => {
    if (!event.isPrimary || event.button || !source()) return; // a second finger does nothing
    main.canvas.setPointerCapture(event.pointerId);
    held = pointer(event, main.canvas);
    source().board?.begin(held);
  });
  main.canvas.addEventListener("pointermove", (event) => {
    if (!event.isPrimary || !held) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) {
      const at = pointer(one, main.canvas);
      if (source().board) source().board.move(at);
      else move(held[0] - at[0], held[1] - at[1]);
      held = at;
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    main.canvas.addEventListener(name, (event) => {
      if (!event.isPrimary) return;
      held = null;
      source()?.board?.end();
    });
  }
  main.canvas.addEventListener("keydown", (event) => {
    if (!source()) return;
    const step = arrow(event);
    if (source().board) {
      if (!source().board.key(event)) return;
      main.redraw();
    } else if (!plain(event)) return;
    else if (step) move(step[1] / 16, step[0] / 16);
    else if ("+-=".includes(event.key)) {
      const next = ZOOMS[ZOOMS.indexOf(state.get("zoom")) + (event.key === "-" ? -1 : 1)];
      if (next) state.set("zoom", next);
    } else return;
    event.preventDefault();
  });
  for (const name of ["focus", "blur"]) main.canvas.addEventListener(name, () => main.redraw());

  function redraw() {
    main.redraw();
    moved();
  }
  state.on("change:zoom", () => source() && redraw());
  return { square, paint, take, refuse, offer };
}
