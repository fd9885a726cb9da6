// The page: a picture goes from its card to the model, and what the model says to the other cards.
import { MEAN } from "../../../vit_tutorial/widgets/static/weights.js";
import { answerCard } from "./answer.js";
import { compareWithTorch, part, softmax, startEngine } from "./engine.js";
import { looksCard } from "./looks.js";
import { CLASSES, COLUMNS, L } from "./model.js";
import { patchesCard } from "./patches.js";
import { cover, meanColour, modelPixels } from "./picture.js";
import { squareCard } from "./square.js";

// What is shown, as the explorers' controls expect it.
class State {
  constructor(values) {
    Object.assign(this, { values, listeners: [] });
  }
  get(name) {
    return this.values[name];
  }
  set(name, value) {
    if (this.values[name] === value) return;
    this.values[name] = value;
    for (const [event, call] of this.listeners) if (event === `change:${name}`) call();
  }
  on(event, call) {
    this.listeners.push([event, call]);
  }
  save_changes() {} // nobody at the other end
}

const place = (id) => document.getElementById(id);
const state = new State({ source: null, zoom: 1, layer: L - 1, head: MEAN, query: 0, numbers: false });
const square = squareCard(place("picture"), place("sources"), state, refresh);
const patches = patchesCard(place("patches"), refresh, whatPatchesAreWorth, stop);
const answer = answerCard(place("answer"));
const looks = looksCard(place("attention"), state, paint);

function trouble(error) {
  place("trouble").textContent = error.message;
  place("trouble").hidden = false;
}

// The model did not start, or stopped.
function stop(error) {
  engine = false;
  trouble(error);
  answer.stop();
  patches.enable(false);
  agree();
}

// The picture with what is covered, in the rectangle (x, y, width, height).
function paint(context, [x, y, width, height]) {
  square.paint(context, [x, y, width, height]);
  context.fillStyle = `rgb(${asked?.colour.join(", ")})`;
  const [wide, high] = [width / COLUMNS, height / COLUMNS];
  for (const patch of patches.covered) {
    context.fillRect(x + (patch % COLUMNS) * wide, y + Math.floor(patch / COLUMNS) * high, wide, high);
  }
}

// ---------------------------------------------------------------- a picture's way through the page

let engine = null; // false where it cannot be
let asked = null; // {pixels, colour, source, number}: what is on the page now
let drawn = false; // a refresh waits for the next frame
let running = false;

state.on("change:source", () => patches.covered.clear());

function refresh() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => {
    drawn = false;
    if (!state.get("source")) return;
    const whole = modelPixels(state.get("source").canvas, square.square());
    const colour = meanColour(whole);
    const pixels = cover(whole, patches.covered, colour);
    asked = { pixels, colour, source: state.get("source"), number: (asked?.number ?? 0) + 1 };
    place("answer").dataset.asked = asked.number;
    patches.show(pixels, colour);
    if (!engine) looks.repaint(); // later it waits for the maps that belong to the picture
    score();
  });
}

// Asks the model about what is on the page until nothing newer is. An answer about another picture is dropped.
async function score() {
  if (running || !engine || !asked) return;
  running = true;
  try {
    for (let job = null; job !== asked; ) {
      job = asked;
      const { logits, attention, ms } = await engine.run(job.pixels);
      if (job.source !== asked.source) continue;
      patches.tell(answer.show(softmax(logits), ms));
      looks.show(attention);
      place("answer").dataset.answered = job.number;
    }
  } catch (error) {
    stop(error);
  } finally {
    running = false;
  }
}

// What the best class loses where each patch is covered in turn, a row of patches at a time.
async function whatPatchesAreWorth(progress) {
  const [job, { run }] = [asked, engine];
  const before = softmax((await run(job.pixels, false)).logits);
  const best = before.indexOf(Math.max(...before));
  const lost = [];
  for (let row = 0; row < COLUMNS; row++) {
    const batch = new Uint8Array(COLUMNS * job.pixels.length);
    for (let i = 0; i < COLUMNS; i++) {
      batch.set(cover(job.pixels, [row * COLUMNS + i], job.colour), i * job.pixels.length);
    }
    const { logits } = await run(batch, false);
    if (job !== asked) return null;
    for (let i = 0; i < COLUMNS; i++) {
      lost.push(before[best] - softmax(logits.subarray(i * before.length, (i + 1) * before.length))[best]);
    }
    progress(lost.length);
  }
  return { lost, name: CLASSES[best] };
}

// ---------------------------------------------------------------- pictures that are dropped and pasted

function takeFirst(files, otherwise) {
  const file = [...files].find(({ type }) => type.startsWith("image/")) ?? files[0];
  if (file) square.take(file);
  else square.refuse(otherwise);
}
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("try-dropping");
});
addEventListener("dragleave", (event) => !event.relatedTarget && document.body.classList.remove("try-dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("try-dropping");
  const otherwise = "Expected a file, found a link or text: save the picture, then drop its file.";
  takeFirst(event.dataTransfer.files, otherwise);
});
addEventListener("paste", (event) => {
  takeFirst(event.clipboardData.files, "Expected a picture in the clipboard, found none: copy the picture itself.");
});

// ---------------------------------------------------------------- the start

async function agree() {
  if (!place("check").open) return;
  const said = place("agreement");
  if (!engine) {
    said.textContent = engine === null ? "Waiting for the model …" : "The model is not running.";
    return;
  }
  said.textContent = "Comparing …";
  try {
    const { count, logits, attention } = await compareWithTorch(engine);
    const most = Math.max(logits, attention);
    said.textContent =
      `${most <= 1e-3 ? "It agrees" : "It does not agree"} with PyTorch on ${count} pictures: ` +
      `the largest difference is ${logits.toExponential(1)} in the logits and ${attention.toExponential(1)} in the ` +
      "attention weights.";
  } catch (error) {
    said.textContent = error.message;
  }
}
place("check").addEventListener("toggle", agree);

part("samples").then(square.offer).catch(trouble);
startEngine()
  .then((started) => {
    engine = started;
    globalThis.tryIt = { run: engine.run, pixels: () => asked.pixels }; // for the browser's console, and for the tests
    patches.enable(true);
    score();
    agree();
  })
  .catch(stop);
