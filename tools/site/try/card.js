// A part of the page: an explorer's frame, its title a heading.
import { frame } from "../../../vit_tutorial/widgets/static/draw.js";

export function card(el, options) {
  const view = frame(el, options);
  const title = view.root.querySelector(".vit-title");
  title.setAttribute("role", "heading");
  title.setAttribute("aria-level", "2");
  return view;
}

// Whether a button can be used now. Unlike `disabled` this leaves it the keyboard's focus; its action looks itself.
export const able = (button, can) => button.setAttribute("aria-disabled", String(!can));
