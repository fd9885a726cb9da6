// The theme that was chosen on the course's other pages, before anything is drawn; else the system's.
(() => {
  const kept = (name) => {
    try {
      return localStorage.getItem(name);
    } catch {
      return null; // storage is switched off
    }
  };
  const mode = kept("mode") || "auto";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    const chosen = document.documentElement.dataset.mode;
    document.documentElement.dataset.theme = chosen === "auto" ? (dark.matches ? "dark" : "light") : chosen;
  };
  document.documentElement.dataset.mode = ["light", "dark"].includes(mode) ? mode : "auto";
  dark.addEventListener("change", show);
  show();

  // Paper is white.
  const look = document.documentElement.dataset;
  addEventListener("beforeprint", () => Object.assign(look, { onScreen: look.theme, theme: "light" }));
  addEventListener("afterprint", () => (look.theme = look.onScreen));

  addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => {
      button.textContent = document.documentElement.dataset.theme === "dark" ? "Light theme" : "Dark theme";
    };
    button.addEventListener("click", () => {
      const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      Object.assign(document.documentElement.dataset, { mode: theme, theme });
      try {
        localStorage.setItem("mode", theme);
        localStorage.setItem("theme", theme);
      } catch {
        // this page alone, then
      }
      name();
    });
    dark.addEventListener("change", name);
    name();
  });
})();
