"""The course as a static site: `make site` writes it to build/site. It can be hosted anywhere, or opened from a folder.

    python tools/build/website.py                     all notebooks
    python tools/build/website.py 00 09 --out FOLDER  those whose names start so

The pages are the built notebooks, with their outputs; links to notebooks that are not in the site lead to the
repository. Explorers answer without a kernel (tools/build/live_explorers.py), formulas are MathML, nothing comes
from another host. build/site-source is what Sphinx reads: tools/site, and what is written here from the notebooks.

A notebook that fails when it is run for its explorers has a page all the same: the built one, with still pictures. That
is said as it happens and again at the end, and the exit status stays 0, for the site is whole without them.
"""

import argparse
import base64
import html
import io
import re
import shutil
import warnings
from pathlib import Path
from unittest import mock

import live_explorers
import nbformat
import notebooks
import own_picture_page
from PIL import Image
from sphinx.cmd.build import main as sphinx

from vit_tutorial import datasets, weights, widgets
from vit_tutorial.files import CHECKPOINT
from vit_tutorial.widgets.explorer import STATIC

ROOT = notebooks.ROOT
BUILD = ROOT / "build"
SITE = ROOT / "tools" / "site"
PACKAGE = ROOT / "vit_tutorial"
REPOSITORY = notebooks.repository()
BADGE = re.compile(r"\[!\[Open in Colab\]\([^)]*\)\]\(([^)]*)\)")
HIDE = {"solution": "hide-input", "setup": "remove-cell"}  # what myst-nb does with the course's tags
LINK = re.compile(r"\]\((?:notebooks/)?((\d\d)_\w+)\.ipynb")
API = ("layers", "model", "modern", "weights", "datasets", "training", "interpret")
API += ("plots", "drawings", "course", "widgets", "check")


def course():
    """Number, title, file name, minutes and aim of each notebook, from the table in README.md."""
    return notebooks.minutes.COURSE_ROW.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def with_links(text, names):
    """Markdown whose links to notebooks that are not among `names` lead to the repository."""
    address = f"{REPOSITORY}/blob/main/notebooks/"
    return LINK.sub(lambda m: m[0] if m[1] in names else f"]({address}{m[1]}.ipynb", text)


# ------------------------------------------------------------------------------------------ a notebook's page


def picture_html(address, image, alt, width, loading="lazy"):
    """An <img> of a PNG with the place that it takes."""
    with Image.open(io.BytesIO(image)) as opened:
        height = round(opened.height * width / opened.width)
    return f'<img src="{address}" alt="{html.escape(alt)}" width="{width}" height="{height}" loading="{loading}">'


