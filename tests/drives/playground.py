"""AttentionPlayground: three tokens, one with a hostile name; arrows dragged by mouse and by keyboard."""

import math
import re

import torch
import torch.nn.functional as F
from front_ends import pixels, read_table
from playwright.sync_api import expect

HOSTILE = "<img src=x onerror=\"document.body.dataset.hacked='yes'\">"
NAMES = ["sky", HOSTILE, "zebra"]
Q, K, V = (
    [[0.0, 1.5], [0.5, 1.0], [-0.5, 0.0]],
    [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]],
    [[1.0, 0.2], [0.6, -0.5], [-0.4, 0.8]],
)
CELL = f"""
import torch
from vit_tutorial import widgets
widgets.AttentionPlayground(torch.tensor({Q}), torch.tensor({K}), torch.tensor({V}), names={NAMES!r})
"""


def attention(q, k, v, enlarged, temperature):
    """Scores, weights and new tokens, as torch computes them."""
    q, k, v = (torch.tensor(x, dtype=torch.float32) for x in (q, k, v))
    scores = enlarged * q @ k.T
    weights = F.softmax(scores / temperature, dim=-1)
    return scores, weights, weights @ v


def expected():
    return {"at first": attention(Q, K, V, 1, 1), "at d = 512": attention(Q, K, V, 16, math.sqrt(512))}


def drive(page, root, numbers):
    status, query = root.get_by_role("status"), root.get_by_label("Query", exact=True)
    width, tau = root.get_by_label("Width d", exact=True), root.get_by_label("Divide by τ", exact=True)
    tips = root.locator(".vit-tip")  # query and key of each token, then the values
    left, right = root.locator("canvas").nth(0), root.locator("canvas").nth(1)
    asked, soft, scores, weights, outputs = (root.locator("table").nth(i) for i in range(5))
    first_look = (pixels(left), pixels(right))

    def numbers_of(table):
        rows = [row[1:] for row in read_table(table)[1:]]  # without the heads
        return torch.tensor([[float(text) for text in row] for row in rows])

    def shows(computed, temperature=1.0):
        """All tables show these scores, weights and new tokens, to the last printed decimal."""
        for table, values, decimals in zip((scores, weights, outputs), computed, (2, 3, 2), strict=True):
            torch.testing.assert_close(numbers_of(table), values, atol=0.51 * 10**-decimals, rtol=0)
        token = int(query.input_value())
        row = computed[1][token]
        lines = read_table(asked)[1:]
        for j, line in enumerate(lines[:-1]):
            shown = torch.tensor([float(text) for text in line[2:5]])
            score = computed[0][token, j]
            wanted = torch.stack([score, score / temperature, row[j]])
            torch.testing.assert_close(shown, wanted, atol=0.0051, rtol=0)
        assert lines[-1][4] == "1.000"
        new = torch.tensor([float(text) for text in lines[-1][5].split(",")])
        torch.testing.assert_close(new, computed[2][token], atol=0.0051, rtol=0)
        facts = torch.stack([row.max(), torch.special.entr(row).sum(), (row * (1 - row)).sum()])
        torch.testing.assert_close(numbers_of(soft)[:, 0], facts, atol=0.00051, rtol=0)

    def placed():
        """Where the tips are, as their names tell: q, k and v."""
        labels = tips.evaluate_all("(tips) => tips.map((tip) => tip.getAttribute('aria-label'))")
        places = [[float(x) for x in re.search(r"\(([-.\d]+), ([-.\d]+)\)$", label).groups()] for label in labels]
        return places[0:6:2], places[1:6:2], places[6:]

    def drag(tip, dx, dy):
        box = tip.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + dx, y + dy, steps=4)
        page.mouse.up()

    root.locator(".vit-body").scroll_into_view_if_needed()
    expect(query).to_have_value("0")
    shows(numbers["at first"])
    assert left.evaluate("(canvas) => getComputedStyle(canvas).touchAction") == "none"

    # The mouse: a query, a key and a value. A query that is taken hold of is asked about.
    drag(tips.nth(2), 30, 20)
    expect(query).to_have_value("1")
    drag(tips.nth(5), 40, -25)
    drag(tips.nth(7), -20, -35)
    q, k, v = placed()
    assert q[0] == Q[0] and k[:2] == K[:2] and v[0] == V[0], "the other tips stay"
    assert q[1][0] > Q[1][0] and q[1][1] < Q[1][1] and k[2][0] > K[2][0] and v[1][1] > V[1][1]
    shows(attention(q, k, v, 1, 1))
    assert pixels(left) != first_look[0] and pixels(right) != first_look[1]
    scores.locator("tbody tr").nth(2).click()
    expect(query).to_have_value("2")
    drag(tips.nth(8), 2000, 0)  # no further than the plane
    assert placed()[2][2][0] < 4
    shows(attention(*placed(), 1, 1))

    # The keyboard.
    tips.nth(6).focus()
    before = placed()[2][0]
    for key in ("ArrowRight", "ArrowRight", "Shift+ArrowDown"):
        page.keyboard.press(key)
    expect(tips.nth(6)).to_have_attribute("aria-label", f"value sky ({before[0] + 0.1:.2f}, {before[1] - 0.5:.2f})")
    expect(status).to_contain_text(f"Moving value sky ({before[0] + 0.1:.2f}, {before[1] - 0.5:.2f}).")
    page.keyboard.press("Tab")
    expect(tips.nth(7)).to_be_focused()
    page.keyboard.press("Enter")
    expect(query).to_have_value("1")
    shows(attention(*placed(), 1, 1))
    query.focus()
    page.keyboard.press("ArrowUp")
    expect(query).to_have_value("0")
    tau.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    shows(attention(*placed(), 1, 0.5**0.5), 0.5**0.5)

    # The root of d, by mouse and by keyboard; it follows the width.
    reset = root.get_by_role("button", name="Reset")
    reset.focus()
    page.keyboard.press("Enter")
    assert placed() == (Q, K, V)
    by_root, by_one = root.get_by_role("button", name="τ = √d"), root.get_by_role("button", name="τ = 1")
    by_root.click()
    expect(by_root).to_have_attribute("aria-pressed", "true")
    width.focus()
    page.keyboard.press("End")
    expect(width).to_have_attribute("aria-valuetext", "512")
    shows(numbers["at d = 512"], math.sqrt(512))
    by_one.click()
    expect(by_one).to_have_attribute("aria-pressed", "true")
    shows(attention(Q, K, V, 16, 1))
    most = numbers_of(weights)[0].max()
    assert most > 0.999
    expect(status).to_contain_text(f"sky takes most from zebra: {most:.3f}.")
    width.focus()
    page.keyboard.press("Home")
    expect(by_one).to_have_attribute("aria-pressed", "true")
    shows(numbers["at first"])

    # A hostile name stays text.
    assert read_table(weights)[2][0] == HOSTILE
    assert root.locator("img").count() == 0
    assert page.locator("body").get_attribute("data-hacked") is None
