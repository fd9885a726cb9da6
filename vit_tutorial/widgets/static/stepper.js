import {
  arrow, button, bytes, colour, drawHeat, element, floats, frame, inkOn, onPlainKey, outline, picture, pointer, stage,
  table, toggle, veil, viridis, watch,
} from "./draw.js";

const STRIP = 28; // the class token's place, above the image
const [TOP, PROFILE, LEGEND, GAP] = [18, 84, 24, 8]; // above, under and between what is drawn at the right
const FIRST = 16; // numbers of a token in the table
const [UNIT, NAME, ROAD, ROW] = [7, 16, 40, 66]; // the rail: least width of a stage; heights of its parts

// The stages with their values, from the bytes; what follows from them is computed here as torch computes it.
function readStages(model, pixels) {
  const data = floats(model.get("data"));
  const stages = model.get("stages").map((s) => ({ ...s }));
  for (const s of stages) {
    const size = s.rows * s.columns;
    if (s.kind === "sum") {
      const update = stages[stages.indexOf(s) - 1].values;
      s.values = stages[s.before].values.map((value, i) => value + update[i]); // Float32Array: rounded as in torch
    } else if (s.kind === "image") s.values = normalised(pixels, model.get("mean"), model.get("std"));
    else if (s.rows) s.values = data.subarray(s.at, s.at + size);
    if (s.rows) s.statistics = data.subarray(s.facts, s.facts + 3 * s.rows); // mean, std, length of each row
    const [low, high] = s.scale;
    s.heat = s.values?.map((value) => (value - low) / (high - low));
  }
  return stages;
}

function normalised(pixels, mean, std) {
  const [values, area] = [new Float32Array(pixels.length), pixels.length / 3];
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < area; i++) {
      const centred = Math.fround(Math.fround(pixels[3 * i + channel] / 255) - mean[channel]);
      values[channel * area + i] = centred / std[channel];
    }
  }
  return values;
}

// (L, H, N, N) as float32. Where two weights share a byte, the square root of each has 4 bits.
function readWeights(model) {
  const [L, H, N] = model.get("shape");
  const scales = floats(model.get("scales"));
  if (!scales.length) return floats(model.get("weights"));
  const [codes, half] = [bytes(model.get("weights")), Math.ceil(N / 2)];
  const weights = new Float32Array(L * H * N * N);
  for (let row = 0; row < L * H * N; row++) {
    for (let k = 0; k < N; k++) {
      const pair = codes[row * half + (k >> 1)];
      const code = k % 2 ? pair & 15 : pair >> 4;
      weights[row * N + k] = (code / 15) ** 2 * scales[row];
    }
  }
  return weights;
}

