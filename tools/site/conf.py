"""Sphinx's settings for the site; tools/build/website.py writes the folder in which this file is read."""

import inspect
import re
import tomllib
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from traitlets import HasTraits

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]

project = "Vision Transformers, built step by step"
author = PROJECT["authors"][0]["name"]
copyright = f"{author}. Code: MIT. Text and figures: CC BY 4.0"
version = release = PROJECT["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc"]
exclude_patterns = ["_templates", "extra"]
templates_path = ["_templates"]

nb_execution_mode = "off"
nb_merge_streams = True
nb_code_prompt_show = "Show the solution"
nb_code_prompt_hide = "Hide the solution"
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_inline"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
add_module_names = False
python_maximum_signature_line_length = 88

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["_static"]
html_extra_path = ["extra"]
html_css_files = ["explorer.css", "course.css"]
html_js_files = [("explorers.js", {"defer": "defer"})]
html_copy_source = False
html_show_search_summary = False  # a page opened from a folder may not fetch what a summary is made of
html_show_sourcelink = False
html_favicon = "_static/favicon.svg"
html_baseurl = ""
html_sidebars = {"index": [], "glossary": [], "figures": []}
html_theme_options = {
    "logo": {"text": "ViT, step by step"},
    "navbar_align": "left",
    "navbar_center": ["navbar-nav", "try-link"],
    "navbar_persistent": ["search-open"],
    "navbar_end": ["theme-switcher", "repository-link"],
    "search_bar_text": "Search the course",
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "primary_sidebar_end": [],
}
html_context = {
    "default_mode": "auto",
    "description": PROJECT["description"],
    "repository": REPOSITORY,
    "own_picture": (HERE / "extra" / "try").is_dir(),
}


# Formulas become MathML here, which browsers draw themselves: no script, nothing to wait for.
def inline_math(self, node):
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def display_math(self, node):
    self.body.append(f'<div class="math" tabindex="0">{convert(node.astext().strip(), display="block")}</div>')
    raise nodes.SkipNode


def as_text(paragraph):
    """Plain text as reStructuredText: what stands in backticks is code, and no other character means anything."""
    parts = re.split(r"(`[^`]+`)", paragraph)
    plain = [re.sub(r"([*_|\\])", r"\\\1", part) for part in parts[::2]]
    code = [f"\\ ``{part.strip('` ')}``\\ " for part in parts[1::2]]
    return "".join(text for pair in zip(plain, [*code, ""], strict=True) for text in pair)


def read_docstring(app, what, name, obj, options, lines):
    """Docstrings are plain text; what is indented in them is code."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines).rstrip())
    lines[:] = "\n\n".join(f"::\n\n{p}" if p.startswith("    ") else as_text(p) for p in paragraphs).split("\n")


def own_signature(app, what, name, obj, options, signature, returns):
    """What an explorer takes; Sphinx sees what its base class takes, which is anything."""
    if what == "class" and issubclass(obj, HasTraits):
        parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
        return str(inspect.Signature(parameters)), returns


def accessible(app, pagename, templatename, context, doctree):
    """A fold is called what it says: speech control finds it by its words. A long signature is a list of parameters."""
    body = context.get("body", "").replace(' aria-label="Toggle hidden content"', "")
    context["body"] = re.sub(r"<dl>\s*(<dd>.*?</dd>)\s*</dl>", parameters, body, flags=re.DOTALL)


def parameters(found):
    """The list of terms without terms that Sphinx makes of a long signature's parameters, as a plain list."""
    return f'<ul class="parameters">{found[1].replace("<dd>", "<li>").replace("</dd>", "</li>")}</ul>'


def setup(app):
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("autodoc-process-docstring", read_docstring)
    app.connect("autodoc-process-signature", own_signature)
    app.connect("html-page-context", accessible)


html_math_renderer = "mathml"
