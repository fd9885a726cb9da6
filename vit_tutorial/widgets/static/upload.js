// The button of an Upload, and below it what became of the files, in Python's words.
import { chooser } from "./chooser.js";
import { frame, watch } from "./draw.js";

function render({ model, el }) {
  const title = model.get("description");
  const view = frame(el, { name: "upload", title, hint: `up to ${model.get("most_bytes") / 1e6} MB together` });
  const show = () => view.say(model.get("message"));
  chooser(view, model, "Choose files", view.say);
  watch(model, ["message"], show);
  show();
  return view.close;
}

export default { render };
