import {
  arrow, choice, diverging, drawHeat, element, floats, frame, onPlainKey, outline, pointer, slider, stage, table,
  toggle, viridis, watch,
} from "./draw.js";

const SCALE = 34; // under each picture: the colour scale, or what is to be said about it
const MAPS = 12; // at most so many small maps in a row
const GAP = 3; // between them

// The middle axis of `values` (outer, n, inner), resampled by `matrix` (m, n): (outer, m, inner).
function resample(values, outer, matrix, n, inner) {
  const m = matrix.length / n;
  const result = new Float32Array(outer * m * inner);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < m; i++) {
      const to = (o * m + i) * inner;
      for (let j = 0; j < n; j++) {
        const weight = matrix[i * n + j];
        const from = (o * n + j) * inner;
        if (weight) for (let k = 0; k < inner; k++) result[to + k] += weight * values[from + k];
      }
    }
  }
  return result;
}

// The cosine similarity of each place to each, (N, N), for a kind of positions and a grid; each kind's last is kept.
function readPositions(model) {
  const [R, C] = model.get("trained");
  const grids = new Map();
  const matrices = floats(model.get("matrices"));
  let used = 0;
  for (const [rows, columns] of model.get("grids")) {
    const down = matrices.subarray(used, (used += rows * R));
    const across = matrices.subarray(used, (used += columns * C));
    grids.set(rows, { columns, down, across });
  }
  const vectors = floats(model.get("vectors"));
  const K = vectors.length / (R * C);
  const wave = floats(model.get("wave"));

  const make = {
    none: (rows, columns) => new Float32Array((rows * columns) ** 2).fill(1),
    // Half of the numbers tell the row, half the column, all of the same length: the mean of both similarities.
    sinusoidal: (rows, columns) => {
      const N = rows * columns;
      return Float32Array.from({ length: N * N }, (_, i) => {
        const [a, b] = [Math.floor(i / N), i % N];
        const down = Math.abs(Math.floor(a / columns) - Math.floor(b / columns));
        return (wave[down] + wave[Math.abs((a % columns) - (b % columns))]) / 2;
      });
    },
    learned: (rows, columns) => {
      const { down, across } = grids.get(rows);
      const places = resample(resample(vectors, 1, down, R, C * K), rows, across, C, K);
      const N = rows * columns;
      const result = new Float32Array(N * N);
      for (let a = 0; a < N; a++) {
        let square = 0;
        for (let k = a * K; k < (a + 1) * K; k++) square += places[k] ** 2;
        const length = Math.max(Math.sqrt(square), 1e-12);
        for (let k = a * K; k < (a + 1) * K; k++) places[k] /= length;
        for (let b = 0; b <= a; b++) {
          let sum = 0;
          for (let k = 0; k < K; k++) sum += places[a * K + k] * places[b * K + k];
          result[a * N + b] = result[b * N + a] = sum;
        }
      }
      return result;
    },
  };
  const kept = {};
  function similarities(kind, rows) {
    if (kept[kind]?.rows !== rows) {
      const values = make[kind](rows, grids.get(rows).columns);
      kept[kind] = { rows, values, lowest: values.reduce((a, b) => Math.min(a, b)) };
    }
    return kept[kind];
  }
  return { R, C, columnsOf: (rows) => grids.get(rows).columns, sides: [...grids.keys()], similarities };
}

const number = (value) => value.toFixed(3).replace("-0.000", "0.000");

