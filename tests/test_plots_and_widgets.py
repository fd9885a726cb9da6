"""Figures and pictures: what they show, their alt text, and that they repeat byte for byte."""

import base64

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from vit_tutorial import course, plots, widgets
from vit_tutorial.training import History

PNG_START = b"\x89PNG"


@pytest.fixture
def shell():
    """IPython's shell, for this test alone: others find out whether there is one."""
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


def test_show_displays_a_png_with_alt_text(shell):
    fig, ax = plots.figure(3, 2)
    ax.plot([0, 1])
    with capture_output() as captured:
        plots.show(fig, "A straight line.")
    (output,) = captured.outputs
    assert output.data["text/plain"] == "[figure] A straight line."
    assert (
        base64.b64decode(output.data["image/png"])[:4] == PNG_START
        if isinstance(output.data["image/png"], str)
        else output.data["image/png"][:4] == PNG_START
    )
    assert output.metadata["image/png"] == {"alt": "A straight line.", "width": 3 * plots.DISPLAY_DPI}


def test_a_figure_repeats_byte_for_byte():
    assert plots.png(course.course_map(3)) == plots.png(course.course_map(3)) != plots.png(course.course_map(4))


def test_image_grid_shows_every_image_once():
    images = torch.randint(0, 256, (5, 3, 4, 4), dtype=torch.uint8)
    fig = plots.image_grid(images, titles=list("abcde"), columns=3)
    shown = [ax for ax in fig.axes if ax.images]
    assert len(fig.axes) == 6 and len(shown) == 5
    assert [ax.get_title() for ax in shown] == list("abcde")
    torch.testing.assert_close(
        torch.from_numpy(shown[4].images[0].get_array()).float(), images[4].permute(1, 2, 0).float() / 255
    )


def test_matrix_writes_its_numbers():
    fig, ax = plots.figure()
    plots.draw_matrix(ax, torch.tensor([[0.25, 1.0], [0.5, 0.0]]), rows="ab", columns="cd", decimals=2)
    assert [text.get_text() for text in ax.texts] == ["0.25", "1.00", "0.50", "0.00"]
    assert ax.texts[1].get_color() == "black" and ax.texts[3].get_color() == "white"  # yellow and purple behind


def test_attention_marks_the_query_patch():
    fig, ax = plots.figure()
    plots.draw_attention(ax, torch.zeros(3, 8, 12), torch.rand(6), (2, 3), query=4)
    (box,) = ax.patches
    assert box.get_xy() == (3.5, 3.5) and (box.get_width(), box.get_height()) == (4, 4)


def test_confusion_matrix_is_in_per_cent_of_the_true_class():
    fig = plots.confusion_matrix(torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0, 0, 0, 1, 1]), ("a", "b"))
    shown = torch.from_numpy(fig.axes[0].images[0].get_array().data)
    torch.testing.assert_close(shown.float(), torch.tensor([[75.0, 25.0], [0.0, 100.0]]))


@pytest.mark.parametrize("steps", [0, 5, 300])
def test_training_curve_of_any_length(steps):
    epochs = [{"epoch": 0, "test_accuracy": 0.1}, {"epoch": 1, "test_accuracy": 0.5}]
    history = History(steps={"loss": [1.0] * steps, "learning_rate": [0.1] * steps}, epochs=epochs)
    fig = plots.training_curve(history)
    assert fig.axes[1].lines[0].get_ydata().tolist() == [10.0, 50.0]
    assert plots.png(fig)[:4] == PNG_START


def draw(size, colour):
    fig, ax = plots.figure(size, size)
    ax.plot([0, 1], color=colour)
    return fig, f"A {colour} line in {size} inches."


def test_interactive_figure_follows_its_controls():
    picture = widgets.interactive_figure(draw, size=[2, 3, 4], colour=["red", "blue"])
    size, colour = picture.children[0].children
    assert picture.alt == "A red line in 3 inches."
    first = picture.png
    size.value, colour.value = 4, "blue"
    assert picture.alt == "A blue line in 4 inches." and picture.png != first
    assert picture.png[:4] == PNG_START
    assert base64.b64encode(picture.png).decode() in picture.figure_html.value


def test_a_picture_has_a_still_for_pages_without_widgets():
    picture = widgets.interactive_figure(draw, size=[2], colour=["red"])
    data, metadata = picture._repr_mimebundle_()
    assert base64.b64decode(data["image/png"]) == picture.png
    assert metadata["image/png"]["alt"] == picture.alt == data["text/plain"]
    assert repr(picture) == "Picture('A red line in 2 inches.')"


def test_alt_text_cannot_become_markup():
    picture = widgets.Picture()
    fig, _ = draw(2, "red")
    picture.draw(fig, '"><img src=x onerror=alert(1)>')
    assert "<img src=x" not in picture.figure_html.value
