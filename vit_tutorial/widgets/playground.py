"""AttentionPlayground: a few tokens as arrows in the plane; drag them, and attention follows."""

import math
from itertools import combinations

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from traitlets import Bool, Float, Int, List, TraitType, Unicode, observe, validate

from ..plots import COLOURS, draw_matrix
from .explorer import Explorer, module

WIDTHS = [2**power for power in range(1, 10)]  # 2, 4, ..., 512
NAMES = ("sky", "cloud", "zebra")  # described by how bright and how striped they are, as in notebook 03
TOKENS = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])  # (N, 2)
QUERIES = torch.tensor([[0.0, 3.0], [0.0, 2.7], [0.0, 0.0]])  # what is bright looks for stripes, the zebra for nothing
VALUES = torch.tensor([[1.0, 0.2], [0.6, -0.5], [-0.4, 0.8]])


def in_plane(name, vectors):
    """`vectors` as a float32 tensor (N, 2)."""
    vectors = torch.as_tensor(vectors, dtype=torch.float32).detach().cpu()
    if vectors.ndim != 2 or vectors.shape[1] != 2 or not 2 <= len(vectors) <= 5 or not vectors.isfinite().all():
        raise ValueError(
            f"expected {name} of shape (N, 2), finite, for two to five tokens, found {tuple(vectors.shape)}; "
            "a token is drawn as an arrow in the plane, so it has two numbers"
        )
    return vectors


class Vectors(TraitType):
    """A tensor (N, 2), float32; on the page a list of pairs, which JSON carries exactly."""

    def __init__(self):
        super().__init__(torch.zeros(2, 2))
        self.tag(sync=True, to_json=lambda value, _: value.tolist(), from_json=lambda value, _: torch.tensor(value))

    def validate(self, obj, value):
        return in_plane(self.name, value)


class AttentionPlayground(Explorer):
    """Two to five tokens as arrows in the plane: drag them, and scores, weights and new tokens follow.

        AttentionPlayground()                              # sky, cloud and zebra of notebook 03
        AttentionPlayground(queries, keys, values, names)  # (N, 2) each
        AttentionPlayground(tokens, names=names)           # one view: tokens are their own queries, keys and values

    What is shown can be read and set: `q`, `k` and `v`, tensors `(N, 2)`; `query`, the index of the token whose row is
    shown; `temperature`, above 0, by which scores are divided; and `width`, a power of 2 from 2 to 512. A score is a
    sum of d products, where d is the width of a query, and the typical size of such a sum grows with the square root of
    d. So with `width` d the scores of the two numbers are multiplied by sqrt(d / 2): they are as large as those of d
    numbers.

    Raises `ValueError` for vectors of another shape, and where their numbers or the names do not fit together.
    """

    _esm = module("playground.js")

    names = List(Unicode()).tag(sync=True)
    q = Vectors()
    k = Vectors()
    v = Vectors()
    start = List().tag(sync=True)  # q, k and v as they came, for Reset
    one_view = Bool().tag(sync=True)  # q, k and v are one and move together
    query = Int().tag(sync=True)
    width = Int(2).tag(sync=True)
    temperature = Float(1.0).tag(sync=True)

    def __init__(self, queries=None, keys=None, values=None, names=None, **view):
        given = [vectors is not None for vectors in (queries, keys, values)]
        if given not in ([False, False, False], [True, False, False], [True, True, True]):
            raise ValueError(
                "expected queries, keys and values, found some of them; "
                "pass all three, or the tokens alone to use them as all three, or nothing for an example"
            )
        if not any(given):
            queries, keys, values, names = QUERIES, TOKENS, VALUES, names or NAMES
        one_view = keys is None
        if one_view:
            keys = values = queries
        q, k, v = in_plane("queries", queries), in_plane("keys", keys), in_plane("values", values)
        names = [f"token {i + 1}" for i in range(len(q))] if names is None else list(names)
        counts = [len(q), len(k), len(v), len(names)]
        if len(set(counts)) > 1:
            raise ValueError(
                "expected as many queries as keys, values and names, one of each for a token, "
                "found {} queries, {} keys, {} values and {} names".format(*counts)
            )
        self._count = len(q)
        start = [x.tolist() for x in (q, k, v)]
        super().__init__(names=names, start=start, one_view=one_view, q=q, k=k, v=v, **view)

    @validate("q", "k", "v")
    def _same_count(self, proposal):
        if len(proposal.value) != self._count:
            raise ValueError(f"expected {self._count} vectors, one for each token, found {len(proposal.value)}")
        return proposal.value

    @validate("query", "width", "temperature")
    def _in_range(self, proposal):
        name, value = proposal.trait.name, proposal.value
        fits, expected = {
            "query": (0 <= value < self._count, f"a token from 0 to {self._count - 1}"),
            "width": (value in WIDTHS, "a power of 2 from 2 to 512"),
            "temperature": (0 < value < math.inf, "a number above 0"),
        }[name]
        if not fits:
            raise ValueError(f"expected {name} to be {expected}, found {value}")
        return value

    @observe("q", "k", "v")
    def _move_together(self, change):
        if self.one_view:
            for name in "qkv":
                if not torch.equal(getattr(self, name), change.new):
                    setattr(self, name, change.new)

    @property
    def scores(self):
        """(N, N): query i with key j, as large as at `width`; not yet divided by the temperature."""
        return self.q @ self.k.T * (self.width / 2) ** 0.5

    @property
    def weights(self):
        """The attention weights (N, N); each row sums to 1."""
        return (self.scores / self.temperature).softmax(dim=-1)

    @property
    def outputs(self):
        """The new tokens (N, 2): row i is the mean of the values, weighted by row i of the weights."""
        return self.weights @ self.v

    def __repr__(self):
        return f"AttentionPlayground({', '.join(self.names)})"

    def figure(self):
        short = [name if len(name) <= 14 else f"{name[:13]}…" for name in self.names]
        names = [name.replace("$", r"\$") for name in short]  # no formulas
        fig = Figure(figsize=(9.4, 3.0), layout="constrained")
        left, middle, right = fig.subplots(1, 3, width_ratios=[1, 1, 1.15])
        if self.one_view:
            draw_plane(left, "tokens", [(names, self.q, "-")])
        else:
            asking, found = [f"q {name}" for name in names], [f"k {name}" for name in names]
            draw_plane(left, "queries, keys (dashed)", [(asking, self.q, "-"), (found, self.k, "--")])
        new = [f"new {name}" if i == self.query else "" for i, name in enumerate(names)]  # the others would cover it
        title = "new tokens, tokens (dashed)" if self.one_view else "new tokens, values (dashed)"
        draw_plane(middle, title, [(names, self.v, "--"), (new, self.outputs, "-")], shaded=self.v)
        draw_matrix(right, self.weights, "weights", names, names, vmin=0, vmax=1)
        row = [f"{weight:.2f} to {name}" for name, weight in zip(self.names, self.weights[self.query], strict=True)]
        return fig, (
            f"{self._count} tokens as arrows in the plane, their new tokens as arrows among the values, and the matrix "
            f"of weights. {self.names[self.query]} gives {', '.join(row)}."
        )


