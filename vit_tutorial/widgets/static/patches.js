import {
  arrow, button, bytes, cividis, element, frame, onPlainKey, outline, picture, pointer, slider, stage, table,
  toggle, watch,
} from "./draw.js";

const CHANNELS = ["red", "green", "blue"];
const HEAD = 18; // above the matrix of the list: the channels' names
const FOOT = 50; // below it: one row of it, with its name above
const WIDEST = 1024; // columns of it that are drawn; more would not be seen
const VIT_B = { width: 768, blocks: 12 };

// 0, 1, ..., count - 1 in an order that a seed decides, the same in every browser (Fisher and Yates).
function shuffled(count, seed) {
  const list = Array.from({ length: count }, (_, n) => n);
  let state = Math.imul(seed, 2654435761) >>> 0;
  for (let n = count - 1; n > 0; n--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const other = Math.floor((state / 2 ** 32) * (n + 1));
    [list[n], list[other]] = [list[other], list[n]];
  }
  return list;
}

// Multiplications of ViT-B for one image, and those for pairs of tokens among them: a class token joins the patches.
function cost(patches, P) {
  const { width: D, blocks: L } = VIT_B;
  const N = patches + 1;
  const pairs = 2 * L * N * N * D;
  return { all: patches * 3 * P * P * D + 12 * L * N * D * D + pairs, pairs };
}

const grouped = (value) => value.toLocaleString("en");
const times = (value) => `× ${value >= 10 ? grouped(Math.round(value)) : Number(value.toPrecision(2))}`;

