"""AttentionPlayground: what it takes, what it computes, what the page may set, and the picture in its place."""

import base64

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vit_tutorial.widgets import AttentionPlayground

TOKENS = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])


def random_vectors(N):
    return torch.randn(3, N, 2, generator=torch.Generator().manual_seed(N)).unbind()


@pytest.mark.parametrize("N", [2, 3, 5])
@pytest.mark.parametrize("temperature", [0.3, 1, 2**0.5])
def test_computes_attention(N, temperature):
    q, k, v = random_vectors(N)
    explorer = AttentionPlayground(q, k, v, temperature=temperature)
    assert_close(explorer.weights, F.softmax(q @ k.T / temperature, dim=-1))
    assert_close(explorer.outputs, F.softmax(q @ k.T / temperature, dim=-1) @ v)
    assert explorer.names == [f"token {i + 1}" for i in range(N)]


def test_divided_by_the_root_of_d_weights_are_the_same_at_every_width():
    q, k, v = random_vectors(4)
    expected = F.scaled_dot_product_attention(q, k, v)
    for width in (2, 8, 512):
        assert_close(AttentionPlayground(q, k, v, width=width, temperature=width**0.5).outputs, expected)


def test_scores_are_as_large_as_those_of_d_random_numbers():
    generator = torch.Generator().manual_seed(0)
    narrow = AttentionPlayground(*torch.randn(3, 2, 2, generator=generator).unbind())
    q, k = torch.randn(2, 20_000, 512, generator=generator)
    measured = (q * k).sum(dim=1).std() / (q[:, :2] * k[:, :2]).sum(dim=1).std()
    before = narrow.scores
    narrow.width = 512
    assert_close(narrow.scores / before, torch.full((2, 2), 16.0))
    assert abs(measured - 16) < 0.5


def test_example_is_that_of_notebook_03():
    explorer = AttentionPlayground()
    assert_close(explorer.scores, TOKENS @ torch.tensor([[0.0, 3.0], [0.0, 0.0]]) @ TOKENS.T)
    assert explorer.names == ["sky", "cloud", "zebra"]
    assert not explorer.one_view


def test_one_view_moves_together():
    explorer = AttentionPlayground(TOKENS, names=["sky", "cloud", "zebra"])
    assert_close(explorer.outputs, F.softmax(TOKENS @ TOKENS.T, dim=-1) @ TOKENS)
    explorer.k = TOKENS.flip(0)
    assert torch.equal(explorer.q, TOKENS.flip(0)) and torch.equal(explorer.v, TOKENS.flip(0))


def test_vectors_travel_exactly_and_come_back():
    q, k, v = random_vectors(3)
    explorer = AttentionPlayground(q, k, v)
    state = explorer.get_state()
    assert torch.equal(torch.tensor(state["q"]), q) and state["start"] == [q.tolist(), k.tolist(), v.tolist()]
    explorer.set_state({"k": [[0, 0], [0.5, -1], [2, 3]], "query": 2, "temperature": 2.0, "width": 8})
    assert torch.equal(explorer.k, torch.tensor([[0.0, 0.0], [0.5, -1.0], [2.0, 3.0]]))
    assert_close(explorer.weights, F.softmax(q @ explorer.k.T * 2 / 2, dim=-1))
    explorer.v = [[1, 2], [3, 4], [5, 6]]
    assert explorer.v.dtype == torch.float32 and explorer.start[2] == v.tolist()


@pytest.mark.parametrize(
    ("arguments", "view", "message"),
    [
        ([torch.zeros(3, 3)], {}, r"expected queries of shape \(N, 2\), .* found \(3, 3\); a token is drawn"),
        ([torch.zeros(6, 2)], {}, r"two to five tokens, found \(6, 2\)"),
        ([torch.zeros(1, 2)], {}, r"found \(1, 2\)"),
        ([torch.full((3, 2), torch.nan)], {}, "finite"),
        ([TOKENS, TOKENS], {}, "expected queries, keys and values, found some of them; pass all three"),
        ([TOKENS, TOKENS[:2], TOKENS], {}, "found 3 queries, 2 keys, 3 values and 3 names"),
        ([TOKENS], {"names": ["sky"]}, "3 values and 1 names"),
        ([], {"query": 3}, "expected query to be a token from 0 to 2, found 3"),
        ([], {"width": 3}, "expected width to be a power of 2 from 2 to 512, found 3"),
        ([], {"temperature": 0}, "expected temperature to be a number above 0, found 0"),
        ([], {"temperature": torch.inf}, "expected temperature to be a number above 0, found inf"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, view, message):
    with pytest.raises(ValueError, match=message):
        AttentionPlayground(*arguments, **view)


def test_a_refused_value_changes_nothing():
    explorer = AttentionPlayground(TOKENS)
    for name, value in {
        "q": torch.zeros(4, 2),
        "k": torch.zeros(3),
        "query": -1,
        "width": 0,
        "temperature": -1,
    }.items():
        before = getattr(explorer, name)
        with pytest.raises(ValueError, match="expected"):
            setattr(explorer, name, value)
        assert torch.equal(torch.as_tensor(getattr(explorer, name)), torch.as_tensor(before))


@pytest.mark.parametrize("names", [["sky", "cloud", "zebra"], ["$\\frac$", "<img src=x>" * 20, "_^{"]])
@pytest.mark.parametrize("one_view", [True, False])
def test_a_picture_stands_in_without_an_address(names, one_view, recwarn):
    vectors = [TOKENS] if one_view else random_vectors(3)
    explorer = AttentionPlayground(*vectors, names=names, query=1)
    data, metadata = explorer._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == f"AttentionPlayground({', '.join(names)})"
    assert not [warning for warning in recwarn if not issubclass(warning.category, DeprecationWarning)]  # others' own
    weight = F.softmax(explorer.q @ explorer.k.T, dim=-1)[1, 2]
    assert f"{weight:.2f} to {names[2]}." in metadata["image/png"]["alt"]


def test_the_stand_in_shows_the_weights():
    explorer = AttentionPlayground(temperature=0.5)
    fig, _ = explorer.figure()
    assert_close(torch.as_tensor(fig.axes[2].images[0].get_array()), explorer.weights)
