// The words of the glossary are called "Glossary" in the search's results: here each gets its own name.
new MutationObserver((changes) => {
  for (const node of changes.flatMap(({ addedNodes }) => [...addedNodes])) {
    const link = node.nodeName === "LI" && node.querySelector("a[href*='#term-']");
    if (link) link.append(`: ${decodeURIComponent(link.hash.slice("#term-".length)).replaceAll("-", " ")}`);
  }
}).observe(document.getElementById("search-results"), { childList: true, subtree: true });
