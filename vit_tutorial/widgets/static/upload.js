// The reader's own picture: a button that opens Python's FileUpload (the trait `upload`), and what became of the file.
import { button, element, watch } from "./draw.js";

// The button is there only while Python listens: in a page without it nobody could read the file.
export async function offerUpload(view, model) {
  const note = element("p", { className: "vit-note", role: "alert" });
  view.body.before(note);
  const show = () => {
    note.textContent = model.get("message");
    note.hidden = !note.textContent;
  };
  watch(model, ["message"], show);
  show();
  const child = await model.widget_manager?.get_model(model.get("upload").replace("IPY_MODEL_", ""));
  if (!child?.comm_live) return;
  const chooser = await model.widget_manager.create_view(child);
  view.own(() => chooser.remove());
  // Too large a message would cost the connection to Python, so too large a file is stopped here.
  chooser.fileInput.addEventListener("change", (event) => refuseHuge(event, model), { capture: true });
  button(view, "Upload a picture", () => chooser.el.click());
}

function refuseHuge(event, model) {
  const [file, most] = [event.target.files[0], model.get("most_bytes")];
  if (!file || file.size <= most) return;
  event.stopImmediatePropagation();
  const megabytes = (size) => (size / 1e6).toFixed(size === most ? 0 : 1);
  const sentence =
    `The picture stays as it was: expected a file of at most ${megabytes(most)} MB, ` +
    `found '${file.name.slice(0, 60)}' with ${megabytes(file.size)} MB; save a smaller copy.`;
  model.set("message", sentence);
  model.save_changes();
}