def page(notebook, stem, names, explorers, pictures):
    """The notebook as the site shows it; its pictures go into `pictures` as (name, PNG, alt)."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            cell.source = with_links(BADGE.sub(lambda badge: actions(stem, badge[1]), cell.source), names)
        if cell.cell_type == "code":
            tags = cell.metadata.get("tags", [])
            cell.metadata.tags = [*tags, *(HIDE[tag] for tag in tags if tag in HIDE)]
        shown = 0
        for output in cell.get("outputs", []):
            if "image/png" not in output.get("data", {}):
                continue
            name = f"{stem}-{number}" + (f"-{shown}" if shown else "")
            about, image = output.metadata["image/png"], base64.b64decode(output.data["image/png"])
            live = f' data-explorer="{name}"' if number in explorers and not shown else ""
            picture = picture_html(f"../figures/{name}.webp", image, **about)
            made = f'<div class="course-figure" id="{name}"{live}>{picture}</div>'
            pictures.append((name, image, about["alt"]))
            output.data, output.metadata = nbformat.from_dict({"text/html": made}), nbformat.from_dict({})
            shown += 1
    return notebook


def actions(stem, colab):
    """What stands below the title in place of the badge."""
    badge = f'<a href="{colab}">Open in Colab</a> ' if colab.startswith("https://") else ""  # no address is set
    return (
        f'<p class="page-actions">{badge}'
        f'<a href="{stem}.ipynb" download>Download</a> '
        f'<a href="{REPOSITORY}/blob/main/notebooks/source/{stem}.py">Source</a></p>'
    )


# ------------------------------------------------------------------------------------------ pages made from others


def figures_page(pictures, titles):
    """The index of figures: a thumbnail and the alt text of each, under its notebook."""
    text = ["# Figures", "", "Every figure of the course, with its description. Each leads to its place.", ""]
    last = None
    for name, _, alt in pictures:
        stem = name.split("-")[0]
        if stem != last:
            text += ["", f"## {titles[stem]}", ""]
            last = stem
        small = f'<img src="figures/small/{name}.webp" alt="" loading="lazy" width="320" height="160">'
        link = f'<a href="notebooks/{stem}.html#{name}">{small}<figcaption>{html.escape(alt)}</figcaption></a>'
        text.append(f'<figure class="thumbnail">{link}</figure>')
    return "\n".join(text) + "\n"


def course_table(names):
    """The notebooks with minutes and aims, as Markdown."""
    rows = ["| | notebook | minutes | afterwards you can |", "|---|---|---:|---|"]
    for number, title, stem, minutes, aim in course():
        rows.append(f"| {number} | [{title}](notebooks/{stem}.ipynb) | {minutes} | {aim} |")
    return with_links("\n".join(rows), names)


def api_pages(folder):
    """One page for each module of the package."""
    for module in API:
        name = f"vit_tutorial.{module}"
        inherited = ["   :imported-members:"] if (PACKAGE / module).is_dir() else []  # a package lists others' names
        text = [f"# {name}", "", "```{eval-rst}", f".. automodule:: {name}", "   :members:", *inherited, "```", ""]
        (folder / f"{module}.md").write_text("\n".join(text), encoding="utf-8")


def landing_explorer():
    """The explorer of the landing page: the shipped ViT looks at a photograph."""
    model = weights.load(CHECKPOINT)
    cat, sharp = (datasets.sample_image("cat", side)[None] for side in (32, 256))
    with mock.patch.object(widgets.attention, "EXACT_BYTES", 0):
        return widgets.AttentionExplorer(model, cat, sharp)


# ------------------------------------------------------------------------------------------ all of it


def write(folder, texts):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def explorer_module(name):
    """An explorer's ES module as a script that a page from file:// may load."""
    text = widgets.explorer.module(f"{name}.js")
    body, end = text.split("export default { render };")
    return f"(() => {{\n{body}\nvitExplorers.modules.{name} = {{ render }};\n{end}}})();\n"


