import {
  arrow, bytes, choice, colour, drawHeat, drawHeats, element, floats, frame, onPlainKey, outline, picture, pointer,
  slider, stage, table, toggle, veil, viridis, watch,
} from "./draw.js";

export const MEAN = -1;
export const ROLLOUT = -2;
const STRIP = 30; // the class token's place, above the image
const LABEL = 16; // above each small map
export const ramp = Array.from({ length: 64 }, (_, i) => i / 63);

// The attention weights, and all rows that can be shown of them.
export function readAttention(model) {
  const [L, B, H, N] = model.get("shape");
  const scales = floats(model.get("scales"));
  let weights;
  if (scales.length) {
    const coded = bytes(model.get("weights"));
    weights = new Float32Array(coded.length);
    for (let row = 0; row < scales.length; row++) {
      const unit = scales[row] / 255;
      for (let i = row * N; i < (row + 1) * N; i++) weights[i] = coded[i] * unit;
    }
  } else weights = floats(model.get("weights"));

  const means = new Map(); // (N, N) for each layer and image that was asked for
  function meanOf(layer, image) {
    const key = layer * B + image;
    if (!means.has(key)) {
      const mean = new Float32Array(N * N);
      for (let h = 0; h < H; h++) {
        const start = (key * H + h) * N * N;
        for (let i = 0; i < N * N; i++) mean[i] += weights[start + i] / H;
      }
      means.set(key, mean);
    }
    return means.get(key);
  }

  // One row of the rollout (Abnar and Zuidema 2020), from the layer down: half stays, half follows the mean attention.
  function rollout(layer, image, query) {
    let share = new Float32Array(N);
    share[query] = 1;
    for (let l = layer; l >= 0; l--) {
      const mean = meanOf(l, image);
      const next = share.map((value) => value / 2);
      for (let i = 0; i < N; i++) {
        const half = share[i] / 2;
        if (half) for (let k = 0; k < N; k++) next[k] += half * mean[i * N + k];
      }
      share = next;
    }
    return share;
  }

  function row(layer, image, head, query) {
    if (head === ROLLOUT) return rollout(layer, image, query);
    if (head === MEAN) return meanOf(layer, image).subarray(query * N, (query + 1) * N);
    const start = (((layer * B + image) * H + head) * N + query) * N;
    return weights.subarray(start, start + N);
  }
  return { L, B, H, N, row, exact: !scales.length };
}

