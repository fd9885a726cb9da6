"""Copy the first figure of notebook 00 to where the README shows it: `python tools/readme_picture.py`."""

import base64

import nbformat

from vit_tutorial.files import ROOT


def main():
    notebook = nbformat.read(ROOT / "notebooks" / "00_start_here.ipynb", as_version=4)
    figures = (output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output)
    picture = next(data["image/png"] for data in figures if "image/png" in data)
    (ROOT / "notebooks" / "images" / "trained_vit_at_work.png").write_bytes(base64.b64decode(picture))


if __name__ == "__main__":
    main()
