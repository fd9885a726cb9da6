// Arrows in a plane, whose tips are moved by pointer and keyboard.
import { arrow, clamp, element, onPlainKey, pointer, stage, strokeLines } from "./draw.js";

const STEP = 20; // places where a tip can stand, to the unit: 0.05 apart
const FAR = 10; // steps of an arrow key with Shift
const REACH = 24; // CSS pixels from a tip within which the pointer takes it

// A square around the points and the origin, with some room: as in playground.py.
function windowOf(points) {
  const [xs, ys] = [0, 1].map((axis) => [0, ...points.map((point) => point[axis])]);
  const [low, high] = [[Math.min(...xs), Math.min(...ys)], [Math.max(...xs), Math.max(...ys)]];
  const span = Math.max(high[0] - low[0], high[1] - low[1]);
  const side = 1.24 * span + Math.min(1, span || 1);
  return { left: (low[0] + high[0] - side) / 2, bottom: (low[1] + high[1] - side) / 2, side };
}

// Words with a border in the colour behind them, so that they can be read on lines.
function haloed(context, colours, text, at, ink) {
  Object.assign(context, { lineWidth: 4, lineJoin: "round", strokeStyle: colours.surface, fillStyle: ink });
  context.strokeText(text, ...at);
  context.fillText(text, ...at);
}

// An arrow between pixels; an arrow of no length is a dot. A hollow one has the colour `hollow` in its head.
export function drawArrow(context, from, to, { style, thick = 2.5, dash = [], hollow = style, alpha = 1 }) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const length = Math.hypot(dx, dy);
  const head = new Path2D();
  if (length < 6) head.arc(...to, 4.5, 0, 7);
  else {
    const [ux, uy] = [dx / length, dy / length];
    const long = Math.min(11, length);
    const base = [to[0] - long * ux, to[1] - long * uy];
    strokeLines(context, [[from, base]], { style, thick, dash, alpha });
    head.moveTo(...to);
    for (const side of [-5, 5]) head.lineTo(base[0] - side * uy, base[1] + side * ux);
    head.closePath();
  }
  Object.assign(context, { fillStyle: hollow, strokeStyle: style, lineJoin: "round", globalAlpha: alpha });
  context.lineWidth = length < 6 ? thick : 1.5;
  context.fill(head);
  context.stroke(head);
  context.globalAlpha = 1;
}

// `tips` are {kind, token}; `draw(plane, context, colours)` draws the arrows and returns their labels {text, at,
// strong}. The owner tells where a tip is, `tipAt(tip)`, and hears what the reader does: `focus(tip or null)`,
// `choose(tip)`, `grab(tip)`, `move(tip, [x, y])`, and `commit()` when the tip rests again.
export class Plane {
  constructor(owner, view, { title, label, tips, draw }) {
    Object.assign(this, { owner, draw, dragged: null });
    this.holder = element("div", { className: "vit-place" });
    const caption = element("div", { className: "vit-caption" }, title);
    view.body.append(element("div", { className: "vit-panel vit-plane" }, caption, this.holder));
    const made = stage(view, this.holder, {
      label,
      height: (width) => width,
      draw: (context, width, height, colours) => this.drawAll(context, width, colours),
    });
    Object.assign(this, made);
    this.tips = tips.map((tip) => this.addTip(tip));
    this.listen();
  }

  fit(points) {
    this.window = windowOf(points);
  }

  toPixel([x, y], size = this.canvas.clientWidth) {
    const { left, bottom, side } = this.window;
    return [((x - left) / side) * size, size - ((y - bottom) / side) * size];
  }

  // The nearest place where a tip can stand, inside the plane. As torch has it: Python has nothing to correct.
  onGrid([x, y]) {
    const { left, bottom, side } = this.window;
    const near = (value, low) =>
      clamp(Math.round(value * STEP), Math.ceil(low * STEP), Math.floor((low + side) * STEP)) / STEP;
    return [near(x, left), near(y, bottom)].map(Math.fround);
  }

  // ---------------------------------------------------------------- drawing

  drawAll(context, size, colours) {
    this.drawAxes(context, size, colours);
    const labels = this.draw(this, context, colours);
    for (const tip of this.tips) {
      const [x, y] = this.toPixel(this.owner.tipAt(tip), size);
      Object.assign(tip.node.style, { left: `${x}px`, top: `${y}px` });
    }
    this.drawLabels(context, size, colours, labels);
  }

