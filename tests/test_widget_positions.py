"""PositionExplorer: what it sends gives torch's similarities, what it refuses, the picture that stands in for it."""

import base64

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vit_tutorial import VisionTransformer, ViTConfig, interpolate_positions, sinusoidal_positions
from vit_tutorial.widgets import PositionExplorer


def model_of(grid, width, pool="cls", **options):
    torch.manual_seed(0)
    sides = tuple(4 * side for side in grid)
    return VisionTransformer(ViTConfig(sides, 4, embed_dim=width, depth=1, num_heads=1, pool=pool, **options))


def similarities(pos):
    """Each row of pos (1, N, D) with each: (N, N)."""
    return torch.stack([F.cosine_similarity(one, pos[0], dim=-1) for one in pos[0]])


def floats(data):
    return torch.from_numpy(np.frombuffer(data, "<f4").copy())


def learned_in_the_page(explorer, rows):
    """The similarities (N, N) that the page computes from the bytes that were sent."""
    R, C = explorer.trained
    vectors = floats(explorer.vectors).reshape(R, C, -1)
    matrices, used = floats(explorer.matrices), 0
    for found, columns in explorer.grids:
        down = matrices[used : used + found * R].reshape(found, R)
        across = matrices[used + found * R : used + found * R + columns * C].reshape(columns, C)
        used += down.numel() + across.numel()
        if found == rows:
            places = torch.einsum("ir,jc,rck->ijk", down, across, vectors)
    assert used == len(matrices)
    return similarities(places.flatten(0, 1)[None])


@pytest.mark.parametrize("pool", ["cls", "mean"])
@pytest.mark.parametrize(("grid", "width"), [((8, 8), 128), ((14, 14), 768), ((6, 9), 8), ((2, 2), 4), ((26, 26), 64)])
def test_the_page_computes_torchs_similarities_on_every_grid(grid, width, pool):
    model = model_of(grid, width, pool)
    explorer = PositionExplorer(model)
    assert list(grid) in explorer.grids and explorer.rows == grid[0]
    for rows, columns in explorer.grids[:: len(explorer.grids) // 3] + explorer.grids[-1:] + [list(grid)]:
        table = interpolate_positions(model.pos_embed.detach(), grid, (rows, columns))[:, -rows * columns :]
        torch.testing.assert_close(learned_in_the_page(explorer, rows), similarities(table), atol=1e-4, rtol=0)
        explorer.kind, explorer.rows = "learned", rows
        torch.testing.assert_close(explorer._similarities("learned"), similarities(table), atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [4, 64, 768])
def test_two_axes_of_the_sinusoids_make_the_grid(width):
    wave = floats(PositionExplorer(model_of((4, 6), width)).wave)
    y, x = torch.meshgrid(torch.arange(16), torch.arange(24), indexing="ij")
    y, x = y.flatten(), x.flatten()
    found = (wave[(y[:, None] - y).abs()] + wave[(x[:, None] - x).abs()]) / 2
    expected = similarities(sinusoidal_positions(width, (16, 24)))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_grids_keep_the_shape_of_the_image_and_stay_small():
    assert PositionExplorer(model_of((8, 8), 8)).grids == [[side, side] for side in range(4, 25)]
    wide = PositionExplorer(model_of((2, 64), 8)).grids
    assert wide == [[1, 32], [2, 64]]
    assert [30, 30] in PositionExplorer(model_of((30, 30), 8)).grids
    explorer = PositionExplorer(model_of((14, 14), 768))
    assert len(explorer.vectors) == 4 * 196**2 and len(explorer.matrices) < 40_000  # not 4 * 196 * 768


def test_without_a_model_there_is_nothing_learned():
    explorer = PositionExplorer()
    assert explorer.kinds == ["sinusoidal", "none"] and explorer.kind == "sinusoidal" and explorer.rows == 14
    assert repr(explorer) == "PositionExplorer(sinusoidal, 14 x 14 places, width 768)"
    assert explorer.figure()[1].endswith("(sinusoidal positions), and beside it small maps of other places.")


@pytest.mark.parametrize(
    ("source", "view", "message"),
    [
        (lambda: torch.nn.Linear(2, 2), {}, "expected a VisionTransformer .* found Linear; convert"),
        (lambda: model_of((4, 4), 8, position="sinusoidal"), {}, "found position='sinusoidal'"),
        (lambda: model_of((4, 4), 6), {}, "multiple of 4 .* found 6"),
        (lambda: None, {"kind": "learned"}, r"kind to be one of \['sinusoidal', 'none', 'all'\], found 'learned'"),
        (lambda: None, {"rows": 3}, r"rows to be one of \[4, 5, .* found 3"),
        (lambda: None, {"rows": 4, "place": 16}, "place to be 0 to 15, found 16"),
    ],
)
def test_what_there_is_not_is_refused(source, view, message):
    with pytest.raises(ValueError, match=message):
        PositionExplorer(source(), **view)


def test_a_view_that_there_is_not_changes_nothing():
    explorer = PositionExplorer(model_of((8, 8), 8), place=63)
    for name, value in {"kind": "rotary", "rows": 25, "place": -1}.items():
        with pytest.raises(ValueError, match=f"expected {name} to be"):
            setattr(explorer, name, value)
    assert (explorer.kind, explorer.rows, explorer.place) == ("learned", 8, 63)
    explorer.rows = 4  # place 63 is gone; the picture shows the last one
    assert "row 4, column 4 of a grid of 4 x 4" in explorer.figure()[1]


def test_the_stand_in_shows_the_maps():
    model = model_of((8, 8), 16)
    explorer = PositionExplorer(model, place=19)
    fig, alt = explorer.figure()
    table = interpolate_positions(model.pos_embed.detach(), (8, 8), (8, 8))[:, 1:]
    shown = fig.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, similarities(table)[19].reshape(8, 8), atol=1e-5)
    small = fig.axes[1].images[0].get_array()  # each small map is followed by a white line
    np.testing.assert_allclose(small[2 * 9 : 2 * 9 + 8, 3 * 9 : 3 * 9 + 8], shown, atol=1e-5)
    assert alt.startswith(
        "Cosine similarity of the place in row 3, column 4 of a grid of 8 x 8 to every place (learned"
    )


@pytest.mark.parametrize("kind", ["learned", "sinusoidal", "none", "all"])
@pytest.mark.parametrize("stretched", [False, True])
def test_a_picture_stands_in_without_an_address(kind, stretched):
    explorer = PositionExplorer(model_of((8, 8), 16), kind=kind, rows=14, stretched=stretched)
    data, metadata = explorer._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "PositionExplorer(learned and sinusoidal, 8 x 8 places, width 16)"
    assert "row 6, column 4 of a grid of 14 x 14" in metadata["image/png"]["alt"]
