// The attention of every layer and head: a large map over the picture, and small ones of all of them.
import {
  arrow, choice, colour, drawHeat, drawHeats, element, onPlainKey, outline, pointer, ramp, slider, stage, table, toggle,
  veil, viridis, watch,
} from "../../../vit_tutorial/widgets/static/draw.js";
import { MEAN, readAttention, ROLLOUT } from "../../../vit_tutorial/widgets/static/weights.js";
import { card } from "./card.js";
import { COLUMNS, H, L, N } from "./model.js";

const HEADS = [[MEAN, "mean"], [ROLLOUT, "rollout"], ...Array.from({ length: H }, (_, h) => [h, `head ${h + 1}`])];
const [TOP, EDGE, GAP] = [30, 20, 6]; // above the picture; above and beside the small maps; between them

// `paint(context, area)` draws the picture, where there is one.
export function looksCard(el, state, paint) {
  const view = card(el, {
    name: "looks",
    title: "Where each token looks",
    hint: "Point at a patch: the maps show where its token looks, in every layer and head. A click keeps it.",
  });
  slider(view, state, "layer", "Layer", [...Array(L).keys()], (layer) => `${layer + 1} of ${L}`);
  choice(view, state, "head", "Show", [[MEAN, "mean of heads"], ...HEADS.slice(1)]);
  toggle(view, state, "numbers", "Numbers");
  const status = view.root.querySelector(".vit-status");
  let row = null; // row(layer, image, head, query) of the attention weights
  let pointed = null; // the token under the pointer; the state holds the chosen one

  const query = () => pointed ?? state.get("query");
  const values = (layer, head) => row(layer, 0, head, query());
  const highest = (weights) => weights.subarray(1).reduce((a, b) => Math.max(a, b), 1e-12);
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  const place = (token) =>
    token ? `row ${Math.floor((token - 1) / COLUMNS) + 1}, column ${((token - 1) % COLUMNS) + 1}` : "the class token";

  const largePanel = element("div", { className: "try-large" });
  const smallPanel = element("div", { className: "try-small" });
  view.body.append(largePanel, smallPanel);
  const large = stage(view, largePanel, {
    label: "The picture and the chosen map. Arrow keys choose a patch, Home the class token.",
    role: "application",
    focusable: true,
    height: (width) => width + TOP,
    draw: (context, width, height, colours) => {
      paint(context, [0, TOP, width, width]);
      if (!row) return;
      const weights = values(state.get("layer"), state.get("head"));
      const most = highest(weights);
      drawHeat(context, weights.subarray(1).map((v) => v / most), COLUMNS, [0, TOP, width, width], veil);
      context.fillStyle = colour(viridis, Math.min(1, weights[0] / most));
      context.fillRect(2, 3, 22, 22);
      context.strokeStyle = colours.muted;
      context.lineWidth = 1;
      context.strokeRect(2.5, 3.5, 21, 21);
      Object.assign(context, { fillStyle: colours.ink, font: `13px ${colours.font}`, textBaseline: "middle" });
      context.fillText(`class token  ${percent(weights[0])}`, 32, 15);
      const right = width - context.measureText(percent(most)).width;
      context.fillText(percent(most), right, 15);
      context.fillText("0", right - 88, 15);
      drawHeat(context, ramp, ramp.length, [right - 76, 8, 70, 14]);
      const side = width / COLUMNS;
      const [y, x] = [Math.floor((query() - 1) / COLUMNS), (query() - 1) % COLUMNS];
      outline(context, query() ? [x * side, TOP + y * side, side, side] : [2, 3, 22, 22], colours.mark);
    },
  });

  const tile = (width) => (width - EDGE - GAP * HEADS.length) / HEADS.length;
  const tileAt = (width, layer, i) => [EDGE + GAP + i * (tile(width) + GAP), EDGE + layer * (tile(width) + GAP)];
  const small = stage(view, smallPanel, {
    label: "All layers, one per row, and all heads, one per column. Arrow keys choose which map is shown large.",
    role: "application",
    focusable: true,
    height: (width) => EDGE + L * (tile(width) + GAP),
    draw: (context, width, height, colours) => {
      if (!row) return;
      const length = tile(width);
      const maps = [];
      for (let layer = 0; layer < L; layer++) {
        HEADS.forEach(([head], i) => {
          const weights = values(layer, head);
          const most = highest(weights);
          maps.push([weights.subarray(1).map((v) => v / most), [...tileAt(width, layer, i), length, length]]);
        });
      }
      drawHeats(context, maps, COLUMNS);
      context.font = `${length < 48 ? 10 : 12}px ${colours.font}`;
      Object.assign(context, { textBaseline: "middle", textAlign: "center" });
      const chosen = HEADS.findIndex(([head]) => head === state.get("head"));
      HEADS.forEach(([, name], i) => {
        context.fillStyle = i === chosen ? colours.ink : colours.muted;
        context.fillText(name, tileAt(width, 0, i)[0] + length / 2, 9);
      });
      for (let layer = 0; layer < L; layer++) {
        context.fillStyle = layer === state.get("layer") ? colours.ink : colours.muted;
        context.fillText(String(layer + 1), EDGE / 2, tileAt(width, layer, 0)[1] + length / 2);
      }
      context.textAlign = "start";
      outline(context, [...tileAt(width, state.get("layer"), chosen), length, length], colours.mark);
    },
  });
  smallPanel.append(
    element("p", { className: "try-tip" }, "Rows: layers; columns: heads. Each map has its own scale: bright is most."),
  );
  const numbers = element("div", { className: "vit-numbers" });
  view.root.append(numbers);

  // ---------------------------------------------------------------- what the pointer and the keys do

  function tokenAt(event) {
    const [x, y] = pointer(event, large.canvas);
    const [width, down] = [large.canvas.clientWidth, y * large.canvas.clientHeight - TOP];
    if (down < 0) return x * width < 150 ? 0 : null;
    const [r, c] = [Math.floor((down / width) * COLUMNS), Math.floor(x * COLUMNS)];
    return r < COLUMNS && c >= 0 && c < COLUMNS ? 1 + r * COLUMNS + c : null;
  }
  large.canvas.addEventListener("pointermove", (event) => {
    const token = tokenAt(event);
    if (token === pointed || event.pointerType === "touch") return;
    pointed = token;
    redraw();
  });
  large.canvas.addEventListener("pointerleave", () => {
    if (pointed === null) return;
    pointed = null;
    redraw();
  });
  large.canvas.addEventListener("click", (event) => {
    const token = tokenAt(event);
    if (token !== null) state.set("query", token);
  });
  onPlainKey(large.canvas, (event) => {
    const step = arrow(event);
    const from = state.get("query");
    if (event.key === "Home") state.set("query", 0);
    else if (!step) return;
    else {
      const at = from ? [Math.floor((from - 1) / COLUMNS), (from - 1) % COLUMNS] : [-1, 0];
      const to = [at[0] + step[0], at[1] + step[1]];
      if (to[0] < 0) state.set("query", 0);
      else if (to[0] < COLUMNS && to[1] >= 0 && to[1] < COLUMNS) state.set("query", 1 + to[0] * COLUMNS + to[1]);
    }
    event.preventDefault();
  });
  const choose = (layer, i) => {
    if (layer < 0 || layer >= L || !HEADS[i]) return;
    state.set("layer", layer);
    state.set("head", HEADS[i][0]);
  };
  small.canvas.addEventListener("click", (event) => {
    const [x, y] = pointer(event, small.canvas);
    const [width, step] = [small.canvas.clientWidth, tile(small.canvas.clientWidth) + GAP];
    choose(Math.floor((y * small.canvas.clientHeight - EDGE) / step), Math.floor((x * width - EDGE - GAP) / step));
  });
  onPlainKey(small.canvas, (event) => {
    const step = arrow(event);
    if (!step) return;
    choose(state.get("layer") + step[0], HEADS.findIndex(([head]) => head === state.get("head")) + step[1]);
    event.preventDefault();
  });

  function sentence() {
    const weights = values(state.get("layer"), state.get("head"));
    let best = 1;
    for (let k = 2; k < N; k++) if (weights[k] > weights[best]) best = k;
    const what = `Layer ${state.get("layer") + 1}, ${HEADS.find(([head]) => head === state.get("head"))[1]}`;
    const from = query() ? `from the patch in ${place(query())}` : "from the class token";
    const most = `most to ${place(best)}, ${percent(weights[best])}`;
    return `${what}, ${from}: ${most}; to the class token ${percent(weights[0])}.`;
  }
  // Screen readers hear of it when the reader asked, not whenever the picture changes: the answer's card tells then.
  function redraw(aloud = true) {
    if (!row) return;
    large.redraw();
    small.redraw();
    status.setAttribute("aria-live", aloud ? "polite" : "off");
    view.say(sentence());
    if (!state.get("numbers")) return numbers.replaceChildren();
    const weights = values(state.get("layer"), state.get("head"));
    const names = Array.from({ length: COLUMNS }, (_, i) => String(i + 1));
    const lines = names.map((_, y) =>
      Array.from(weights.subarray(1 + y * COLUMNS, 1 + (y + 1) * COLUMNS), (value) => (100 * value).toFixed(2)),
    );
    const made = table("Attention to each patch, in per cent", names, names, lines);
    if (numbers.firstChild) numbers.firstChild.replaceChildren(...made.children); // the box keeps its place and focus
    else numbers.append(made);
  }
  watch(state, ["layer", "head", "query", "numbers"], () => redraw());

  // Attention weights (L, 1, H, N, N) of another picture.
  function show(attention) {
    const told = { shape: [L, 1, H, N], weights: new Uint8Array(attention.buffer) };
    row = readAttention({ get: (name) => told[name] }).row;
    redraw(false);
  }
  return { show, repaint: large.redraw };
}