def build(out, prefixes=(), own_picture=True, source=BUILD / "site-source", cache=BUILD / "site-explorers"):
    """Write the site of the notebooks whose names start with one of `prefixes` (all without) into the folder `out`.

    `own_picture` says whether the page on which a picture of one's own is tried belongs to it. An earlier site in the
    folder is replaced; a folder that holds something else is left alone, with a `ValueError`. Returns the names of the
    notebooks that failed when they were run for their explorers.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / "searchindex.js").is_file():
        raise ValueError(
            f"expected an empty folder or an earlier site, found other files in {out}; name another folder"
        )
    sources = notebooks.find_sources(list(prefixes))
    names = {path.stem for path in sources}
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(SITE, source, ignore=shutil.ignore_patterns("try"))
    shutil.copy(ROOT / "pyproject.toml", source)
    shutil.copy(STATIC / "explorer.css", source / "_static")
    explorers = [path.stem for path in STATIC.glob("*.js") if "export default" in path.read_text(encoding="utf-8")]
    scripts = {f"{name}.js": explorer_module(name) for name in explorers}
    live, pictures, failures = notebook_pages(source / "notebooks", sources, cache)

    explorer = landing_explorer()
    bundle, about = explorer._repr_mimebundle_()
    still = base64.b64decode(bundle["image/png"])
    scripts |= live | {"landing.js": live_explorers.as_script("landing", explorer.get_state())}
    fill = {
        "{repository}": REPOSITORY,
        "{count}": str(len(course())),
        "{try}": '<a class="call quiet" href="try/index.html">Try your own picture</a>' if own_picture else "",
        "{course table}": course_table(names),
        "{notebook files}": "\n".join(f"notebooks/{name}" for name in sorted(names)),
        "{first picture}": picture_html("figures/landing.webp", still, **about["image/png"], loading="eager"),
    }
    for name in ("index.md", "course.md", "glossary.md"):
        text = (source / name).read_text(encoding="utf-8")
        for mark, value in fill.items():
            text = text.replace(mark, value)
        write(source, {name: with_links(text, names)})
    titles = {stem: f"{number} · {title}" for number, title, stem, *_ in course()}
    write(source, {"figures.md": figures_page(pictures, titles)})
    write(source / "_static" / "explorers", scripts)
    api_pages(source / "api")
    beside(source / "extra", sources, [*pictures, ("landing", still, "")])
    if own_picture:
        own_picture_page.build(source / "extra" / "try")
    run_sphinx(source, out)
    return failures


def notebook_pages(folder, sources, cache):
    """Write the notebooks' pages into `folder`.

    Returns the explorers' scripts {name: text}, the pictures [(name, PNG, alt)], and the names of the notebooks whose
    run for their explorers failed.
    """
    names = {path.stem for path in sources}
    scripts, pictures, failures = {}, [], []
    for path in sources:
        notebook, live = nbformat.read(notebooks.target(path), as_version=4), {}
        try:
            live = live_explorers.explorer_scripts(path, notebook, cache)
        except notebooks.BuildError as error:
            failures.append(path.stem)
            print(f"{path.stem} keeps its still pictures, for its run failed: {error}", flush=True)
        scripts |= {f"{path.stem}-{number}.js": text for number, text in live.items()}
        shown = page(notebook, path.stem, names, live, pictures)
        write(folder, {f"{path.stem}.ipynb": nbformat.writes(shown)})
    return scripts, pictures, failures


def run_sphinx(source, out):
    """Make the site `out` anew from the folder `source`; raises `SystemExit` where Sphinx finds faults."""
    shutil.rmtree(out, ignore_errors=True)
    with warnings.catch_warnings(action="ignore"):  # of Python: what its extensions use and Sphinx will give up
        failed = sphinx(["-W", "--keep-going", "-q", "-E", "-d", str(source / ".doctrees"), str(source), str(out)])
    if failed:
        raise SystemExit("Sphinx found faults: see above")
    for path in (out / "_static").rglob("*"):
        if path.suffix in (".map", ".html"):  # the theme's own, which no page uses
            path.unlink()


def beside(folder, sources, pictures):
    """What stands beside Sphinx's pages: the notebooks to download, and the pictures."""
    for name in ("notebooks", "figures/small"):
        (folder / name).mkdir(parents=True)
    for path in sources:
        shutil.copy(notebooks.target(path), folder / "notebooks")
    for name, image, _ in pictures:
        with Image.open(io.BytesIO(image)) as opened:
            small = opened.convert("RGB")
            small.save(folder / "figures" / f"{name}.webp", lossless=True)
            small.thumbnail((640, 400))
            small.save(folder / "figures" / "small" / f"{name}.webp", quality=70)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", metavar="NN", help="only the notebooks whose names start so")
    parser.add_argument("--out", type=Path, default=BUILD / "site", help="folder to write (default build/site)")
    options = parser.parse_args()
    notebooks.warn_of_address()
    try:
        failures = build(options.out, options.prefixes)
    except (ValueError, OSError, notebooks.BuildError) as error:
        raise SystemExit(str(error)) from None
    print(f"Wrote {options.out / 'index.html'}")
    if failures:
        print(f"Without live explorers, for their runs failed (see above): {', '.join(failures)}")


if __name__ == "__main__":
    main()