def window(vectors):
    """A square around the vectors (n, 2) and the origin, with some room: `(left, bottom, side)`."""
    points = torch.cat([vectors, torch.zeros(1, 2)])
    low, high = points.amin(0), points.amax(0)
    span = (high - low).max().item()
    side = 1.24 * span + min(1, span or 1)
    left, bottom = ((low + high - side) / 2).tolist()
    return left, bottom, side


def draw_plane(ax, title, kinds, shaded=None):
    """Arrows from the origin: `kinds` are (names, vectors (N, 2), line style). Behind them the hull of `shaded`."""
    left, bottom, side = window(torch.cat([vectors for _, vectors, _ in kinds]))
    ax.set(xlim=(left, left + side), ylim=(bottom, bottom + side), aspect="equal")
    ax.set_title(title, fontsize=10)
    ax.locator_params(nbins=4)
    ax.tick_params(length=0, labelsize=8)
    ax.axhline(0, color="#CCCCCC", linewidth=1)
    ax.axvline(0, color="#CCCCCC", linewidth=1)
    ax.spines[:].set_visible(False)
    if shaded is not None:
        for corners in combinations(shaded.tolist(), min(3, len(shaded))):  # all their triangles together are the hull
            ax.add_patch(Polygon(corners, facecolor="#E0E0E0", edgecolor="#E0E0E0", linewidth=4, joinstyle="round"))
    for names, vectors, style in kinds:
        thick, fill = (1.5, "none") if style == "--" else (2.5, "full")
        for name, (x, y), colour in zip(names, vectors.tolist(), COLOURS, strict=False):
            ax.plot([0, x], [0, y], color=colour, linestyle=style, linewidth=thick)
            ax.plot(x, y, "o", color=colour, markersize=5, fillstyle=fill)
            below = y <= 0 or name.startswith("new ")  # where the name of another that ends there would cover it
            ax.annotate(
                name, (x, y), (8, -12) if below else (5, 4), textcoords="offset points", color=colour, fontsize=9
            )