  drawAxes(context, size, colours) {
    const { left, bottom, side } = this.window;
    const unit = 10 ** Math.round(Math.log10(side / 3)); // between lines
    for (const [axis, from] of [[0, left], [1, bottom]]) {
      for (let i = Math.ceil(from / unit); i * unit < from + side; i++) {
        const at = Math.round(this.toPixel(axis ? [0, i * unit] : [i * unit, 0], size)[axis]) + 0.5;
        const line = axis ? [[0, at], [size, at]] : [[at, 0], [at, size]];
        strokeLines(context, [line], { style: i ? colours.line : colours.muted, alpha: i ? 0.6 : 0.7 });
        if (!i || at < 16 || at > size - 16) continue;
        context.font = `11px ${colours.font}`;
        Object.assign(context, { textAlign: axis ? "left" : "center", textBaseline: axis ? "middle" : "bottom" });
        const text = String(Number((i * unit).toPrecision(6)));
        haloed(context, colours, text, axis ? [3, at] : [at, size - 2], colours.muted);
      }
    }
  }

  // Names beside their tips, where there is room: each goes to the first of twelve places that covers no other.
  drawLabels(context, size, colours, labels) {
    context.font = `12px ${colours.font}`;
    Object.assign(context, { textAlign: "left", textBaseline: "middle" });
    const taken = labels.map(({ at: [x, y] }) => [x - 5, y - 5, x + 5, y + 5]);
    const inside = (box) => box[0] > 1 && box[1] > 0 && box[2] < size - 1 && box[3] < size;
    const free = (box) => taken.every((t) => box[2] < t[0] || box[0] > t[2] || box[3] < t[1] || box[1] > t[3]);
    for (const { text, at: [x, y], strong } of labels) {
      const wide = context.measureText(text).width;
      const [right, left, middle] = [9, -9 - wide, -wide / 2];
      const places = [[right, 8], [left, 8], [middle, 15], [right, 22], [left, 22], [middle, 29]];
      const shifts = places.flatMap(([dx, dy]) => [[dx, -dy], [dx, dy]]);
      const boxes = shifts.map(([dx, dy]) => [x + dx, y + dy - 7, x + dx + wide, y + dy + 7]);
      const box = boxes.find((b) => inside(b) && free(b)) ?? boxes.find(inside) ?? boxes[0];
      taken.push(box);
      haloed(context, colours, text, [box[0], box[1] + 7], strong ? colours.ink : colours.muted);
    }
  }

  // ---------------------------------------------------------------- moving a tip

  // A button over the tip takes the focus and the keys.
  addTip(tip) {
    tip.node = element("button", { type: "button", className: "vit-tip" });
    tip.node.addEventListener("focus", () => this.owner.focus(tip));
    tip.node.addEventListener("blur", () => this.owner.focus(null));
    tip.node.addEventListener("click", () => this.owner.choose(tip));
    onPlainKey(tip.node, (event) => {
      const step = arrow(event);
      if (!step) return;
      event.preventDefault();
      const [[x, y], far] = [this.owner.tipAt(tip), (event.shiftKey ? FAR : 1) / STEP];
      this.owner.move(tip, this.onGrid([x + step[1] * far, y - step[0] * far]));
      this.owner.commit();
    });
    this.holder.append(tip.node);
    return tip;
  }

  // The tip within the pointer's reach, and how far it stands from it.
  nearest(event) {
    const [x, y] = this.under(event);
    const found = this.tips.map((tip) => {
      const [right, down] = this.toPixel(this.owner.tipAt(tip));
      return { tip, shift: [right - x, down - y] };
    });
    const far = ({ shift }) => Math.hypot(...shift);
    const closest = found.reduce((a, b) => (a && far(a) <= far(b) ? a : b), null);
    return closest && far(closest) < REACH ? closest : null;
  }

  under = (event) => pointer(event, this.canvas).map((part) => part * this.canvas.clientWidth);

  listen() {
    const { canvas, owner } = this;
    canvas.addEventListener("mousedown", (event) => event.preventDefault()); // the tip keeps the focus
    canvas.addEventListener("pointerdown", (event) => {
      const found = this.nearest(event);
      if (!found || this.dragged) return;
      canvas.setPointerCapture(event.pointerId);
      this.dragged = found;
      found.tip.node.focus({ preventScroll: true });
      owner.grab(found.tip);
    });
    canvas.addEventListener("pointermove", (event) => {
      canvas.style.cursor = this.dragged ? "grabbing" : this.nearest(event) ? "grab" : "default";
      if (!this.dragged) return;
      const { left, bottom, side } = this.window;
      const [x, y] = this.under(event).map((at, axis) => (at + this.dragged.shift[axis]) / canvas.clientWidth);
      owner.move(this.dragged.tip, this.onGrid([left + x * side, bottom + (1 - y) * side]));
    });
    canvas.addEventListener("lostpointercapture", () => {
      if (this.dragged) owner.commit();
      this.dragged = null;
    });
  }
}