function render({ model, el }) {
  const { R, C, columnsOf, sides, similarities } = readPositions(model);
  const view = frame(el, {
    name: "positions",
    title: "Position explorer",
    hint: "Point at a place: which places have a vector like its own? Click to hold it, then point at a second one.",
  });
  const kinds = model.get("kinds");
  choice(view, model, "kind", "Positions", [...kinds.map((kind) => [kind, kind]), ["all", "side by side"]]);
  choice(view, model, "stretched", "Colours", [[false, "from -1 to 1"], [true, "from the lowest to 1"]]);
  toggle(view, model, "numbers", "Numbers");
  slider(view, model, "rows", "Grid", sides, (rows) => `${rows} x ${columnsOf(rows)}`);

  let rows = model.get("rows");
  let columns = columnsOf(rows);
  let chosen = model.get("place"); // what the trait held last
  let place = chosen; // follows the pointer
  let other = null; // what the pointer or the keys ask about while the place is held
  let held = false;
  const shown = () => (model.get("kind") === "all" ? kinds : [model.get("kind")]);
  const name = (p) => `row ${Math.floor(p / columns) + 1}, column ${(p % columns) + 1}`;
  const row = (kind, p) => {
    const N = rows * columns;
    return similarities(kind, rows).values.subarray(p * N, (p + 1) * N);
  };

  // ---------------------------------------------------------------- drawing

  // Which colours, and the similarity at their lower end.
  function colouring(kind) {
    const stretched = model.get("stretched") && kind !== "none";
    const low = stretched ? Math.min(similarities(kind, rows).lowest, 0.999) : -1;
    return { map: stretched ? viridis : diverging, low, shade: (value) => (value - low) / (1 - low) };
  }

  function drawMain(kind, context, width, height, colours) {
    const { map, low, shade } = colouring(kind);
    const [w, h] = [width / columns, (height - SCALE) / rows];
    const box = (p) => [(p % columns) * w, Math.floor(p / columns) * h, w, h];
    drawHeat(context, row(kind, place).map(shade), columns, [0, 0, width, height - SCALE], () => 1, map);
    context.strokeStyle = colours.surface; // thin lines, so that a place can be seen where all are alike
    context.lineWidth = 1;
    context.globalAlpha = 0.45;
    context.beginPath();
    for (let x = 1; x < columns; x++) {
      context.moveTo(x * w, 0);
      context.lineTo(x * w, height - SCALE);
    }
    for (let y = 1; y < rows; y++) {
      context.moveTo(0, y * h);
      context.lineTo(width, y * h);
    }
    context.stroke();
    context.globalAlpha = 1;
    outline(context, box(place), "#56b4e9", 2.5);
    if (other !== null) outline(context, box(other), "#fff", 2);

    const top = height - SCALE + 8;
    drawHeat(context, Float32Array.from({ length: 256 }, (_, i) => i / 255), 256, [0, top, width, 8], () => 1, map);
    context.fillStyle = colours.muted;
    context.font = `11.5px ${colours.font}`;
    context.textBaseline = "top";
    const labels = low === -1 ? [[-1, "-1 opposite"], [0, "0"]] : [[low, `${number(low)} lowest`]];
    for (const [value, text] of [...labels, [1, "1 same direction"]]) {
      context.textAlign = value === low ? "left" : value === 1 ? "right" : "center";
      context.fillText(text, shade(value) * width, top + 12);
    }
    context.textAlign = "left";
  }

  const step = () => Math.ceil(Math.max(rows, columns) / MAPS); // between the places that have a small map
  function tiling(width) {
    const [down, across] = [Math.ceil(rows / step()), Math.ceil(columns / step())];
    const tile = (width - GAP * (across - 1)) / across;
    return { down, across, w: tile, h: (tile * rows) / columns };
  }
  function tilesHeight(width) {
    const { down, h } = tiling(width);
    return down * (h + GAP) - GAP + SCALE;
  }

  // All small maps, one pixel a place, drawn anew only when they change.
  function atlas(kind, store) {
    const key = [kind, rows, model.get("stretched")].join();
    if (store.key === key) return store.canvas;
    const { down, across } = tiling(0);
    const { map, shade } = colouring(kind);
    Object.assign(store.canvas, { width: across * columns, height: down * rows });
    const context = store.canvas.getContext("2d");
    for (let i = 0; i < down * across; i++) {
      const [y, x] = [Math.floor(i / across), i % across];
      const values = row(kind, step() * (y * columns + x)).map(shade);
      drawHeat(context, values, columns, [x * columns, y * rows, columns, rows], () => 1, map);
    }
    store.key = key;
    return store.canvas;
  }
  function drawTiles(kind, store, context, width, height, colours) {
    const { down, across, w, h } = tiling(width);
    const maps = atlas(kind, store);
    const box = (y, x) => [x * (w + GAP), y * (h + GAP), w, h];
    context.imageSmoothingEnabled = w < columns;
    for (let y = 0; y < down; y++) {
      for (let x = 0; x < across; x++) context.drawImage(maps, x * columns, y * rows, columns, rows, ...box(y, x));
    }
    const [y, x] = [Math.floor(Math.floor(place / columns) / step()), Math.floor((place % columns) / step())];
    outline(context, box(y, x), "#56b4e9", 2.5);
    context.fillStyle = colours.muted;
    context.font = `11.5px ${colours.font}`;
    context.textBaseline = "top";
    const which = step() === 1 ? "All maps" : `Maps of places ${step()} apart`;
    context.fillText(`${which}, each where its place lies. Click one.`, 0, height - SCALE + 8);
  }

  // ---------------------------------------------------------------- what the pointer and the keys do

  function placeAt(event, canvas) {
    const [x, y] = pointer(event, canvas);
    const [down, across] = [y * canvas.clientHeight, Math.floor(x * columns)];
    const at = Math.floor((down / (canvas.clientHeight - SCALE)) * rows);
    return at >= 0 && at < rows && across >= 0 && across < columns ? at * columns + across : null;
  }
  function point(p) {
    if (p === null || p === (held ? other : place)) return;
    if (held) other = p;
    else place = p;
    redraw();
  }
  function choose(p) {
    [place, chosen] = [p, p];
    model.set("place", p);
    model.save_changes();
  }
  function hold(p) {
    [held, other] = [p !== null, null];
    choose(p ?? place);
    redraw();
  }
  function onKey(event) {
    const move = arrow(event);
    const from = held && other !== null ? other : place;
    if (move) {
      const [y, x] = [Math.floor(from / columns) + move[0], (from % columns) + move[1]];
      if (y >= 0 && y < rows && x >= 0 && x < columns) point(y * columns + x);
    } else if (event.key === "Home") point(0);
    else if (event.key === "End") point(rows * columns - 1);
    else if (event.key === "Enter" || event.key === " ") hold(held ? null : place);
    else if (event.key === "Escape" && held) hold(null);
    else return;
    event.preventDefault();
    if (!held && place !== chosen) choose(place);
  }

  const panels = kinds.map((kind) => {
    const panel = element("div", { className: "vit-view" });
    const caption = element("div", { className: "vit-caption" });
    const [left, right] = [element("div", { className: "vit-main" }), element("div", { className: "vit-main" })];
    panel.append(caption, left, right);
    view.body.append(panel);
    const main = stage(view, left, {
      label:
        `Places of the grid, ${kind} positions. Arrow keys choose a place, Home the first, End the last; ` +
        "Enter holds it, Escape lets go.",
      role: "application",
      focusable: true,
      height: (width) => (width * rows) / columns + SCALE,
      draw: (context, width, height, colours) => drawMain(kind, context, width, height, colours),
    });
    const store = { key: "", canvas: element("canvas") };
    const tiles = stage(view, right, {
      label:
        `The same map for every place, ${kind} positions; a click chooses a place, ` +
        "as the arrow keys do in the large map.",
      height: tilesHeight,
      draw: (context, width, height, colours) => drawTiles(kind, store, context, width, height, colours),
    });
    tiles.canvas.style.cursor = "pointer";
    main.canvas.addEventListener("pointermove", (event) => point(placeAt(event, main.canvas)));
    main.canvas.addEventListener("pointerleave", () => other !== null && ((other = null), redraw()));
    main.canvas.addEventListener("click", (event) => {
      const p = placeAt(event, main.canvas);
      if (p !== null) hold(held && p === place ? null : p);
    });
    onPlainKey(main.canvas, onKey);
    tiles.canvas.addEventListener("click", (event) => {
      const { down, across, w, h } = tiling(tiles.canvas.clientWidth);
      const [x, y] = pointer(event, tiles.canvas);
      const at = [Math.floor((y * tiles.canvas.clientHeight) / (h + GAP)), Math.floor(x * across)];
      if (at[0] < down && at[1] < across) hold(step() * (at[0] * columns + at[1]));
    });
    return { kind, panel, caption, redraw: () => [main.redraw(), tiles.redraw()] };
  });
  const numbers = element("div", { className: "vit-numbers" });
  view.root.append(numbers);

  // ---------------------------------------------------------------- the whole

  function redraw() {
    const now = shown();
    view.body.classList.toggle("vit-two", now.length > 1);
    for (const { kind, panel, caption, redraw } of panels) {
      panel.hidden = !now.includes(kind);
      if (panel.hidden) continue;
      const detail = {
        learned: rows === R && columns === C ? "as trained" : `interpolated from ${R} x ${C}`,
        sinusoidal: `computed for ${rows} x ${columns}`,
        none: "every place has the same vector",
      };
      caption.textContent = `${kind[0].toUpperCase()}${kind.slice(1)}: ${detail[kind]}`;
      redraw();
    }
    const facts = [`Place: ${name(place)}${held ? " (held)" : ""}.`];
    const values = now.map((kind) => row(kind, place));
    if (other !== null) {
      const each = values.map((v, i) => `${now.length > 1 ? `${now[i]} ` : ""}${number(v[other])}`);
      facts.push(`Similarity to ${name(other)}: ${each.join(", ")}.`);
    } else if (now.length > 1) {
      const each = values.map((v, i) => `${now[i]} ${number(v.reduce((a, b) => Math.min(a, b)))}`);
      facts.push(`Lowest similarity: ${each.join(", ")}.`);
    } else if (now[0] === "none" || values[0].length < 2) facts.push("It cannot be told from any other: all similarities are 1.");
    else {
      const [v] = values;
      let best = place ? 0 : 1;
      let worst = 0;
      for (let p = 0; p < v.length; p++) {
        if (p !== place && v[p] > v[best]) best = p;
        if (v[p] < v[worst]) worst = p;
      }
      facts.push(`Most like it: ${name(best)}, ${number(v[best])}.`, `Least: ${name(worst)}, ${number(v[worst])}.`);
    }
    view.say(facts.join(" "));
    if (model.get("numbers")) showNumbers(now);
    else numbers.replaceChildren();
  }
  function showNumbers(now) {
    now.forEach((kind, i) => {
      const values = Array.from(row(kind, place), number);
      const made = table(
        `Cosine similarity of ${name(place)} to each place, ${kind} positions`,
        Array.from({ length: columns }, (_, x) => String(x + 1)),
        Array.from({ length: rows }, (_, y) => String(y + 1)),
        Array.from({ length: rows }, (_, y) => values.slice(y * columns, (y + 1) * columns)),
      );
      if (!numbers.children[i]) return numbers.append(made);
      numbers.children[i].setAttribute("aria-label", made.getAttribute("aria-label"));
      numbers.children[i].replaceChildren(...made.children); // the box keeps its place and focus
    });
    while (numbers.children.length > now.length) numbers.lastChild.remove();
  }

  // Another grid: the chosen place stays where it is in the image, unless Python has chosen another at the same time.
  model.on("change:rows", () => {
    const at = [(Math.floor(place / columns) + 0.5) / rows, ((place % columns) + 0.5) / columns];
    rows = model.get("rows");
    columns = columnsOf(rows);
    other = null;
    place = Math.floor(at[0] * rows) * columns + Math.floor(at[1] * columns);
    if (model.get("place") === chosen) model.set("place", place);
    [place, chosen] = [model.get("place"), model.get("place")];
    redraw();
  });
  model.on("change:place", () => {
    if (model.get("rows") !== rows) return; // change:rows follows
    chosen = place = Math.min(model.get("place"), rows * columns - 1);
    redraw();
  });
  watch(model, ["kind", "stretched", "numbers"], redraw);
  redraw();
  return view.close;
}

export default { render };