function render({ model, el }) {
  const { L, B, H, N, row, exact } = readAttention(model);
  const [rows, columns] = model.get("grid");
  const prefix = N - rows * columns; // 1 with a class token, else 0
  const [Y, X] = model.get("size");
  const pixels = bytes(model.get("pixels"));
  const pictures = Array.from({ length: B }, (_, b) => picture(pixels.subarray(3 * b * Y * X), Y, X));
  const title = (b) => model.get("titles")[b] ?? `image ${b + 1}`;
  const heads = [[MEAN, "mean of heads"], [ROLLOUT, "rollout"], ...Array.from({ length: H }, (_, h) => [h, `head ${h + 1}`])];
  const view = frame(el, {
    name: "attention",
    title: "Attention explorer",
    hint: "Point at a patch: where does its token look? Click to hold it; arrow keys move, Home is the class token.",
  });
  slider(view, model, "layer", "Layer", [...Array(L).keys()], (layer) => `${layer + 1} of ${L}`);
  choice(view, model, "head", "Show", heads);
  if (B > 2) {
    const names = Array.from({ length: B }, (_, b) => [b, title(b)]);
    choice(view, model, "left", "Image", names);
    choice(view, model, "right", "beside", [[-1, "none"], ...names]);
  }
  toggle(view, model, "numbers", "Numbers");

  let query = Math.min(model.get("query"), N - 1); // follows the pointer; the trait holds what was chosen
  let key = null; // what the pointer or the keys ask about while the query is held
  let held = false;
  const percent = (value) => `${(100 * value).toFixed(exact ? 2 : 1)} %`;
  const place = (token) => {
    if (token < prefix) return "the class token";
    const patch = token - prefix;
    return `row ${Math.floor(patch / columns) + 1}, column ${(patch % columns) + 1}`;
  };
  const highest = (values) => values.subarray(prefix).reduce((a, b) => Math.max(a, b), 1e-12);
  const current = (image) => row(model.get("layer"), image, model.get("head"), query);

  function drawMain(image, context, width, colours) {
    const values = current(image);
    const most = highest(values);
    const top = prefix ? STRIP : 0;
    const side = [width / columns, (width * Y) / X / rows];
    const box = (token) => {
      if (token < prefix) return [2, 3, 22, 22];
      const [y, x] = [Math.floor((token - prefix) / columns), (token - prefix) % columns];
      return [x * side[0], top + y * side[1], side[0], side[1]];
    };
    context.imageSmoothingEnabled = X > 64; // small images keep their pixels
    context.drawImage(pictures[image], 0, top, width, (width * Y) / X);
    drawHeat(context, values.subarray(prefix).map((v) => v / most), columns, [0, top, width, (width * Y) / X], veil);
    if (prefix) {
      const t = Math.min(1, values[0] / most);
      context.fillStyle = colour(viridis, t);
      context.fillRect(...box(0));
      context.strokeStyle = colours.muted;
      context.lineWidth = 1;
      context.strokeRect(2.5, 3.5, 21, 21);
      context.fillStyle = colours.ink;
      context.font = `13px ${colours.font}`;
      context.textBaseline = "middle";
      context.fillText(`class token  ${percent(values[0])}`, 32, 15);
      drawScale(context, width, percent(most));
    }
    outline(context, box(query), colours.mark);
    if (key !== null) outline(context, box(key), "#fff", 1.5);
  }

  function drawScale(context, width, text) {
    const right = width - context.measureText(text).width;
    drawHeat(context, ramp, ramp.length, [right - 76, 8, 70, 14]);
    context.fillText(text, right, 15);
    context.fillText("0", right - 88, 15);
  }

  function drawHeads(image, context, width, colours) {
    const [across, tile, gap] = tiling(width);
    const maps = heads.map(([head], i) => {
      const values = row(model.get("layer"), image, head, query);
      const most = highest(values);
      const [y, x] = [Math.floor(i / across) * (tile * (Y / X) + LABEL + gap), (i % across) * (tile + gap)];
      return [values.subarray(prefix).map((v) => v / most), [x, y + LABEL, tile, tile * (Y / X)]];
    });
    drawHeats(context, maps, columns);
    context.font = `11.5px ${colours.font}`;
    heads.forEach(([head, name], i) => {
      const [x, y] = maps[i][1];
      const chosen = head === model.get("head");
      context.fillStyle = chosen ? colours.ink : colours.muted;
      context.fillText(head === MEAN ? "mean" : name, x + 1, y - 5);
      if (chosen) outline(context, maps[i][1], colours.accent, 2);
    });
  }
  const tiling = (width) => {
    const gap = 8;
    const most = Math.max(3, Math.ceil(Math.sqrt(heads.length)));
    const across = Math.min(heads.length, most, Math.max(3, Math.floor(width / 62)));
    return [across, (width - gap * (across - 1)) / across, gap];
  };
  const tilesHeight = (width) => {
    const [across, tile, gap] = tiling(width);
    return Math.ceil(heads.length / across) * (tile * (Y / X) + LABEL + gap) - gap;
  };

  // ---------------------------------------------------------------- what the pointer and the keys do

  function tokenAt(event, canvas) {
    const [x, y] = pointer(event, canvas);
    const down = y * canvas.clientHeight - (prefix ? STRIP : 0);
    if (down < 0) return x * canvas.clientWidth < 150 ? 0 : null;
    const at = [Math.floor((down / (canvas.clientHeight - (prefix ? STRIP : 0))) * rows), Math.floor(x * columns)];
    return at[0] < rows && at[1] >= 0 && at[1] < columns ? prefix + at[0] * columns + at[1] : null;
  }
  function point(token) {
    if (token === null || token === (held ? key : query)) return;
    if (held) key = token;
    else query = token;
    redraw();
  }
  function hold(token) {
    [held, key] = [token !== null, null];
    if (token !== null) query = token;
    model.set("query", query);
    model.save_changes();
    redraw();
  }
  function onKey(event) {
    const step = arrow(event);
    const from = held && key !== null ? key : query;
    if (step) {
      const at = from < prefix ? [-1, 0] : [Math.floor((from - prefix) / columns), (from - prefix) % columns];
      const to = [at[0] + step[0], at[1] + step[1]];
      if (to[0] < 0 && prefix && step[0]) point(0);
      else if (to[0] >= 0 && to[0] < rows && to[1] >= 0 && to[1] < columns) point(prefix + to[0] * columns + to[1]);
    } else if (event.key === "Home" && prefix) point(0);
    else if (event.key === "Enter" || event.key === " ") hold(held ? null : query);
    else if (event.key === "Escape" && held) hold(null);
    else return;
    event.preventDefault();
    if (!held && query !== model.get("query")) {
      model.set("query", query);
      model.save_changes();
    }
  }

  const panels = [0, 1].map((side) => {
    const image = () => model.get(side ? "right" : "left");
    const panel = element("div", { className: "vit-view" });
    const caption = element("div", { className: "vit-caption" });
    const main = element("div", { className: "vit-main" });
    const small = element("div", { className: "vit-heads" });
    panel.append(caption, main, small);
    view.body.append(panel);
    const big = stage(view, main, {
      label: "Patches of the image. Arrow keys choose a patch, Home the class token, Enter holds it, Escape lets go.",
      role: "application",
      focusable: true,
      height: (width) => (width * Y) / X + (prefix ? STRIP : 0),
      draw: (context, width, height, colours) => drawMain(image(), context, width, colours),
    });
    const tiles = stage(view, small, {
      label: "The same query in every head; the menu Show chooses among them.",
      height: tilesHeight,
      draw: (context, width, height, colours) => drawHeads(image(), context, width, colours),
    });
    big.canvas.addEventListener("pointermove", (event) => point(tokenAt(event, big.canvas)));
    big.canvas.addEventListener("pointerleave", () => held && key !== null && ((key = null), redraw()));
    big.canvas.addEventListener("click", (event) => {
      const token = tokenAt(event, big.canvas);
      if (token !== null) hold(held && token === query ? null : token);
    });
    onPlainKey(big.canvas, onKey);
    tiles.canvas.addEventListener("click", (event) => {
      const [across] = tiling(tiles.canvas.clientWidth);
      const [x, y] = pointer(event, tiles.canvas);
      const i = Math.floor(y * Math.ceil(heads.length / across)) * across + Math.floor(x * across);
      if (!heads[i]) return;
      model.set("head", heads[i][0]);
      model.save_changes();
    });
    return { image, panel, caption, redraw: () => [big.redraw(), tiles.redraw()] };
  });
  const numbers = element("div", { className: "vit-numbers" });
  view.root.append(numbers);

  function redraw() {
    const shown = panels.filter(({ image }) => image() >= 0);
    view.body.classList.toggle("vit-two", shown.length > 1);
    for (const { image, panel, caption, redraw } of panels) {
      panel.hidden = image() < 0;
      if (panel.hidden) continue;
      caption.textContent = B > 1 || model.get("titles").length ? title(image()) : "";
      redraw();
    }
    const values = current(shown[0].image());
    let best = prefix;
    for (let k = prefix; k < N; k++) if (values[k] > values[best]) best = k;
    const facts = [`Query: ${place(query)}${held ? " (held)" : ""}.`];
    if (key === null) facts.push(`Strongest patch: ${place(best)}, ${percent(values[best])}.`);
    else facts.push(`To ${place(key)}: ${percent(values[key])}.`);
    if (prefix) facts.push(`To the class token: ${percent(values[0])}.`);
    view.say(facts.join(" "));
    if (model.get("numbers")) showNumbers(shown.map(({ image }) => image()));
    else numbers.replaceChildren();
  }
  function showNumbers(images) {
    const name = heads.find(([head]) => head === model.get("head"))[1];
    images.forEach((image, i) => {
      const values = Array.from(current(image).subarray(prefix), (value) => (100 * value).toFixed(exact ? 2 : 1));
      const lines = Array.from({ length: rows }, (_, y) => values.slice(y * columns, (y + 1) * columns));
      const from = `${B > 1 ? `${title(image)}: ` : ""}attention from ${place(query)}`;
      const made = table(
        `${from} to each patch, layer ${model.get("layer") + 1}, ${name}, in per cent`,
        Array.from({ length: columns }, (_, x) => String(x + 1)),
        Array.from({ length: rows }, (_, y) => String(y + 1)),
        lines,
      );
      if (!numbers.children[i]) return numbers.append(made);
      numbers.children[i].setAttribute("aria-label", made.getAttribute("aria-label"));
      numbers.children[i].replaceChildren(...made.children); // the box keeps its place and focus
    });
    while (numbers.children.length > images.length) numbers.lastChild.remove();
  }

  watch(model, ["layer", "head", "left", "right", "numbers"], redraw);
  model.on("change:query", () => {
    query = Math.min(Math.max(0, model.get("query")), N - 1);
    redraw();
  });
  redraw();
  return view.close;
}

export default { render };
