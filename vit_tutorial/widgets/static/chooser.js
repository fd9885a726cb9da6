// The reader's own files, from the page into Python: a button, how far it is, Cancel. `model` is Python's Upload.
// They go in parts, each once Python has the one before: servers drop the connection at a message of 10 MiB.
import { button, element } from "./draw.js";

const PART = 2 ** 21; // bytes
const PATIENCE = 4000; // milliseconds, after which Python's silence is explained
const megabytes = (size) => (size / 1e6).toFixed(1);

export function chooser(view, model, label, say) {
  const input = element("input", { type: "file", multiple: true, accept: model.get("accept"), hidden: true });
  input.setAttribute("aria-label", label);
  const choose = button(view, label, () => input.click());
  const bar = element("progress", { className: "vit-progress", max: 1, "aria-label": "uploaded", hidden: true });
  const sent = element("span", { "aria-hidden": "true" });
  view.controls.append(input, bar, sent);
  const cancel = button(view, "Cancel", () => stop("Cancelled: nothing was uploaded."));
  let upload = null; // { key, whole, patience }

  function show(running) {
    bar.hidden = cancel.hidden = !running;
    choose.disabled = running;
    sent.textContent = "";
  }

  function send(content, buffers) {
    clearTimeout(upload.patience);
    upload.patience = setTimeout(() => say("Waiting for Python: it runs another cell, or has stopped."), PATIENCE);
    model.send({ key: upload.key, ...content }, undefined, buffers);
  }

  function end() {
    clearTimeout(upload?.patience);
    upload = null;
    show(false);
  }

  function stop(sentence) {
    if (!upload) return;
    send({ stop: true });
    end();
    say(sentence);
  }

  async function hear({ key, have }) {
    const running = upload;
    if (key !== running?.key) return;
    if (have === null) return end(); // all of it, or refused: Python's message says which
    const size = running.whole.size;
    bar.value = have / size;
    sent.textContent = `${megabytes(have)} of ${megabytes(size)} MB`;
    say("Uploading ...");
    try {
      const part = await running.whole.slice(have, have + PART).arrayBuffer();
      if (upload === running) send({ at: have }, [part]);
    } catch (error) {
      if (upload === running) stop("The file cannot be read: nothing was uploaded.");
    }
  }

  input.addEventListener("change", () => {
    const files = [...input.files];
    if (!files.length) return;
    input.value = ""; // so that the same file can be chosen again
    upload = { key: String(Math.random()), whole: new Blob(files) };
    show(true);
    send({ files: files.map(({ name, size }) => [name, size]) });
  });
  model.on("msg:custom", hear);
  view.own(() => (model.off("msg:custom", hear), stop("")));
  show(false);
}