function render({ model, el }) {
  const [L, H, N] = model.get("shape");
  const [rows, columns] = model.get("grid");
  const prefix = N - rows * columns; // 1 with a class token, else 0
  const [Y, X] = model.get("size");
  const pixels = bytes(model.get("pixels"));
  const [image, stages, weights] = [picture(pixels, Y, X), readStages(model, pixels), readWeights(model)];
  const exact = !model.get("scales").byteLength && !model.get("scales").length;
  const classes = model.get("classes");
  const logits = stages[stages.length - 2].values;
  const best = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]).slice(0, 10);

  const view = frame(el, {
    name: "stepper",
    title: "Encoder stepper",
    hint: "Press → and watch the image become an answer. Point at a patch or a token to follow it; click to choose it.",
  });
  const previous = button(view, "← Previous", () => go(at() - 1));
  const next = button(view, "Next →", () => go(at() + 1));
  const groupName = (block) => (block < 0 ? "embedding" : block === L ? "answer" : `block ${block + 1}`);
  const chooser = element("select");
  for (let block = -1; block <= L; block++) {
    chooser.append(element("option", { value: String(block) }, groupName(block)));
  }
  chooser.addEventListener("change", () => goToBlock(Number(chooser.value)));
  view.controls.append(element("label", { className: "vit-control" }, element("span", {}, "Part"), chooser));
  toggle(view, model, "numbers", "Numbers");

  let over = null; // the token under the pointer; the trait holds the chosen one
  let column = null; // the number under the pointer or the keys
  let key = null; // the token asked about in the attention weights: [head, token]
  let bar = 0; // the class asked about
  const at = () => Math.min(Math.max(0, model.get("stage")), stages.length - 1);
  const chosen = () => over ?? Math.min(Math.max(0, model.get("token")), N - 1);
  const place = (token) => {
    if (token < prefix) return "class token";
    return `row ${Math.floor((token - prefix) / columns) + 1}, column ${((token - prefix) % columns) + 1}`;
  };
  const capital = (string) => string[0].toUpperCase() + string.slice(1);
  const the = (token) => (token < prefix ? "the class token" : place(token));
  const fixed = (value, digits = 4) => value.toFixed(digits).replace(/^-(0\.0+)$/, "$1").replace("-", "−");
  const short = (value) => fixed(value, Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2);
  const percent = (value) => (exact ? `${fixed(100 * value, 2)} %` : `about ${fixed(100 * value, 1)} %`);

  // The chosen token's row in a stage, or null where the class token is not there yet.
  function rowOf(s) {
    if (!s.rows || s.kind === "bars") return null;
    if (s.rows === 1) return 0;
    const row = chosen() - (N - s.rows);
    return row < 0 ? null : row;
  }
  const rowName = (s, row) => (s.rows === 1 ? whole : place(row + N - s.rows));
  const whole = prefix ? "class token" : "mean of the tokens"; // what the head reads
  // How far the sum moved the token, as a share of its length; null in other stages.
  function moved(s, row) {
    if (s.kind !== "sum" || row === null) return null;
    const length = (stage) => stage.statistics[3 * row + 2];
    return length(stages[stages.indexOf(s) - 1]) / Math.max(length(stages[s.before]), 1e-12);
  }

  const shares = (s) => Float32Array.from({ length: rows * columns }, (_, i) => moved(s, i + s.rows - rows * columns));

  function go(to) {
    if (to < 0 || to >= stages.length || to === at()) return;
    model.set("stage", to);
    model.save_changes();
  }
  // To the same stage of another block, or to the first of the embedding or the answer.
  function goToBlock(block) {
    if (block < -1 || block > L) return;
    const from = stages[at()];
    const inside = from.block >= 0 && from.block < L && block >= 0 && block < L;
    go(stages.findIndex((s) => s.block === block && (!inside || s.name === from.name)));
  }
  function choose(token) {
    over = null;
    model.set("token", token);
    model.save_changes();
    redraw();
  }

  // ---------------------------------------------------------------- the rail: a road, and detours that come back

  let railOver = null;
  const groups = Array.from({ length: L + 2 }, (_, i) => stages.filter((s) => s.block === i - 1).length);
  function railPlaces(width) {
    const lines = Math.ceil((stages.length * UNIT) / width);
    const most = Math.ceil(stages.length / lines) + (lines > 1 ? 4 : 0);
    const places = [];
    let [line, used] = [0, 0];
    groups.forEach((count) => {
      if (used && used + count > most) [line, used] = [line + 1, 0];
      for (let i = 0; i < count; i++) places.push([used + i + 0.5, line]);
      used += count;
    });
    const unit = width / Math.max(...places.map(([x]) => x + 0.5));
    return { unit, lines: line + 1, places: places.map(([x, l]) => [x * unit, l]) };
  }
  // On a detour are the positions and all of a block but its sums.
  const branch = stages.map((s) => s.name === "positions" || (s.block >= 0 && s.block < L && s.kind !== "sum"));

  function drawRail(context, width, height, colours) {
    const { unit, places } = railPlaces(width);
    const here = at();
    const spot = (i) => [places[i][0], places[i][1] * ROW + ROAD - (branch[i] ? 14 : 0)];
    const level = (i) => places[i][1] * ROW + ROAD;
    context.lineJoin = "round";
    // Bottom to top: the part we are in, roads, stages, names.
    let first = 0;
    groups.forEach((count, group) => {
      const [x, y] = [places[first][0] - unit / 2, places[first][1] * ROW];
      const current = stages[here].block === group - 1;
      if (current) {
        context.globalAlpha = 0.12;
        context.fillStyle = colours.accent;
        context.beginPath();
        context.roundRect(x + 1, y + NAME, count * unit - 2, ROW - NAME, 5);
        context.fill();
        context.globalAlpha = 1;
      }
      const [name, wide] = [groupName(group - 1), count * unit - 4];
      context.font = `${current ? "600 " : ""}11.5px ${colours.font}`;
      context.fillStyle = current ? colours.ink : colours.muted;
      context.textAlign = "center";
      context.textBaseline = "alphabetic";
      const fits = [name, name.replace("block ", "")].find((text) => context.measureText(text).width <= wide);
      if (fits) context.fillText(fits, x + (count * unit) / 2, y + ROW - 6);
      first += count;
    });
    for (let i = 1; i < stages.length; i++) {
      if (places[i][1] !== places[i - 1][1]) continue;
      const done = i <= here;
      context.strokeStyle = done ? colours.accent : colours.line;
      context.lineWidth = 2;
      context.beginPath();
      if (branch[i] || branch[i - 1]) {
        context.moveTo(...spot(i - 1));
        context.lineTo(...spot(i));
      }
      if (!branch[i]) {
        let from = i - 1;
        while (branch[from]) from--;
        if (places[from][1] === places[i][1]) {
          context.moveTo(places[from][0], level(from));
          context.lineTo(places[i][0], level(i));
        }
      }
      context.stroke();
    }
    const radius = Math.min(4.5, unit / 2 - 0.5);
    stages.forEach((s, i) => {
      context.beginPath();
      context.arc(...spot(i), i === here ? radius + 2 : radius, 0, 2 * Math.PI);
      const passed = i === here ? colours.mark : i < here ? colours.accent : null;
      context.fillStyle = passed ?? colours.surface;
      context.fill();
      context.strokeStyle = i === railOver ? colours.ink : passed ?? colours.muted;
      context.lineWidth = i === railOver ? 2 : 1.25;
      context.stroke();
    });
    const named = railOver ?? here;
    context.font = `12px ${colours.font}`;
    context.fillStyle = named === here ? colours.ink : colours.muted;
    const half = context.measureText(stages[named].name).width / 2 + 2;
    const x = Math.min(Math.max(places[named][0], half), width - half);
    context.fillText(stages[named].name, x, places[named][1] * ROW + NAME - 4);
    context.textAlign = "left";
  }

  const railBox = element("div", { className: "vit-rail" });
  view.root.insertBefore(railBox, view.body);
  const rail = stage(view, railBox, {
    label: "Stage. Left and right arrow keys step, Page Up and Page Down go to the same stage of another block.",
    role: "slider",
    focusable: true,
    height: (width) => railPlaces(width).lines * ROW,
    draw: drawRail,
  });
  rail.canvas.setAttribute("aria-valuemin", "1");
  rail.canvas.setAttribute("aria-valuemax", String(stages.length));
  function railAt(event) {
    const [x, y] = pointer(event, rail.canvas);
    const { places, lines } = railPlaces(rail.canvas.clientWidth);
    const line = Math.min(lines - 1, Math.max(0, Math.floor(y * lines)));
    let nearest = null;
    places.forEach(([px, l], i) => {
      const distance = Math.abs(px - x * rail.canvas.clientWidth);
      if (l === line && (nearest === null || distance < nearest[1])) nearest = [i, distance];
    });
    const low = (y * lines - line) * ROW > ROW - 20; // the part's name, not a stage
    return low ? { block: stages[nearest[0]].block } : { stage: nearest[0] };
  }
  rail.canvas.addEventListener("pointermove", (event) => {
    const found = railAt(event).stage ?? null;
    if (found === railOver) return;
    railOver = found;
    rail.redraw();
  });
  rail.canvas.addEventListener("pointerleave", () => ((railOver = null), rail.redraw()));
  rail.canvas.addEventListener("click", (event) => {
    const found = railAt(event);
    if (found.stage !== undefined) go(found.stage);
    else goToBlock(found.block);
  });
  onPlainKey(view.root, (event) => {
    const own = [main.canvas, small.canvas].includes(event.target);
    if (event.target.closest("select, input, .vit-table")) return;
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    if (event.key === "PageDown") goToBlock(stages[at()].block + 1);
    else if (event.key === "PageUp") goToBlock(stages[at()].block - 1);
    else if (own) return;
    else if (event.key in steps) go(at() + steps[event.key]);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(stages.length - 1);
    else return;
    event.preventDefault();
  });

  // ---------------------------------------------------------------- what the stage is

  const heading = element("div", { className: "vit-step" });
  const [title, text] = [element("div", { className: "vit-step-title" }), element("p", { className: "vit-step-text" })];
  const [code, shape] = [element("code", {}), element("span", { className: "vit-step-shape" })];
  heading.append(title, text, element("div", { className: "vit-step-code" }, code, shape));
  view.root.insertBefore(heading, view.body);

  // ---------------------------------------------------------------- the image, and the facts beside it

  const aside = element("div", { className: "vit-aside" });
  const imageBox = element("div", { className: "vit-aside-image" });
  const caption = element("div", { className: "vit-caption" });
  const facts = element("dl", { className: "vit-stats" });
  const fact = Object.fromEntries(
    ["token", "mean", "std", "length", "moved", "number"].map((name) => {
      const [term, value] = [element("dt", {}, name), element("dd", { className: `vit-fact-${name}` })];
      facts.append(term, value);
      return [name, { term, value }];
    }),
  );
  imageBox.append(caption);
  aside.append(imageBox, facts);
  const mainBox = element("div", { className: "vit-matrix" });
  view.body.append(aside, mainBox);

  const patchBox = (token, [x, y, width, height]) => {
    const [row, col] = [Math.floor((token - prefix) / columns), (token - prefix) % columns];
    return [x + (col * width) / columns, y + (row * height) / rows, width / columns, height / rows];
  };
  function drawSmall(context, width, height, colours) {
    const [s, top] = [stages[at()], prefix ? STRIP : 0];
    const area = [0, top, width, height - top];
    context.imageSmoothingEnabled = X > 64; // small images keep their pixels
    context.drawImage(image, ...area);
    if (s.kind === "sum") {
      const most = Math.max(...shares(s), 1e-12);
      drawHeat(context, shares(s).map((share) => share / most), columns, area, veil);
    } else {
      context.strokeStyle = "rgba(255, 255, 255, 0.3)";
      context.lineWidth = 1;
      context.beginPath();
      for (let x = 1; x < columns; x++) context.rect((x * width) / columns, top, 0, height - top);
      for (let y = 1; y < rows; y++) context.rect(0, top + (y * (height - top)) / rows, width, 0);
      context.stroke();
    }
    const token = s.kind === "bars" || s.rows === 1 ? 0 : chosen();
    if (prefix) {
      const there = stages.findIndex((stage) => stage.name === "class token") <= at();
      context.font = `12px ${colours.font}`;
      context.textBaseline = "middle";
      context.fillStyle = there ? colours.ink : colours.muted;
      context.setLineDash(there ? [] : [3, 3]);
      context.strokeStyle = colours.muted;
      context.lineWidth = 1;
      context.strokeRect(3.5, 4.5, 17, 17);
      context.setLineDash([]);
      context.fillText(there ? "class token" : "class token: later", 29, 14);
      if (token === 0) outline(context, [2, 3, 20, 20], colours.mark);
    }
    if (token >= prefix && s.kind !== "bars" && s.rows !== 1) outline(context, patchBox(token, area), colours.mark);
    if (key && s.kind === "attention" && key[1] >= prefix) outline(context, patchBox(key[1], area), "#fff", 1.5);
  }
  const small = stage(view, imageBox, {
    label: "The image. Arrow keys choose a patch, Home the class token.",
    role: "application",
    focusable: true,
    height: (width) => (width * Y) / X + (prefix ? STRIP : 0),
    draw: drawSmall,
  });
  function tokenOnImage(event) {
    const [x, y] = pointer(event, small.canvas);
    const [top, high] = [prefix ? STRIP : 0, small.canvas.clientHeight];
    const down = y * high - top;
    if (down < 0) return 0;
    const [row, col] = [Math.floor((down / (high - top)) * rows), Math.floor(x * columns)];
    return row < rows && col >= 0 && col < columns ? prefix + row * columns + col : null;
  }
  function moveOnGrid(token, step) {
    const [row, col] = token < prefix ? [-1, 0] : [Math.floor((token - prefix) / columns), (token - prefix) % columns];
    const [y, x] = [row + step[0], token < prefix && step[0] > 0 ? 0 : col + step[1]];
    if (prefix && y < 0 && step[0]) return 0;
    return y >= 0 && y < rows && x >= 0 && x < columns ? prefix + y * columns + x : token;
  }
  const preview = (token) => {
    if (token === over) return;
    over = token;
    redraw();
  };
  small.canvas.addEventListener("pointermove", (event) => preview(tokenOnImage(event)));
  small.canvas.addEventListener("pointerleave", () => preview(null));
  small.canvas.addEventListener("click", (event) => tokenOnImage(event) !== null && choose(tokenOnImage(event)));
  onPlainKey(small.canvas, (event) => {
    const step = arrow(event);
    if (step) choose(moveOnGrid(chosen(), step));
    else if (event.key === "Home") choose(0);
    else if (event.key === "End") choose(N - 1);
    else return;
    event.preventDefault();
  });

  // ---------------------------------------------------------------- the stage's values

  // Where things are, in CSS pixels: the matrix, the chosen row's profile under it.
  function matrixPlaces(s, width, height) {
    const most = height - TOP - PROFILE - LEGEND - 20;
    const high = s.rows < 8 ? Math.min(most, 40 * s.rows) : most;
    return { matrix: [0, TOP, width, high], profile: [0, TOP + high + 20, width, height - TOP - high - LEGEND - 28] };
  }
  const word = (context, colours, string, x, y, { ink = colours.muted, align = "left", bold = false } = {}) => {
    Object.assign(context, { textAlign: align, textBaseline: "middle", fillStyle: ink });
    context.font = `${bold ? "600 " : ""}11.5px ${colours.font}`;
    context.fillText(string, x, y);
    context.textAlign = "left";
  };
  function drawLegend(s, context, colours, note, width, y) {
    const [low, high] = s.kind === "attention" ? ["0", "100 %"] : s.scale.map(short);
    word(context, colours, low, 0, y);
    const from = Math.ceil(context.measureText(low).width) + 6;
    drawHeat(context, Float32Array.from({ length: 64 }, (_, i) => i / 63), 64, [from, y - 6, 110, 12]);
    word(context, colours, high, from + 116, y);
    const left = from + 116 + context.measureText(high).width + 14;
    if (left + context.measureText(note).width <= width) word(context, colours, note, left, y);
  }

  function drawMatrix(s, context, width, height, colours) {
    const { matrix, profile } = matrixPlaces(s, width, height);
    const [x, y, w, h] = matrix;
    const row = rowOf(s);
    const cut = s.columns < s.width ? `the first ${s.columns} of ${s.width} numbers` : `${s.width} numbers`;
    word(context, colours, s.rows === 1 ? `${whole}: ${cut} →` : `${s.rows} tokens ↓   ${cut} →`, 0, 8);
    drawHeat(context, s.heat, s.columns, matrix);
    const [down, across] = [h / s.rows, w / s.columns];
    if (row !== null && s.rows > 1) {
      const [from, to] = [Math.max(y, y + row * down - 2), Math.min(y + h, y + (row + 1) * down + 2)];
      outline(context, [x, from, w, to - from], colours.mark, 2);
    }
    if (row === null) {
      word(context, colours, "The class token is not there yet. Choose a patch, or go on.", 0, profile[1] - 8);
    } else {
      const values = s.values.subarray(row * s.columns, (row + 1) * s.columns);
      const before = s.kind === "sum" && stages[s.before].values.subarray(row * s.columns, (row + 1) * s.columns);
      const all = [0, ...values, ...(before || [])];
      const [low, high] = [Math.min(...all), Math.max(...all)];
      const line = (value) => profile[1] + profile[3] * ((high - value) / (high - low || 1));
      const range = w > 420 ? `: from ${short(Math.min(...values))} to ${short(Math.max(...values))}` : "";
      const note = rowName(s, row) + range;
      word(context, colours, note, 0, profile[1] - 10, { ink: colours.ink });
      if (before) {
        const start = context.measureText(note).width + 16;
        const legend = [["before", colours.muted], ["after", colours.mark]];
        legend.reduce((left, [name, ink]) => {
          context.fillStyle = ink;
          context.fillRect(left, profile[1] - 12, 10, 3);
          word(context, colours, name, left + 14, profile[1] - 10);
          return left + 28 + context.measureText(name).width;
        }, start);
      }
      if (column !== null) {
        context.fillStyle = colours.line;
        context.fillRect(column * across, y + h, across, profile[1] + profile[3] - y - h);
      }
      const thick = Math.max(1, across - (across > 3 ? 1 : 0));
      values.forEach((value, i) => {
        const left = i * across;
        const [one, other] = [line(before ? before[i] : 0), line(value)];
        context.fillStyle = before ? colours.accent : colour(viridis, s.heat[row * s.columns + i]);
        context.fillRect(left, Math.min(one, other), thick, Math.max(1, Math.abs(one - other)));
        if (!before) return;
        context.fillStyle = colours.muted;
        context.fillRect(left, one - 1, thick, 2);
        context.fillStyle = colours.mark;
        context.fillRect(left, other - 1, thick, 2);
      });
      context.fillStyle = colours.muted;
      context.fillRect(0, line(0) - 0.5, w, 1);
    }
    if (column !== null && row !== null) {
      outline(context, [column * across - 2, y + row * down - 2, across + 4, down + 4], "#fff", 1.5);
    }
    const beyond = 100 * s.beyond;
    const lost = beyond ? `; ${beyond < 0.1 ? "under 0.1" : fixed(beyond, 1)} % of the numbers lie beyond` : "";
    drawLegend(s, context, colours, `this stage's own scale${lost}`, width, height - 9);
  }

  function tilePlaces(count, width, height, ratio) {
    let found = null;
    for (let across = 1; across <= count; across++) {
      const down = Math.ceil(count / across);
      const wide = Math.min((width - GAP * (across - 1)) / across, ((height - GAP * (down - 1)) / down - TOP) / ratio);
      if (!found || wide > found.wide) found = { across, wide };
    }
    const { across, wide } = found;
    return Array.from({ length: count }, (_, i) => [
      (i % across) * (wide + GAP),
      Math.floor(i / across) * (wide * ratio + TOP + GAP) + TOP,
      wide,
      wide * ratio,
    ]);
  }

  // The image as the network reads it: three tables of numbers, and the chosen patch of each from near.
  function drawChannels(s, context, width, height, colours) {
    const [wide, area, token] = [(width - 2 * GAP) / 3, Y * X, chosen()];
    const high = Math.min((wide * Y) / X, (height - LEGEND - 2 * TOP - GAP) * 0.55);
    const side = Math.min(wide, height - LEGEND - 2 * TOP - GAP - high);
    const [py, px] = [Y / rows, X / columns];
    ["red", "green", "blue"].forEach((name, channel) => {
      const shown = Math.min(wide, (high * X) / Y);
      const x = channel * (wide + GAP);
      word(context, colours, name, x, 8, { bold: true, ink: colours.ink });
      const box = [x, TOP, shown, high];
      drawHeat(context, s.heat.subarray(channel * area, (channel + 1) * area), X, box);
      if (token < prefix) return;
      outline(context, patchBox(token, box), colours.mark, 2);
      const [row, col] = [Math.floor((token - prefix) / columns), (token - prefix) % columns];
      const near = new Float32Array(py * px).map((_, i) => {
        const from = (row * py + Math.floor(i / px)) * X + col * px + (i % px);
        return s.heat[channel * area + from];
      });
      const [top, cell] = [2 * TOP + GAP + high, side / Math.max(py, px)];
      word(context, colours, "its patch", x, top - 10);
      drawHeat(context, near, px, [x, top, px * cell, py * cell]);
      if (cell < 27) return;
      near.forEach((t, i) => {
        const value = s.scale[0] + t * (s.scale[1] - s.scale[0]);
        const spot = [x + ((i % px) + 0.5) * cell, top + (Math.floor(i / px) + 0.5) * cell];
        word(context, colours, fixed(value, 1), ...spot, { align: "center", ink: inkOn(viridis, t) });
      });
    });
    drawLegend(s, context, colours, "one scale for the three", width, height - 9);
  }

  // The chosen token's weights in a head, or with head H the mean of the heads.
  function rowAt(s, head) {
    const start = (h) => ((s.block * H + h) * N + chosen()) * N;
    if (head < H) return weights.subarray(start(head), start(head) + N);
    const sum = new Float32Array(N);
    for (let h = 0; h < H; h++) for (let k = 0; k < N; k++) sum[k] += weights[start(h) + k] / H;
    return sum;
  }
  const TILES = H > 1 ? H + 1 : 1;
  const headName = (head) => (head < H ? `head ${head + 1}` : "mean");
  function drawHeads(s, context, width, height, colours) {
    tilePlaces(TILES, width, height - LEGEND, Y / X).forEach((box, head) => {
      const values = rowAt(s, head);
      const most = values.reduce((a, b) => Math.max(a, b), 1e-12);
      const [x, y, wide] = box;
      context.imageSmoothingEnabled = X > 64;
      context.drawImage(image, ...box);
      drawHeat(context, values.subarray(prefix).map((value) => value / most), columns, box, veil);
      if (prefix) {
        context.fillStyle = colour(viridis, values[0] / most);
        context.fillRect(x, y - 15, 12, 12);
      }
      const [name, share] = [headName(head), `${fixed(100 * most, 0)} %`];
      const texts = wide > 130 ? [name, `up to ${share}`] : [name.replace("head ", ""), wide > 80 ? share : ""];
      word(context, colours, texts[0], x + (prefix ? 18 : 0), y - 9, { bold: true, ink: colours.ink });
      word(context, colours, texts[1], x + wide, y - 9, { align: "right" });
      if (chosen() >= prefix) outline(context, patchBox(chosen(), box), colours.mark, Math.min(2, wide / columns / 6));
      if (!key) return;
      if (key[1] >= prefix) outline(context, patchBox(key[1], box), "#fff", 1.5);
      else outline(context, [x - 1, y - 16, 14, 14], colours.ink, 1);
    });
    const note = `of a head's largest weight${prefix ? "; small square: to the class token" : ""}`;
    drawLegend(s, context, colours, note, width, height - 9);
  }

  function barPlaces(width, height) {
    const step = Math.min(40, (height - TOP) / best.length);
    return best.map((_, i) => [TOP + i * step, step]);
  }
  function drawBars(s, context, width, height, colours) {
    const values = best.map((i) => s.values[i]);
    const order = best.length < classes.length ? `the largest ${best.length} of ${classes.length}` : "largest first";
    word(context, colours, order, 0, 8);
    const [low, high] = [Math.min(0, ...values), Math.max(0, ...values)];
    const label = Math.min(130, width / 3);
    const [from, room] = [label + (low < 0 ? 60 : 8), width - label - (low < 0 ? 60 : 8) - 66];
    const across = (value) => from + (room * (value - low)) / (high - low || 1);
    const share = s.name === "probabilities";
    barPlaces(width, height).forEach(([y, step], i) => {
      const [x, value] = [across(Math.min(0, values[i])), values[i]];
      if (i === bar) {
        context.globalAlpha = 0.5;
        context.fillStyle = colours.line;
        context.fillRect(0, y, width, step);
        context.globalAlpha = 1;
      }
      context.fillStyle = i ? colours.accent : colours.mark;
      context.fillRect(x, y + step * 0.2, Math.max(1, across(Math.max(0, value)) - x), step * 0.6);
      let name = classes[best[i]];
      context.font = `11.5px ${colours.font}`;
      while (name.length > 1 && context.measureText(name).width > label - 4) name = `${name.slice(0, -2)}…`;
      word(context, colours, name, 0, y + step / 2, { ink: colours.ink, bold: i === 0 });
      const number = share ? `${fixed(100 * value, 1)} %` : fixed(value, 2);
      const negative = value < 0;
      word(context, colours, number, negative ? x - 5 : across(value) + 5, y + step / 2, {
        ink: colours.ink,
        align: negative ? "right" : "left",
      });
    });
    context.fillStyle = colours.muted;
    const [y, step] = barPlaces(width, height)[best.length - 1];
    context.fillRect(across(0) - 0.5, TOP, 1, y + step - TOP);
  }

  const main = stage(view, mainBox, {
    label: "Values of the stage",
    role: "application",
    focusable: true,
    height: (width) => (width < 420 ? 400 : 452),
    draw: (context, width, height, colours) => {
      const s = stages[at()];
      const drawn = { image: drawChannels, attention: drawHeads, bars: drawBars }[s.kind] ?? drawMatrix;
      drawn(s, context, width, height, colours);
    },
  });
  const inside = ([x, y, w, h], px, py) => px >= x && px < x + w && py >= y && py < y + h;
  function pointAt(event) {
    const s = stages[at()];
    const [width, height] = [main.canvas.clientWidth, main.canvas.clientHeight];
    const [fx, fy] = pointer(event, main.canvas);
    const [x, y] = [fx * width, fy * height];
    if (s.kind === "image") {
      const wide = (width - 2 * GAP) / 3;
      const high = Math.min((wide * Y) / X, (height - LEGEND - 2 * TOP - GAP) * 0.55);
      const left = x - Math.floor(x / (wide + GAP)) * (wide + GAP);
      const box = [0, TOP, Math.min(wide, (high * X) / Y), high];
      if (!inside(box, left, y)) return {};
      const token = prefix + Math.floor(((y - TOP) / high) * rows) * columns + Math.floor((left / box[2]) * columns);
      return { token };
    }
    if (s.kind === "attention") {
      const places = tilePlaces(TILES, width, height - LEGEND, Y / X);
      const head = places.findIndex(([bx, by, w, h]) => inside([bx, by - TOP, w, h + TOP], x, y));
      if (head < 0) return {};
      const [bx, by, w, h] = places[head];
      if (y < by) return prefix ? { key: [head, 0] } : {};
      const [row, col] = [Math.floor(((y - by) / h) * rows), Math.floor(((x - bx) / w) * columns)];
      return { key: [head, prefix + row * columns + col] };
    }
    if (s.kind === "bars") {
      const found = barPlaces(width, height).findIndex(([by, step]) => y >= by && y < by + step);
      return found < 0 ? {} : { bar: found };
    }
    const { matrix, profile } = matrixPlaces(s, width, height);
    const number = Math.min(s.columns - 1, Math.max(0, Math.floor(fx * s.columns)));
    if (inside(matrix, x, y)) {
      const row = Math.floor(((y - TOP) / matrix[3]) * s.rows);
      return { column: number, token: s.rows === 1 ? null : row + N - s.rows };
    }
    return inside(profile, x, y) ? { column: number } : {};
  }
  main.canvas.addEventListener("pointermove", (event) => {
    const found = pointAt(event);
    [over, column, key] = [found.token ?? null, found.column ?? null, found.key ?? null];
    bar = found.bar ?? bar;
    redraw();
  });
  main.canvas.addEventListener("pointerleave", () => {
    [over, column, key] = [null, null, null];
    redraw();
  });
  main.canvas.addEventListener("click", (event) => {
    const found = pointAt(event);
    if (found.key) choose(found.key[1]);
    else if (found.token !== undefined && found.token !== null) choose(found.token);
  });
  onPlainKey(main.canvas, (event) => {
    const [s, step] = [stages[at()], arrow(event)];
    if (event.key === "Escape") [column, key] = [null, null];
    else if (!step && event.key !== "Home") return;
    else if (s.kind === "image") choose(step ? moveOnGrid(chosen(), step) : 0);
    else if (s.kind === "bars") bar = step ? Math.min(best.length - 1, Math.max(0, bar + step[0] + step[1])) : 0;
    else if (s.kind === "attention") key = step ? nextKey(key, step) : [0, 0];
    else if (!step) column = 0;
    else if (step[1]) column = Math.min(s.columns - 1, Math.max(0, (column ?? -1) + step[1]));
    else if (s.rows > 1) choose(Math.min(N - 1, Math.max(N - s.rows, chosen() + step[0])));
    event.preventDefault();
    redraw();
  });
  // Keys walk through the patches of a head, and from its last column into the next head.
  function nextKey(from, step) {
    if (!from) return [0, chosen()];
    const token = moveOnGrid(from[1], step);
    if (token !== from[1] || !step[1]) return [from[0], token];
    const head = Math.min(TILES - 1, Math.max(0, from[0] + step[1]));
    return head === from[0] ? from : [head, from[1] < prefix ? 0 : token - step[1] * (columns - 1)];
  }

  // ---------------------------------------------------------------- numbers and words

  const numbers = element("div", { className: "vit-numbers" });
  view.root.append(numbers);
  function showNumbers(s, row) {
    const count = (n) => Array.from({ length: n }, (_, i) => String(i + 1));
    let made = null;
    if (s.kind === "bars") {
      const both = stages.slice(-2).map(({ values }) => best.map((i) => fixed(values[i])));
      made = table("The classes, largest first", best.map((i) => classes[i]), ["logit", "probability"], both);
    } else if (s.kind === "attention") {
      const names = [...["class token"].slice(0, prefix), ...count(Math.min(N - prefix, 64))];
      const heads = Array.from({ length: TILES }, (_, head) => head);
      const line = (head) => Array.from(rowAt(s, head).subarray(0, names.length), (v) => fixed(v, exact ? 4 : 2));
      const from = `Weights from ${the(chosen())} to ${prefix ? "the class token and " : ""}the patches by number`;
      made = table(`${from}${exact ? "" : ", about"}`, names, heads.map(headName), heads.map(line));
    } else if (s.kind === "image") {
      if (chosen() < prefix) return numbers.replaceChildren();
      const [py, px] = [Y / rows, X / columns];
      const [y, x] = [Math.floor((chosen() - prefix) / columns) * py, ((chosen() - prefix) % columns) * px];
      const lines = [0, 1, 2].map((channel) => {
        const from = (i) => (channel * Y + y + Math.floor(i / px)) * X + x + (i % px);
        return Array.from({ length: Math.min(FIRST, py * px) }, (_, i) => fixed(s.values[from(i)]));
      });
      const caption = `${place(chosen())}: the first pixels of the patch`;
      made = table(caption, count(lines[0].length), ["red", "green", "blue"], lines);
    } else {
      if (row === null) return numbers.replaceChildren();
      const [from, shownColumns] = [row * s.columns, Math.min(FIRST, s.columns)];
      const line = ({ values }) => Array.from(values.subarray(from, from + shownColumns), (v) => fixed(v));
      const shown = s.kind === "sum" ? [stages[s.before], stages[stages.indexOf(s) - 1], s] : [s];
      const names = s.kind === "sum" ? ["before", "update", "after"] : [rowName(s, row)];
      const caption = `${rowName(s, row)}: the first ${shownColumns} of its ${s.width} numbers`;
      made = table(caption, count(shownColumns), names, shown.map(line));
    }
    if (!numbers.firstChild) return numbers.append(made);
    numbers.firstChild.setAttribute("aria-label", made.getAttribute("aria-label"));
    numbers.firstChild.replaceChildren(...made.children); // the box keeps its place and focus
  }

  function showFacts(s, row) {
    const put = (name, value, term = name) => {
      fact[name].term.textContent = term;
      fact[name].value.textContent = value;
      for (const node of Object.values(fact[name])) node.style.visibility = value ? "visible" : "hidden";
    };
    const statistics = row === null ? null : s.statistics.subarray(3 * row, 3 * row + 3);
    const name = s.rows === 1 ? whole : place(chosen());
    put("token", s.kind === "bars" ? "" : name, s.kind === "image" ? "patch" : "token");
    const value = column !== null && row !== null && column < s.columns ? s.values[row * s.columns + column] : null;
    ["mean", "std", "length"].forEach((name, i) => put(name, statistics ? fixed(statistics[i], i === 2 ? 3 : 4) : ""));
    const share = moved(s, row);
    put("moved", share === null ? "" : `by ${fixed(share, 3)} × its length`);
    put("number", value === null ? "" : fixed(value), `no. ${(column ?? 0) + 1}`);
    return { value, share };
  }

  function describe(s, row, { value, share }) {
    const [name, token] = [the(chosen()), chosen()];
    if (s.kind === "bars") {
      const [logit, probability] = stages.slice(-2).map(({ values }) => values[best[bar]]);
      return `${classes[best[bar]]}: logit ${fixed(logit)}, probability ${fixed(100 * probability, 2)} %.`;
    }
    if (s.kind === "attention") {
      if (!key) return `Query: ${name}. Point at a patch to read its weight.`;
      const weight = rowAt(s, key[0])[key[1]];
      return `${capital(headName(key[0]))}: ${name} takes ${percent(weight)} from ${the(key[1])}.`;
    }
    if (s.kind === "image") return token < prefix ? "The class token has no pixels." : `Patch in ${name}.`;
    if (row === null) return "The class token is not there yet.";
    const what = rowName(s, row);
    if (value !== null) return `${capital(what)}, number ${column + 1} of ${s.width}: ${fixed(value)}.`;
    const length = fixed(s.statistics[3 * row + 2], 2);
    return `${capital(what)}: ${share === null ? `length ${length}` : `moved by ${fixed(share, 3)} × its length`}.`;
  }

  function redraw() {
    const s = stages[at()];
    if (column !== null && column >= (s.columns ?? 0)) column = null;
    const row = rowOf(s);
    rail.redraw();
    small.redraw();
    main.redraw();
    view.say(describe(s, row, showFacts(s, row)));
    if (model.get("numbers")) showNumbers(s, row);
    else numbers.replaceChildren();
  }
  function showStage() {
    const s = stages[at()];
    const part = s.block >= 0 && s.block < L ? `block ${s.block + 1} of ${L}, ${s.name}` : s.name;
    title.textContent = `${at() + 1} of ${stages.length} · ${part}`;
    text.textContent = s.text;
    code.textContent = s.code;
    shape.textContent = s.shape;
    chooser.value = String(s.block);
    for (const [node, end] of [[previous, at() === 0], [next, at() === stages.length - 1]]) {
      if (end && node === document.activeElement) rail.canvas.focus(); // so that the keys still work
      node.disabled = end;
    }
    rail.canvas.setAttribute("aria-valuenow", String(at() + 1));
    rail.canvas.setAttribute("aria-valuetext", `${part}: ${s.text}`);
    const most = s.kind === "sum" && fixed(Math.max(...shares(s)), 1);
    caption.textContent = most ? `Moved by up to ${most} ×` : "The image";
    const keys = {
      image: "Arrow keys choose a patch",
      attention: "Arrow keys choose a patch to ask about, Home the class token",
      bars: "Arrow keys choose a class",
    };
    const label = keys[s.kind] ?? "Up and down choose a token, left and right one of its numbers";
    main.canvas.setAttribute("aria-label", `${part}. ${label}; Page Up and Page Down change the block.`);
    [over, column, key] = [null, null, null];
    redraw();
  }
  watch(model, ["stage"], showStage);
  watch(model, ["token", "numbers"], redraw);
  showStage();
  return view.close;
}

export default { render };