function render({ model, el }) {
  const side = model.get("side");
  const view = frame(el, {
    name: "patches",
    title: "Patch explorer",
    hint: "Point at a patch; click to drop or restore it. By keyboard: arrow keys and Enter.",
  });
  slider(view, model, "patch_size", "Patch size", model.get("patch_sizes"), (P) => `${P} x ${P}`);
  button(view, "Shuffle", shuffle);
  button(view, "Drop half", dropHalf);
  button(view, "Restore", restore);
  toggle(view, model, "numbers", "Numbers");
  const note = element("p", { className: "vit-note", role: "alert" });
  view.body.before(note);

  let [shuffles, halves] = [0, 0]; // how often the buttons were pressed: their seeds
  let halved = false; // the button chose what is dropped
  let patch = model.get("patch"); // follows the pointer; the trait holds what was chosen
  let pixels, source, P, columns, sums; // the image and its patches
  let order, dropped, list, rowOf, bag, seatOf; // the list of patches, and the bag
  let cut, laid, heap, matrix; // pictures of them, in their own pixels

  // ---------------------------------------------------------------- the patches

  const corner = (n) => [(n % columns) * P, Math.floor(n / columns) * P]; // x and y, in pixels
  const start = (n) => 3 * (corner(n)[1] * side + corner(n)[0]); // among the numbers of the image
  // Where number i of a patch, of 3 P P, lies from its start: channel by channel, row by row.
  const offset = (i) => 3 * (Math.floor((i % (P * P)) / P) * side + (i % P)) + Math.floor(i / (P * P));

  function readImage() {
    pixels = bytes(model.get("pixels"));
    source = picture(pixels, side, side);
  }

  function readPatches() {
    P = model.get("patch_size");
    columns = side / P;
    const offsets = Array.from({ length: 3 * P * P }, (_, i) => offset(i));
    sums = Array.from({ length: columns ** 2 }, (_, n) => {
      const from = start(n);
      return offsets.reduce((sum, step) => sum + pixels[from + step], 0);
    });
  }

  // What the model gets: the list in its order. And the bag, which is the list without its order.
  function readList() {
    order = model.get("order");
    dropped = new Set(model.get("dropped"));
    list = order.filter((n) => !dropped.has(n));
    bag = [...list].sort(darker);
    rowOf = new Map(list.map((n, row) => [n, row]));
    seatOf = new Map(bag.map((n, seat) => [n, seat]));
    cut = compose(sums.map((_, n) => n), 0.15);
    laid = compose(order, 0);
    heap = compose(bag, 0);
    matrix = listMatrix();
    showFacts();
  }

  // By brightness, then number by number: an order that hangs on what the patches hold and not on where they lie.
  function darker(a, b) {
    if (sums[a] !== sums[b]) return sums[a] - sums[b];
    for (let i = 0; i < 3 * P * P; i++) {
      const difference = pixels[start(a) + offset(i)] - pixels[start(b) + offset(i)];
      if (difference) return difference;
    }
    return 0;
  }

  // The picture that has patch slots[i] at place i; `faint` is the opacity of those that are dropped.
  function compose(slots, faint) {
    const canvas = element("canvas", { width: side, height: side });
    const context = canvas.getContext("2d");
    slots.forEach((n, i) => {
      context.globalAlpha = dropped.has(n) ? faint : 1;
      context.drawImage(source, ...corner(n), P, P, ...corner(i), P, P);
    });
    return canvas;
  }

  // The list as a heat map: a row for each patch, a column for each number.
  function listMatrix() {
    const across = Math.min(3 * P * P, WIDEST);
    const data = new ImageData(across, Math.max(1, list.length));
    const offsets = Array.from({ length: across }, (_, x) => offset(Math.floor(((x + 0.5) * 3 * P * P) / across)));
    let at = 0;
    for (const n of list) {
      const from = start(n);
      for (const step of offsets) {
        const shade = 3 * pixels[from + step];
        data.data[at++] = cividis[shade];
        data.data[at++] = cividis[shade + 1];
        data.data[at++] = cividis[shade + 2];
        data.data[at++] = 255;
      }
    }
    const canvas = element("canvas", { width: data.width, height: data.height });
    canvas.getContext("2d").putImageData(data, 0, 0);
    return canvas;
  }

  // ---------------------------------------------------------------- how it is drawn

  // A patch's frame, which stands around it where it is small.
  const mark = (context, [x, y, w, h], colours) =>
    Math.min(w, h) < 14
      ? outline(context, [x - 3, y - 3, w + 6, h + 6], colours.mark, 1.75)
      : outline(context, [x, y, w, h], colours.mark);

  function drawPicture(image, slot, gaps, context, width, colours) {
    const step = width / columns;
    context.imageSmoothingEnabled = side > 64; // small images keep their pixels
    context.drawImage(image, 0, 0, width, width);
    context.fillStyle = colours.surface;
    const gap = Math.min(3, Math.max(0.75, 0.09 * step));
    for (let i = 1; i < columns && gaps; i++) {
      context.fillRect(i * step - gap / 2, 0, gap, width);
      context.fillRect(0, i * step - gap / 2, width, gap);
    }
    if (slot === undefined) return;
    mark(context, [(slot % columns) * step, Math.floor(slot / columns) * step, step, step], colours);
  }

  function drawPatch(context, width, height, colours) {
    context.imageSmoothingEnabled = false; // the pixels themselves
    context.globalAlpha = dropped.has(patch) ? 0.3 : 1;
    context.drawImage(source, ...corner(patch), P, P, 0, 0, width, width);
    context.globalAlpha = 1;
    outline(context, [0, 0, width, width], colours.mark);
  }

  function drawMatrix(context, width, height, colours) {
    const [deep, row] = [height - HEAD - FOOT, rowOf.get(patch)];
    context.font = `11.5px ${colours.font}`;
    context.textBaseline = "alphabetic";
    context.fillStyle = colours.muted;
    context.textAlign = "center";
    CHANNELS.forEach((name, i) => context.fillText(name, ((i + 0.5) * width) / 3, HEAD - 6));
    context.imageSmoothingEnabled = list.length > deep;
    if (list.length) context.drawImage(matrix, 0, HEAD, width, deep);
    context.textAlign = "left";
    context.fillStyle = colours.ink;
    const text = row === undefined ? "dropped: not in the list" : `row ${grouped(row + 1)}, from left to right`;
    context.fillText(text, 0, height - 30);
    if (row === undefined) return;
    context.imageSmoothingEnabled = false;
    context.drawImage(matrix, 0, row, matrix.width, 1, 0, height - 24, width, 24);
    context.fillStyle = colours.surface;
    for (const i of [1, 2]) context.fillRect((i * width) / 3 - 1, height - 24, 2, 24);
    mark(context, [0, HEAD + (row * deep) / list.length, width, deep / list.length], colours);
  }

  const captions = {};
  function cell(name, ...content) {
    captions[name] = element("div", { className: "vit-caption" });
    const node = element("div", { className: `vit-cell vit-${name}` }, captions[name], ...content);
    view.body.append(node);
    return node;
  }
  // A picture of patches; patchAt(i) is the patch at place i, or undefined.
  function pictureStage(name, label, patchAt, draw, focusable = false) {
    const made = stage(view, cell(name), {
      label,
      role: focusable ? "application" : "img",
      focusable,
      height: (width) => width,
      draw,
    });
    const at = (event) => {
      const [x, y] = pointer(event, made.canvas).map((t) => Math.floor(t * columns));
      return x >= 0 && x < columns && y >= 0 && y < columns ? patchAt(y * columns + x) : undefined;
    };
    made.canvas.addEventListener("pointermove", (event) => point(at(event)));
    made.canvas.addEventListener("click", (event) => toggleDrop(at(event)));
    return made;
  }
  const stages = [
    pictureStage(
      "cut",
      "The image in patches. Arrow keys choose a patch, Home the first, End the last; Enter drops or restores it.",
      (i) => i,
      (context, width, height, colours) => drawPicture(cut, patch, true, context, width, colours),
      true,
    ),
    pictureStage(
      "laid",
      "The list of patches, laid out row by row.",
      (i) => order[i],
      (context, width, height, colours) => {
        context.globalAlpha = 0.35;
        context.fillStyle = colours.line; // where patches are missing
        context.fillRect(0, 0, width, width);
        context.globalAlpha = 1;
        drawPicture(laid, order.indexOf(patch), false, context, width, colours);
      },
    ),
    pictureStage(
      "heap",
      "The same patches as a bag, sorted by brightness.",
      (i) => bag[i],
      (context, width, height, colours) => drawPicture(heap, seatOf.get(patch), true, context, width, colours),
    ),
    stage(view, cell("one"), {
      label: "The pixels of the patch, enlarged.",
      height: (width) => width,
      draw: drawPatch,
    }),
    stage(view, cell("matrix"), {
      label: "The list as a matrix: a row for each patch, a column for each of its numbers.",
      height: (width) => Math.max(200, 0.62 * width),
      draw: drawMatrix,
    }),
  ];
  stages[4].canvas.addEventListener("pointermove", (event) => {
    const y = pointer(event, stages[4].canvas)[1] * stages[4].canvas.clientHeight - HEAD;
    point(list[Math.floor((y / (stages[4].canvas.clientHeight - HEAD - FOOT)) * list.length)]);
  });
  const facts = element("dl", { className: "vit-facts" });
  cell("sums", facts);
  const numbers = element("div", { className: "vit-numbers" });
  view.root.append(numbers);

  captions.cut.textContent = "The image, cut";
  captions.heap.textContent = "Without positions: a bag";
  captions.sums.textContent = "In numbers";

  function showFacts() {
    const N = list.length;
    const { all, pairs } = cost(N, P);
    const of = N < columns ** 2 ? `${grouped(N)} of ` : "";
    const mean = list.reduce((sum, n) => sum + sums[n], 0) / (N * 3 * P * P * 255);
    const lines = [
      ["tokens N", `${of}${columns} x ${columns} = ${grouped(columns ** 2)}`],
      ["numbers in each, 3 P²", grouped(3 * P * P)],
      ["weights a head, N²", grouped(N * N)],
      ["N² against P = 16", times((N / (side / 16) ** 2) ** 2)],
      ["ViT-B, 10⁹ FLOPs", ((2 * all) / 1e9).toFixed(1)],
      ["of these for pairs", `${((100 * pairs) / all).toFixed(1)} %`],
      ["mean of all numbers", N ? mean.toFixed(4) : "none"],
    ];
    facts.replaceChildren(...lines.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
    captions.laid.textContent = isShuffled() ? "The list, shuffled" : "The list, put together again";
    captions.matrix.textContent = `The list: ${grouped(N)} patches x ${grouped(3 * P * P)} numbers`;
  }

  // ---------------------------------------------------------------- what the pointer, keys and buttons do

  const isShuffled = () => order.some((n, i) => n !== i);

  function point(n) {
    if (n === undefined || n === patch) return;
    patch = n;
    redraw();
  }
  function choose(n) {
    patch = n;
    model.set("patch", n);
    redraw();
  }
  function toggleDrop(n) {
    if (n === undefined) return;
    halved = false;
    const others = model.get("dropped").filter((other) => other !== n);
    model.set("patch", (patch = n));
    model.set("dropped", dropped.has(n) ? others : [...others, n]);
    model.save_changes();
  }
  onPlainKey(stages[0].canvas, (event) => {
    const step = arrow(event);
    if (step) {
      const [y, x] = [Math.floor(patch / columns) + step[0], (patch % columns) + step[1]];
      if (y >= 0 && y < columns && x >= 0 && x < columns) choose(y * columns + x);
    } else if (event.key === "Home") choose(0);
    else if (event.key === "End") choose(columns ** 2 - 1);
    else if (event.key === "Enter" || event.key === " ") toggleDrop(patch);
    else return;
    event.preventDefault();
    model.save_changes();
  });

  function shuffle() {
    shuffles += 1;
    model.set("order", shuffled(columns ** 2, shuffles));
    model.save_changes();
    view.say("Shuffled: the list has another order, the bag is the same.");
  }
  function dropHalf() {
    halves += 1;
    halved = true;
    model.set("dropped", half());
    model.save_changes();
    const left = `${grouped(list.length)} of ${grouped(columns ** 2)} patches are left`;
    view.say(`${left}: about a quarter of the attention weights.`);
  }
  const half = () => shuffled(columns ** 2, 7919 * halves).slice(0, Math.ceil(columns ** 2 / 2)).sort((a, b) => a - b);
  function restore() {
    [shuffles, halves, halved] = [0, 0, false];
    model.set("dropped", []);
    model.set("order", sums.map((_, n) => n));
    model.save_changes();
    view.say("All patches are back in their places.");
  }

  // ---------------------------------------------------------------- the whole

  const placeName = (n) => `row ${Math.floor(n / columns) + 1}, column ${(n % columns) + 1}`;

  function redraw() {
    stages.forEach((one) => one.redraw());
    captions.one.textContent = `One patch: ${P} x ${P} pixels`;
    const row = rowOf.get(patch);
    const found = row === undefined ? "dropped" : `number ${grouped(row + 1)} of ${grouped(list.length)} in the list`;
    view.say(`Patch in ${placeName(patch)}: ${found}.`);
    if (model.get("numbers")) showNumbers();
    else numbers.replaceChildren();
  }

  // The first row of the patch's pixels. As many numbers of torch's patches[0, n] in each channel.
  function showNumbers() {
    const from = (channel) => channel * P * P;
    const made = table(
      `patches[0, ${patch}], the patch in ${placeName(patch)}: its first row of pixels, in each channel ` +
        `${P} numbers of ${grouped(P * P)}`,
      Array.from({ length: P }, (_, i) => String(i + 1)),
      CHANNELS.map((name, channel) => `${name}, ${from(channel)} to ${from(channel) + P - 1}`),
      CHANNELS.map((_, channel) =>
        Array.from({ length: P }, (_, i) => (pixels[start(patch) + offset(from(channel) + i)] / 255).toFixed(4)),
      ),
    );
    if (!numbers.firstChild) return numbers.append(made);
    numbers.firstChild.setAttribute("aria-label", made.getAttribute("aria-label"));
    numbers.firstChild.replaceChildren(...made.children); // the box keeps its place and focus
  }

  function refresh() {
    if (model.get("order").length !== columns ** 2) return; // another patch size: the order is under way
    readList();
    redraw();
  }
  // Another patch size: what was shuffled or halved is so again, and the patch is the one at the same place.
  model.on("change:patch_size", () => {
    const [again, old] = [isShuffled(), columns];
    const [y, x] = [(Math.floor(patch / old) + 0.5) / old, ((patch % old) + 0.5) / old];
    readPatches();
    patch = Math.floor(y * columns) * columns + Math.floor(x * columns);
    if (model.get("order").length !== columns ** 2) {
      model.set("patch", patch);
      model.set("dropped", halved ? half() : []);
      model.set("order", again ? shuffled(columns ** 2, shuffles) : sums.map((_, n) => n));
    } else refresh(); // all came together from Python
  });
  watch(model, ["order", "dropped"], refresh);
  model.on("change:patch", () => {
    if (model.get("patch") === patch || model.get("patch") >= columns ** 2) return;
    patch = model.get("patch");
    redraw();
  });
  model.on("change:numbers", redraw);
  model.on("change:pixels", () => {
    readImage();
    readPatches();
    refresh();
  });

  // ---------------------------------------------------------------- the reader's own picture

  const showMessage = () => {
    note.textContent = model.get("message");
    note.hidden = !note.textContent;
  };
  model.on("change:message", showMessage);
  showMessage();
  const uploadButton = button(view, "Upload a picture", () => chooser?.el.click());
  uploadButton.hidden = true; // in a page without Python nobody could read the file
  let chooser = null;
  async function offerUpload() {
    const manager = model.widget_manager;
    const child = await manager?.get_model(model.get("upload").replace("IPY_MODEL_", ""));
    if (!child?.comm_live) return;
    chooser = await manager.create_view(child);
    view.own(() => chooser.remove());
    // Too large a message would cost the connection to Python, so too large a file is stopped here.
    chooser.fileInput.addEventListener("change", refuseHuge, { capture: true });
    uploadButton.hidden = false;
  }
  function refuseHuge(event) {
    const [file, most] = [event.target.files[0], model.get("most_bytes")];
    if (!file || file.size <= most) return;
    event.stopImmediatePropagation();
    const megabytes = (size) => (size / 1e6).toFixed(size === most ? 0 : 1);
    model.set(
      "message",
      `The picture stays as it was: expected a file of at most ${megabytes(most)} MB, ` +
        `found '${file.name.slice(0, 60)}' with ${megabytes(file.size)} MB; save a smaller copy.`,
    );
    model.save_changes();
  }

  readImage();
  readPatches();
  readList();
  redraw();
  offerUpload();
  return view.close;
}

export default { render };
