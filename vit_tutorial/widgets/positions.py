"""PositionExplorer: how similar the position embeddings of any two places of the grid are."""

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from traitlets import Bool, Bytes, Int, List, Unicode, validate

from ..interpret.recording import parts, readable
from ..layers import interpolate_positions, sinusoidal_positions
from ..model import ViTConfig
from ..plots import COLOURS, draw_matrix
from .explorer import Explorer, float_bytes, module

LEAST, MOST = 4, 24  # longer sides of the grids offered, besides the model's own
MAPS = 8  # at most so many small maps in a row of the figure; the page has room for more
PLAIN = (768, (14, 14))  # width and grid without a model: those of ViT-B/16


class PositionExplorer(Explorer):
    """Point at a place of the grid and see how similar its position embedding is to that of every other place.

        PositionExplorer(model)   # a model with learned or rotary positions: ours, timm's, torchvision's
        PositionExplorer()        # without either

    Measured by cosine similarity: 1 is the same direction, 0 nothing in common, -1 opposite. What is shown can be read
    and set. `kind` is "learned" (on another grid than the model's, as `interpolate_positions` makes them), "sinusoidal"
    (`sinusoidal_positions` of the same width and grid), "none" (all places share one vector) or "all" three, side by
    side; where a model adds no positions and turns by them, "rotary" stands in the place of "learned". `rows` says
    which grid, from 4 to 24 rows, its columns in proportion to the model's. `place` is the index of the chosen place,
    row by row from 0. Colours run from -1 to 1, or, if `stretched`, from the lowest similarity of the grid. The class
    token's own position lies nowhere in the grid and is left out.

    Raises `ValueError` for a model with neither, a width that is no multiple of 4, and for a kind, grid or
    place that there is not.
    """

    _esm = module("positions.js")

    vectors = Bytes().tag(sync=True)  # (N, K) float32: the learned positions, turned into K = min(N, D) dimensions
    matrices = Bytes().tag(sync=True)  # float32, for each grid: (rows, trained rows), then (columns, trained columns)
    wave = Bytes().tag(sync=True)  # float32: along one axis, the similarity of sinusoids 0, 1, 2, ... places apart
    turns = Bytes().tag(sync=True)  # float32, for each grid: rotary ones' similarity 0, 1, ... rows and columns apart
    grids = List(List(Int())).tag(sync=True)  # [rows, columns] of the grids offered
    trained = List(Int()).tag(sync=True)  # rows and columns of the model's grid
    kinds = List(Unicode()).tag(sync=True)
    kind = Unicode().tag(sync=True)
    rows = Int().tag(sync=True)
    place = Int().tag(sync=True)
    stretched = Bool(False).tag(sync=True)
    numbers = Bool(False).tag(sync=True)

    def __init__(self, model=None, **view):
        kinds = ["sinusoidal", "none"]
        self._width, trained, vectors = *PLAIN, b""
        model = model if model is None else readable(model)
        self._rope = rotary_alone(model)
        if self._rope is not None:
            self._width, trained = len(parts(model).filters), tuple(model.patch_embed.grid_size)
            kinds = ["rotary", *kinds]
        elif model is not None:
            positions, trained = learned_positions(model), tuple(model.patch_embed.grid_size)
            self._width, kinds = positions.shape[-1], ["learned", *kinds]
            self._learned = positions.detach().float().cpu()[:, -trained[0] * trained[1] :]  # (1, N, D)
            # Similarities stay when all vectors are turned alike, and N vectors fit into N dimensions: fewer to send.
            vectors = float_bytes(torch.linalg.qr(self._learned[0].double().T).R.T)
        most = max(MOST, *trained)
        grids = [[rows, max(1, round(rows * trained[1] / trained[0]))] for rows in range(1, most + 1)]
        grids = [grid for grid in grids if LEAST <= max(grid) <= most or grid == list(trained)]
        longest = max(map(max, grids))
        half = sinusoidal_positions(self._width, (1, longest))[0, :, : self._width // 2]  # (longest, D/2): the columns
        super().__init__(
            vectors=vectors,
            matrices=b"".join(
                float_bytes(resampling(old, new)) for grid in grids for old, new in zip(trained, grid, strict=True)
            ),
            wave=float_bytes(F.cosine_similarity(half[:1], half)),
            turns=b"".join(self._turns(side) for grid in grids for side in ((grid[0], 1), (1, grid[1]))),
            grids=grids,
            trained=list(trained),
            kinds=kinds,
            **{"kind": kinds[0], "rows": trained[0], "place": middle(view.get("rows", trained[0]), grids)} | view,
        )

    @validate("kind", "rows", "place")
    def _exists(self, proposal):
        name, value = proposal["trait"].name, proposal["value"]
        offered = {
            "kind": [*self.kinds, "all"],
            "rows": [rows for rows, _ in self.grids],
            "place": range(self.rows * self._grid[1]),
        }[name]
        if value not in offered:
            listed = f"0 to {offered[-1]}" if name == "place" else f"one of {offered}"
            raise ValueError(f"expected {name} to be {listed}, found {value!r}")
        return value

    def __repr__(self):
        rows, columns = self.trained
        return f"PositionExplorer({' and '.join(self.kinds[:-1])}, {rows} x {columns} places, width {self._width})"

    @property
    def _grid(self):
        return next(((r, c) for r, c in self.grids if r == self.rows), tuple(self.trained))

    def _turns(self, line):
        """Along one axis, a grid of one row or column, the similarity of rotary positions 0, 1, ... places apart."""
        if self._rope is None:
            return b""
        pos = self._rope.get_embed(shape=list(line)).float().cpu()  # (places, 2d); along the other axis all are alike
        return float_bytes(2 * F.cosine_similarity(pos[:1], pos) - 1)

    def _similarities(self, kind):
        """Each place of the grid with each: `(N, N)`."""
        if kind == "none":
            return torch.ones(2 * [self._grid[0] * self._grid[1]])
        if kind == "sinusoidal":
            pos = sinusoidal_positions(self._width, self._grid)
        elif kind == "rotary":
            pos = self._rope.get_embed(shape=list(self._grid))[None].float().cpu()
        else:
            pos = interpolate_positions(self._learned, tuple(self.trained), self._grid)
        unit = F.normalize(pos[0], dim=-1)
        return unit @ unit.T

    def figure(self):
        rows, columns = self._grid
        row, column = divmod(min(self.place, rows * columns - 1), columns)
        kinds = self.kinds if self.kind == "all" else [self.kind]
        many = len(kinds) > 1
        step = -(-max(rows, columns) // MAPS)  # between the places that have a small map
        fig = Figure(figsize=(9.4, 6.6 if many else 4.6), layout="constrained")
        axes = fig.subplots(2, len(kinds), squeeze=False) if many else fig.subplots(1, 2)[:, None]
        for kind, (main, overview) in zip(kinds, axes.T, strict=True):
            sim = self._similarities(kind)
            stretched = self.stretched and kind != "none"
            colours = {"colour_map": "viridis" if stretched else "PuOr_r", "vmin": sim.min() if stretched else -1}
            title = f"{kind}, {rows} x {columns}: row {row + 1}, column {column + 1}"
            one = sim[row * columns + column].reshape(rows, columns)
            drawn = draw_matrix(main, one, title, numbers=False, vmax=1, **colours)
            main.plot(column, row, "o", color=COLOURS[5], markeredgecolor="black", markersize=7)
            fig.colorbar(drawn, ax=main, location="bottom", shrink=0.7, aspect=30, label="cosine similarity")
            maps = sim.reshape(rows, columns, rows, columns)[::step, ::step]
            maps = F.pad(maps, (0, 1, 0, 1), value=float("nan")).permute(0, 2, 1, 3).flatten(2, 3).flatten(0, 1)
            title = "maps of all places" if step == 1 else f"maps of places {step} apart"
            draw_matrix(overview, maps, title, numbers=False, vmax=1, interpolation="nearest", **colours)
        named = f"{', '.join(kinds[:-1])} and {kinds[-1]}" if many else kinds[0]
        return fig, (
            f"Cosine similarity of the place in row {row + 1}, column {column + 1} of a grid of {rows} x {columns} to "
            f"every place ({named} positions), and beside it small maps of other places."
        )


def position_kind(model):
    """What a model of ours or timm's adds to its tokens, as `ViTConfig.position` says it."""
    config = getattr(model, "config", None)
    kind = config.position if isinstance(config, ViTConfig) else "learned"
    return "none" if parts(model).positions is None else kind


def rotary_alone(model):
    """The rotary positions of a model that adds none, where all blocks share them and every grid has them; or None."""
    rope = None if model is None or position_kind(model) != "none" else getattr(model, "rope", None)
    fits = rope is not None and rope.get_embed(shape=[2, 3]).shape[:-1] == (6,)
    return rope if fits else None


def learned_positions(model):
    """The learned positions `(1, N, D)` of a model of ours or timm's. Raises `ValueError` where it has none."""
    kind = position_kind(model)
    if kind == "none" and getattr(model, "rope", None) is not None:
        kind = "rotary"
    if kind != "learned":
        raise ValueError(
            "expected a VisionTransformer with learned positions, or rotary ones that all blocks share and every grid "
            f"has, found position={kind!r}; PositionExplorer() shows sinusoids without any model"
        )
    return parts(model).positions


def resampling(old, new):
    """The matrix `(new, old)` by which `interpolate_positions` makes `new` places in a line out of `old`."""
    return interpolate_positions(torch.eye(old)[None], (old, 1), (new, 1))[0]


def middle(rows, grids):
    """A place up and left of the middle, where one sees that it is neither the middle nor an edge."""
    columns = next((c for r, c in grids if r == rows), 1)
    return (3 * rows // 8) * columns + columns // 4
