"""Upload: parts of any files, in words; and in real front ends, zip files beyond what a server lets through at once."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from vit_tutorial.datasets import own_images
from vit_tutorial.widgets import Upload
from vit_tutorial.widgets.upload import Refused

pytest.register_assert_rewrite("front_ends")

import front_ends  # noqa: E402

HOSTILE = "<img src=x onerror=alert(1)>.png"
SCREENSHOTS = os.environ.get("SCREENSHOTS")


class Page:
    """What the page does: it sends names and sizes, then a part for each answer that asks for one."""

    def __init__(self, upload):
        self.upload, self.answers = upload, []
        upload.send = lambda content, buffers=None: self.answers.append((content["key"], content["have"]))

    def says(self, buffers=(), key="1", **content):
        self.upload._handle_custom_msg({"key": key, **content}, list(buffers))

    def sends(self, *files, part=1000, key="1"):
        whole = b"".join(data for _, data in files)
        self.says(key=key, files=[[name, len(data)] for name, data in files])
        while (have := self.answers[-1][1]) is not None:
            self.says([memoryview(whole)[have : have + part]], key=key, at=have)


def zipped(files, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def png(value):
    file = io.BytesIO()
    Image.effect_noise((24 + value, 24), 40 + value).save(file, "PNG")
    return file.getvalue()


PETS = {f"pets/{kind}/{n}.png": png(10 * n + len(kind)) for kind in ("cat", "horse") for n in range(3)}


def test_files_arrive_in_parts_are_named_and_stay():
    upload = Upload("image/*", "Pictures")
    assert upload.take() == [] and repr(upload) == "Upload('image/*', 'Pictures')"
    files = [("a.png", bytes(range(256)) * 10), ("empty.png", b""), (HOSTILE, b"1" * 1_234_567)]
    page = Page(upload)
    page.sends(*files, part=300_000)
    assert [have for _, have in page.answers] == [0, 300_000, 600_000, 900_000, 1_200_000, None]
    assert upload.take() == upload.take() == files  # the cell that reads them may run again
    said = ["a.png, 2.6 kB", "empty.png, 0.0 kB", f"{HOSTILE}, 1.2 MB", "Now run the next cell."]
    assert upload.message.split("\n") == said
    assert b"111" not in repr(upload.get_state()).encode()  # no notebook saves them
    page.sends(("b.png", b"other"))
    assert upload.take() == [("b.png", b"other")]


def test_a_zip_file_says_how_many_pictures_are_in_it_and_is_read():
    upload = Upload(".zip", "Zip file")
    Page(upload).sends(("pets.zip", zipped(PETS | {"pets/labels.csv": b"a,b", "pets/.hidden.png": b""})))
    assert upload.message == "pets.zip, 6.9 kB: 6 pictures\nNow run the next cell."
    assert own_images(upload.take()).images.classes == ("cat", "horse")
    Page(upload).sends(*[(f"{n}.zip", zipped({"a.png": b""})) for n in range(12)])
    assert upload.message.split("\n")[-3:] == ["7.zip, 0.1 kB: 1 picture", "and 4 more", "Now run the next cell."]


@pytest.mark.parametrize(
    "name, data, sentence",
    [
        ("half.zip", zipped(PETS)[:2000], "expected a complete zip file, found 'half.zip' broken"),
        ("no.zip", b"Dear diary", "expected a complete zip file, found 'no.zip' broken"),
        ("large.png", b"1" * 5001, "expected at most 5.0 kB, found 'large.png' with 5.0 kB; choose less"),
    ],
)
def test_what_is_refused_is_one_sentence_there_and_in_the_next_cell(name, data, sentence, capsys):
    from IPython.core.interactiveshell import InteractiveShell

    upload = Upload(".zip", "Zip file")
    page = Page(upload)
    page.sends(("good.png", b"good"))
    upload.most_bytes = 5000
    page.sends((name, data))
    assert upload.message.startswith(f"Nothing was taken: {sentence}") and "\n" not in upload.message
    with pytest.raises(ValueError, match=sentence.split("(")[0]):  # and not the file before it
        upload.take()
    shell = InteractiveShell()
    shell.user_ns["upload"] = upload
    capsys.readouterr()
    assert not shell.run_cell("upload.take()").success
    said = capsys.readouterr().out.strip()
    assert said.startswith(f"ValueError: {sentence}") and "\n" not in said
    page.sends(("good.png", b"good"))
    assert upload.take() == [("good.png", b"good")]


def test_a_file_that_is_too_large_is_refused_before_it_is_sent():
    page = Page(Upload(".zip", "Zip file"))
    page.says(files=[["a.zip", 60_000_000], ["b.zip", 60_000_000]])
    assert page.answers == [("1", None)]
    assert "expected at most 100.0 MB, found 'a.zip' and 1 more with 120.0 MB" in page.upload.message


def test_an_unfinished_upload_is_not_taken_for_none_and_a_cancelled_one_is():
    page = Page(Upload(".zip", "Zip file"))
    page.says(files=[["a.zip", 5_000_000]])
    page.says([bytes(2_000_000)], at=0)
    with pytest.raises(Refused, match="^expected a finished upload, found 2.0 MB of 5.0 MB; wait for it"):
        page.upload.take()
    page.says(stop=True)
    page.says([bytes(2_000_000)], at=2_000_000)  # it was on its way
    assert page.upload.take() == [] and page.answers == [("1", 0), ("1", 2_000_000)]
    page.sends(("b.png", b"b"), key="2")
    page.says([b"a"], at=0)
    assert page.upload.take() == [("b.png", b"b")]


def test_parts_out_of_order_are_left_out():
    page = Page(Upload("image/*", "Picture"))
    page.says(files=[["a.png", 4]])
    for at, data in ((2, b"cd"), (0, b"ab"), (0, b"ab"), (2, b"cd")):
        page.says([data], at=at)
    assert page.upload.take() == [("a.png", b"abcd")]


# ------------------------------------------------------------------------------------------------ in front ends

CELLS = [
    "from vit_tutorial.widgets import Upload\nupload = Upload('.zip', 'Zip file')\nupload",
    "import hashlib\nprint([(n, len(d), hashlib.md5(d).hexdigest()) for n, d in upload.take()])",
]


def photograph(page, name):
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / f"upload-{name}.png")


@pytest.fixture(
    scope="module", params=["lab", *(pytest.param(n, marks=pytest.mark.slow) for n in ("notebook7", "classic"))]
)
def opened(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("upload")
    with front_ends.open_notebook(request.param, front_ends.notebook_of(CELLS), folder) as opened:
        assert opened.errors == [None] * 3
        yield opened


def test_zip_files_of_40_megabytes_arrive(opened, tmp_path):
    from playwright.sync_api import expect

    page, root = opened.page, opened.page.locator(".vit-upload")
    opened.reveal(0)
    status, choose = root.get_by_role("status"), root.get_by_role("button", name="Choose files")

    def upload(path):
        with page.expect_file_chooser() as chooser:
            choose.click()
        chooser.value.set_files(path)

    def written(name, data, size=0):
        path = tmp_path / name
        path.write_bytes(data)
        os.truncate(path, max(size, len(data)))
        return path

    def run_next(result):
        page.get_by_text("hashlib").first.click()
        page.keyboard.press("Shift+Enter")
        expect(page.locator("body")).to_contain_text(result)

    expect(status).to_have_text("")
    photograph(page, f"{opened.front_end}-before")
    for megabytes in (12, 40):
        data = zipped(PETS | {"pets/large.bin": os.urandom(megabytes * 1_000_000)})
        upload(written(f"{HOSTILE[:-4]} {megabytes}.zip", data))
        expect(status).to_contain_text(f" {megabytes}.zip, {megabytes}.0 MB: 6 pictures\nNow run the next cell.")
        run_next(f"{megabytes}.zip', {len(data)}, '{hashlib.md5(data).hexdigest()}'")
        photograph(page, f"{opened.front_end}-{megabytes}")
    upload(written("slow.zip", b"PK", 99_000_000))
    expect(root.get_by_role("progressbar")).to_be_visible()
    photograph(page, f"{opened.front_end}-underway")
    root.get_by_role("button", name="Cancel").click()
    expect(status).to_have_text("Cancelled: nothing was uploaded.")
    run_next("[]")
    upload(written("broken.zip", b"PK", 3_000_000))
    expect(status).to_contain_text("Nothing was taken: expected a complete zip file, found 'broken.zip' broken")
    run_next("ValueError: expected a complete zip file, found 'broken.zip' broken")
    assert "Traceback" not in page.locator("body").inner_text()
    photograph(page, f"{opened.front_end}-broken")
    upload(written("huge.zip", b"PK", 120_000_000))
    expect(status).to_contain_text("expected at most 100.0 MB, found 'huge.zip' with 120.0 MB; choose less")
    photograph(page, f"{opened.front_end}-huge")
    assert root.locator("img").count() == 0
    front_ends.axe(page, root)
    front_ends.check_clean(page)
