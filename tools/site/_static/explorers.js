// The explorers of a page without a kernel: a picture gives way to its explorer when it comes near the screen.
// Works from file:// too, where a page may load scripts but not fetch data. `take` is called by the scripts that
// tools/build/live_explorers.py writes; `modules` is filled by the explorers' own.
window.vitExplorers = (() => {
  const root = new URL(".", document.currentScript.src).href;
  const modules = {};
  const taken = {};
  const loading = new Map();

  function load(name) {
    if (!loading.has(name)) {
      const script = document.createElement("script");
      script.src = `${root}explorers/${name}.js`;
      loading.set(name, new Promise((resolve, reject) => Object.assign(script, { onload: resolve, onerror: reject })));
      document.head.append(script);
    }
    return loading.get(name);
  }

  // What anywidget's model offers to an explorer, without anybody at the other end.
  class Model {
    constructor(values) {
      this.values = values;
      this.listeners = [];
    }
    get(name) {
      return this.values[name];
    }
    set(name, value) {
      if (JSON.stringify(this.values[name]) === JSON.stringify(value)) return;
      this.values[name] = value;
      const events = [`change:${name}`, "change"];
      this.listeners.filter(([event]) => events.includes(event)).forEach(([, call]) => call());
    }
    save_changes() {}
    send() {}
    on(events, call) {
      events.split(" ").forEach((event) => this.listeners.push([event, call]));
    }
    off(event, call) {
      this.listeners = this.listeners.filter((listener) => listener[0] !== event || (call && listener[1] !== call));
    }
  }

  async function unpack({ gzip, halved }) {
    const packed = Uint8Array.from(atob(gzip), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const data = new Uint8Array(await new Response(stream).arrayBuffer());
    if (!halved) return data;
    const count = data.length / 2; // low bytes, then high ones
    const value = (_, i) => float16(data[i] | (data[count + i] << 8));
    return new Uint8Array(Float32Array.from({ length: count }, value).buffer);
  }

  function float16(bits) {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
    return bits & 32768 ? -size : size;
  }

  async function show(figure) {
    const name = figure.dataset.explorer;
    await load(name);
    const [module, values] = taken[name];
    for (const [trait, value] of Object.entries(values)) if (value?.gzip) values[trait] = await unpack(value);
    await load(module);
    const [el, still] = [document.createElement("div"), [...figure.childNodes]];
    figure.append(el);
    try {
      modules[module].render({ model: new Model(values), el });
    } catch (error) {
      el.remove();
      throw error;
    }
    still.forEach((node) => node.remove());
    figure.dataset.shown = "";
  }

  addEventListener("DOMContentLoaded", () => {
    const seen = ({ target }) => {
      near.unobserve(target);
      show(target).catch((error) => console.warn("The picture stays, its explorer failed:", error));
    };
    const near = new IntersectionObserver((entries) => entries.filter((entry) => entry.isIntersecting).forEach(seen), {
      rootMargin: "400px",
    });
    document.querySelectorAll("[data-explorer]").forEach((figure) => near.observe(figure));
  });

  return { modules, take: ([name, module, values]) => (taken[name] = [module, values]) };
})();
