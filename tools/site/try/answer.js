// Card 3: what the model answers, ten probabilities.
import { element } from "../../../vit_tutorial/widgets/static/draw.js";
import { card } from "./card.js";
import { CLASSES } from "./model.js";

// say(text) without haste: of texts that follow each other quickly, screen readers get one per second and the last.
function calmly(say) {
  let [timer, next] = [null, ""];
  return (text) => {
    next = text;
    timer ??= setTimeout(() => {
      timer = null;
      say(next);
    }, 1000);
  };
}

export function answerCard(el) {
  const view = card(el, {
    name: "answer",
    title: "3 · What it answers",
    hint: "Always one of the ten things that it knows, even for a face.",
  });
  const say = calmly(view.say);
  const rows = CLASSES.map((name) => {
    const bar = element("div", { className: "try-bar" });
    const share = element("td", { className: "try-share" }, "–");
    const holder = element("td", { className: "try-bars", "aria-hidden": "true" }, bar);
    return { bar, share, row: element("tr", {}, element("th", { scope: "row" }, name), holder, share) };
  });
  const scores = element("table", { className: "try-scores" }, element("caption", {}, "Probability of each class"));
  scores.append(element("tbody", {}, ...rows.map(({ row }) => row)));
  const about =
    "It was trained on 50,000 small pictures of these ten things (CIFAR-10), and names 82.6 % of others like them " +
    "rightly. It cannot say “none of these”.";
  const time = element("p", { className: "try-tip try-time" }, "Loading the model, about 8 MB …");
  const panel = element("div", { className: "vit-panel" }, scores, time, element("p", { className: "try-tip" }, about));
  view.body.append(panel);

  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  // Returns the best class and its share, in words.
  function show(probabilities, ms) {
    const order = probabilities.map((_, i) => i).sort((a, b) => probabilities[b] - probabilities[a]);
    rows.forEach(({ bar, share, row }, i) => {
      bar.style.transform = `scaleX(${probabilities[i].toFixed(4)})`;
      share.textContent = percent(probabilities[i]);
      row.classList.toggle("try-best", i === order[0]);
    });
    time.textContent = `Computed in this page, in ${ms.toFixed(0)} ms.`;
    const [first, second] = order.map((i) => `${CLASSES[i]} ${percent(probabilities[i])}`);
    say(`It says: ${first}, then ${second}.`);
    return first;
  }
  return { show, stop: () => (time.textContent = "The model is not running.") };
}
