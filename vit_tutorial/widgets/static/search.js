import { button, bytes, choice, element, floats, frame, picture, range, tell, watch } from "./draw.js";
import { SentenceEncoder } from "./sentences.js";

const FIRST = 12; // pictures that are counted
const SHAPE = ["size", "colour", "kind"];
const OTHER = ["other_size", "other_colour", "other_kind"];
const printed = (cosine) => (Math.round(100 * cosine) / 100 || 0).toFixed(2); // never -0.00

class SearchExplorer {
  constructor({ model, el }) {
    const [sizes, words, objects] = ["sizes", "vocabulary", "objects"].map((name) => model.get(name));
    Object.assign(this, { model, objects, relations: model.get("choices").relation });
    this.encoder = new SentenceEncoder(sizes, words, floats(model.get("weights")));
    this.vectors = floats(model.get("vectors")); // (B, out), each of length 1
    this.view = frame(el, {
      name: "search",
      title: "Search explorer",
      hint: "Choose words: the pictures whose vectors are nearest to the sentence's come first.",
    });
    this.addLists();
    this.addPictures();
    watch(model, [...SHAPE, "relation", ...OTHER], () => this.search());
    this.search();
  }

  // ---------------------------------------------------------------- what is computed

  // The chosen words as a caption of datasets.scenes has them; `relation` may be another than the chosen one.
  sentence(relation = this.model.get("relation")) {
    const phrase = (traits) => ["a", ...traits.map((trait) => this.model.get(trait))];
    const words = [...phrase(SHAPE), relation, ...(relation ? phrase(OTHER) : [])];
    return words.filter((word) => word).join(" ");
  }

  // The pictures' numbers, best first, and their cosines with a sentence.
  ranking(sentence) {
    const query = this.encoder.vector(sentence);
    const cosine = (i) => query.reduce((sum, value, k) => sum + value * this.vectors[i * query.length + k], 0);
    const cosines = range(this.objects.length).map(cosine);
    return { cosines, order: range(cosines.length).sort((i, j) => cosines[j] - cosines[i]) };
  }

  // Whether picture i shows what the words say. An object is [size, colour, kind, column, row].
  shows(i) {
    const relation = this.relations.indexOf(this.model.get("relation")); // left of, right of, above, below; or -1
    const fits = (object, traits) => traits.every((trait, k) => ["", object[k]].includes(this.model.get(trait)));
    const stands = (object, other) => {
      const step = other[relation < 2 ? 3 : 4] - object[relation < 2 ? 3 : 4];
      return relation % 2 ? step < 0 : step > 0;
    };
    return this.objects[i].some((object) =>
      fits(object, SHAPE) &&
      (relation < 0 || this.objects[i].some((other) => fits(other, OTHER) && stands(object, other))));
  }

  swapped() {
    const relation = this.relations.indexOf(this.model.get("relation"));
    return this.relations[relation ^ 1] ?? ""; // of none none: there is no entry -2
  }

  // ---------------------------------------------------------------- how it is shown

  addLists() {
    const { view, model } = this;
    const list = (place, trait, label, none) => {
      const words = model.get("choices")[trait].map((word) => [word, word]);
      return choice(place, model, trait, label, [["", none], ...words]);
    };
    const shape = (label, traits) => {
      const controls = element("div", { className: "vit-words", role: "group", "aria-label": label }, "a");
      view.controls.append(controls);
      return traits.map((trait, k) => list({ controls }, trait, `${label}: ${SHAPE[k]}`, `any ${SHAPE[k]}`));
    };
    shape("First shape", SHAPE);
    list(view, "relation", "Relation", "no relation");
    this.swap = button(view, "Swap", () => tell(model, { relation: this.swapped() }));
    this.second = shape("Second shape", OTHER);
  }

  addPictures() {
    const { model, objects, view } = this;
    const [rows, columns] = model.get("side");
    const pixels = bytes(model.get("pictures"));
    const one = 3 * rows * columns;
    this.items = model.get("captions").map((caption, i) => {
      const image = picture(pixels.subarray(i * one, (i + 1) * one), rows, columns);
      return element("li", {}, element("img", { src: image.toDataURL(), alt: caption }), element("span"));
    });
    this.said = element("p", { className: "vit-sentence" });
    this.first = element("ol", { className: "vit-first" });
    this.rest = element("ol", { start: FIRST + 1 });
    const holder = element("div", { className: "vit-rest", tabIndex: 0, role: "region" }, this.rest);
    holder.setAttribute("aria-label", "All other pictures, in their order");
    holder.hidden = objects.length <= FIRST;
    view.body.append(this.said, this.first);
    view.root.append(holder); // behind the line that counts the first
  }

  search() {
    const sentence = this.sentence();
    const { cosines, order } = this.ranking(sentence);
    const right = this.objects.map((_, i) => this.shows(i));
    this.items.forEach((item, i) => {
      item.className = right[i] ? "vit-right" : "";
      const mark = element("b", { role: "img", "aria-label": right[i] ? "right" : "wrong" }, right[i] ? "✓" : "✗");
      item.lastChild.replaceChildren(mark, ` ${printed(cosines[i])}`);
    });
    const first = order.slice(0, FIRST);
    this.first.replaceChildren(...first.map((i) => this.items[i]));
    this.rest.replaceChildren(...order.slice(FIRST).map((i) => this.items[i]));
    this.said.textContent = `“${sentence}”`;

    const other = this.swapped();
    for (const control of [...this.second, this.swap]) control.disabled = !other;
    const count = (list) => list.filter((i) => right[i]).length;
    const [n, all] = [first.length, order.length];
    let said = `Right: ${count(first)} of the first ${n} pictures, ${count(order)} of all ${all}.`;
    if (other) {
      const same = this.ranking(this.sentence(other)).order.slice(0, FIRST).filter((i) => first.includes(i)).length;
      said += ` With “${other}” instead, ${same} of these ${n} are among the first ${n} again.`;
    }
    this.view.say(said);
  }
}

const render = (context) => new SearchExplorer(context).view.close;
export default { render };
