// The way through the model: a road of stages, with detours that come back to it. One points at stages and parts.
import { clamp, element, pointer, range, stage, strokeLines, write } from "./draw.js";

const [UNIT, NAME, ROAD, ROW] = [7, 16, 40, 66]; // least width of a stage; heights of the parts of a line

export class Rail {
  // `go(i)` leads to stage i, `goToBlock(block)` to a part: -1 before the first block, `blocks` after the last.
  constructor(view, stages, { blocks, current, go, goToBlock }) {
    Object.assign(this, { stages, blocks, current, over: null });
    this.parts = range(blocks + 2).map((i) => stages.filter((s) => s.block === i - 1).length);
    // On a detour are the positions and all of a block but its sums.
    const inBlock = (s) => s.block >= 0 && s.block < blocks;
    this.branch = stages.map((s) => s.name === "positions" || (inBlock(s) && s.kind !== "sum"));
    const holder = element("div", { className: "vit-rail" });
    view.body.before(holder);
    const made = stage(view, holder, {
      label: "Stage. Left and right arrow keys step, Page Up and Page Down go to the same stage of another block.",
      role: "slider",
      focusable: true,
      height: (width) => this.layout(width).lines * ROW,
      draw: (context, width, height, colours) => this.draw(context, width, colours),
    });
    Object.assign(this, made);
    made.canvas.setAttribute("aria-valuemin", "1");
    made.canvas.setAttribute("aria-valuemax", String(stages.length));
    made.canvas.addEventListener("pointermove", (event) => this.point(this.under(event).stage ?? null));
    made.canvas.addEventListener("pointerleave", () => this.point(null));
    made.canvas.addEventListener("click", (event) => {
      const found = this.under(event);
      if (found.stage !== undefined) go(found.stage);
      else goToBlock(found.block);
    });
  }

  partName = (block) => block < 0 ? "embedding" : block === this.blocks ? "answer" : `block ${block + 1}`;

  show(text) {
    this.canvas.setAttribute("aria-valuenow", String(this.current() + 1));
    this.canvas.setAttribute("aria-valuetext", text);
  }

  point(i) {
    if (i === this.over) return;
    this.over = i;
    this.redraw();
  }

  // For each stage where it is across and in which line; a part is never broken.
  layout(width) {
    const count = this.stages.length;
    const lines = Math.ceil((count * UNIT) / width);
    const most = Math.ceil(count / lines) + (lines > 1 ? 4 : 0);
    const places = [];
    let [line, used] = [0, 0];
    for (const part of this.parts) {
      if (used && used + part > most) [line, used] = [line + 1, 0];
      for (const i of range(part)) places.push([used + i + 0.5, line]);
      used += part;
    }
    const unit = width / Math.max(...places.map(([x]) => x + 0.5));
    return { unit, lines: line + 1, places: places.map(([x, l]) => [x * unit, l]) };
  }

  // The stage under the pointer, or the part whose name is there.
  under(event) {
    const [x, y] = pointer(event, this.canvas);
    const { places, lines } = this.layout(this.canvas.clientWidth);
    const line = clamp(Math.floor(y * lines), 0, lines - 1);
    const far = (i) => Math.abs(places[i][0] - x * this.canvas.clientWidth);
    const there = range(places.length).filter((i) => places[i][1] === line);
    const nearest = there.reduce((a, b) => (far(b) < far(a) ? b : a));
    const low = (y * lines - line) * ROW > ROW - 20;
    return low ? { block: this.stages[nearest].block } : { stage: nearest };
  }

  draw(context, width, colours) {
    const layout = this.layout(width);
    this.drawParts(context, layout, colours);
    this.drawRoads(context, layout, colours);
    this.drawStages(context, layout, colours);
    const [here, { places }] = [this.current(), layout];
    const named = this.over ?? here;
    context.font = `12px ${colours.font}`;
    const half = context.measureText(this.stages[named].name).width / 2 + 2;
    const x = clamp(places[named][0], half, width - half);
    const style = { ink: named === here ? colours.ink : colours.muted, align: "center", size: 12 };
    write(context, colours, this.stages[named].name, [x, places[named][1] * ROW + NAME - 8], style);
  }

  // The parts' names, and a light behind the part we are in.
  drawParts(context, { places, unit }, colours) {
    let first = 0;
    this.parts.forEach((count, i) => {
      const [x, y] = [places[first][0] - unit / 2, places[first][1] * ROW];
      const current = this.stages[this.current()].block === i - 1;
      if (current) {
        Object.assign(context, { fillStyle: colours.accent, globalAlpha: 0.12 });
        context.beginPath();
        context.roundRect(x + 1, y + NAME, count * unit - 2, ROW - NAME, 5);
        context.fill();
        context.globalAlpha = 1;
      }
      const name = this.partName(i - 1);
      const style = { ink: current ? colours.ink : colours.muted, align: "center", bold: current };
      context.font = `${current ? "600 " : ""}11.5px ${colours.font}`;
      const short = [name, name.replace("block ", "")];
      const fits = short.find((text) => context.measureText(text).width <= count * unit - 4);
      if (fits) write(context, colours, fits, [x + (count * unit) / 2, y + ROW - 10], style);
      first += count;
    });
  }

  spot = ([x, line], branch) => [x, line * ROW + ROAD - (branch ? 14 : 0)];

  drawRoads(context, { places }, colours) {
    const { branch } = this;
    const spot = (i) => this.spot(places[i], branch[i]);
    for (const i of range(places.length).slice(1)) {
      let from = i - 1;
      const lines = branch[i] || branch[from] ? [[spot(from), spot(i)]] : [];
      while (branch[from]) from--; // the road itself goes on under the detour
      if (!branch[i]) lines.push([spot(from), spot(i)]);
      const style = i <= this.current() ? colours.accent : colours.line;
      const inLine = lines.filter(([[, a], [, b]]) => Math.abs(a - b) < ROW / 2);
      strokeLines(context, inLine, { style, thick: 2 });
    }
  }

  drawStages(context, { places, unit }, colours) {
    const [here, radius] = [this.current(), Math.min(4.5, unit / 2 - 0.5)];
    places.forEach((place, i) => {
      context.beginPath();
      context.arc(...this.spot(place, this.branch[i]), i === here ? radius + 2 : radius, 0, 2 * Math.PI);
      const passed = i === here ? colours.mark : i < here ? colours.accent : null;
      context.fillStyle = passed ?? colours.surface;
      context.fill();
      context.strokeStyle = i === this.over ? colours.ink : passed ?? colours.muted;
      context.lineWidth = i === this.over ? 2 : 1.25;
      context.stroke();
    });
  }
}
