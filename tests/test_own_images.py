"""A reader's own pictures: all that can be read, a reason for all that cannot, and copies kept together."""

import io
import os
import random
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch
from made_up_pictures import saved, scene
from PIL import Image, ImageOps

from vit_tutorial import datasets
from vit_tutorial.datasets import sources
from vit_tutorial.datasets.copies import distances, fingerprint


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


def two_classes(count=10):
    return {f"{name}/{i}.png": saved(scene(100 * c + i)) for c, name in enumerate(("cat", "dog")) for i in range(count)}


# ------------------------------------------------------------------------------------------------ what is read

TURNED = Image.Exif()
TURNED[0x0112] = 6  # to be shown a quarter turn clockwise
GREY16 = Image.fromarray(np.asarray(scene(1).convert("L")).astype(np.uint16) * 257)
HIDDEN = Image.merge("RGBA", (*scene(2).split(), Image.new("L", (80, 60), 0)))
RED = Image.new("RGB", (8, 8), "red")
KINDS = {
    "turned.jpg": (saved(scene(1), "JPEG", quality=95, exif=TURNED), scene(1).transpose(Image.Transpose.ROTATE_270)),
    "grey.png": (saved(scene(1).convert("L")), scene(1).convert("L")),
    "grey16.png": (saved(GREY16), scene(1).convert("L")),
    "grey16.tif": (saved(GREY16, "TIFF"), scene(1).convert("L")),
    "cmyk.jpg": (saved(scene(1).convert("CMYK"), "JPEG", quality=95), scene(1)),
    "see-through.png": (saved(HIDDEN), Image.new("RGB", (80, 60), "white")),
    "photo.webp": (saved(scene(1), "WEBP", lossless=True), scene(1)),
    "moving.gif": (saved(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))]), RED),
    "no suffix": (saved(scene(1)), scene(1)),
    "MISNAMED.PNG": (saved(scene(1), "BMP"), scene(1)),
    "large.jpg": (saved(scene(1, (3000, 2250)), "JPEG", quality=90), scene(1, (3000, 2250))),
}


@pytest.mark.filterwarnings("error")
def test_pictures_of_every_kind_are_read(tmp_path, capfd):
    write(tmp_path, {f"a/{name}": data for name, (data, _) in KINDS.items()} | {"b/1.png": saved(scene(3))})
    found = datasets.own_images(tmp_path, 32)
    assert found.skipped == () and len(found) == len(KINDS) + 1
    for name, (_, picture) in KINDS.items():
        square = ImageOps.fit(picture.convert("RGB"), (32, 32), Image.Resampling.BILINEAR)
        expected = torch.from_numpy(np.array(square)).permute(2, 0, 1).int()
        image = found.images.images[found.names.index(f"a/{name}")].int()
        assert (image - expected).abs().float().mean() < 4, name
    assert capfd.readouterr() == ("", "")


def test_image_folder_reads_upright_and_on_white_too(tmp_path):
    for name in ("turned.jpg", "see-through.png"):
        file = write(tmp_path, {name: KINDS[name][0]}) / name
        assert datasets.read_image(file).shape[1:] == KINDS[name][1].size[::-1]
    assert datasets.read_image(file, 16).unique().tolist() == [255]
    assert datasets.read_image(str(file), (8, 4)).shape == (3, 8, 4)


BROKEN = {
    "cat/half.png": (saved(scene(5))[:2000], "broken"),
    "cat/half.jpg": (saved(scene(5), "JPEG")[:1200], "broken"),
    "cat/empty.jpg": (b"", "no PNG, JPEG"),
    "cat/phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "HEIC"),
    "dog/page.html": (b"<script>alert(1)</script>", "no PNG, JPEG"),
    "dog/script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no PNG, JPEG"),
    "dog/\x1b[31mred\n.jpg": (b"x", "no PNG, JPEG"),
    "loose.png": (saved(scene(6)), "in no class folder"),
    ".DS_Store": (b"x", "hidden"),
    "__MACOSX/cat/._1.png": (b"x", "hidden"),
    "cat/Thumbs.db": (b"x", "hidden"),
}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
@pytest.mark.parametrize("source", ["folder", "zip file", "upload"])
def test_every_file_is_read_or_listed_with_a_reason(tmp_path, source):
    files = two_classes() | {name: data for name, (data, _) in BROKEN.items()}
    if source == "folder":
        found = datasets.own_images(write(tmp_path, files))
    elif source == "zip file":
        (tmp_path / "pets.zip").write_bytes(zipped(files))
        found = datasets.own_images(tmp_path / "pets.zip")
    else:
        found = datasets.own_images([("pets.zip", zipped(files))])
    prefix = "" if source == "folder" else "pets/"
    names = [*found.names, *(name for name, _ in found.skipped)]
    one_folder = {"__MACOSX/cat/._1.png": "__MACOSX"} if source == "folder" else {}
    wanted = {prefix + sources.printable(one_folder.get(name, name)) for name in files}
    assert sorted(names) == sorted(wanted) and len(found) == 20
    reasons = dict(found.skipped)
    for name, (_, reason) in BROKEN.items():
        assert reason in reasons[prefix + sources.printable(one_folder.get(name, name))], name
    report = found.report()
    assert "half.png: broken" in report and "\x1b" not in report and "3 hidden files" in report
    assert "Skipped, of 31 files:" in report and "and 1 more" in found.report(most=7)
    assert repr(found) == "OwnImages(20 pictures in 2 classes, 11 skipped)"


def test_links_are_not_followed_out_of_the_folder(tmp_path):
    inside = write(tmp_path / "pets", two_classes(2))
    secret = write(tmp_path / "private", {"me.png": saved(scene(9))})
    try:
        (inside / "more").symlink_to(secret)
        (inside / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("no links on this system")
    os.mkfifo(inside / "cat" / "pipe.png") if hasattr(os, "mkfifo") else None
    found = datasets.own_images(inside)
    assert len(found) == 4 and {"more", "cat/gone.png"} <= {name for name, _ in found.skipped}


LAYOUTS = {
    "nested": ({"pets/all/cat/a/1.png": 0, "pets/all/cat/b/2.png": 1, "pets/all/dog/3.png": 2}, ("cat", "dog"), 3),
    "train and test": ({"train/cat/1.png": 0, "train/dog/1.png": 1, "test/cat/1.png": 2}, ("cat", "dog"), 3),
    "a file beside": ({"pets/cat/1.png": 0, "pets/dog/1.png": 1, "pets/cover.png": 2}, ("cat", "dog"), 2),
    "markup": ({"<img src=x onerror=alert(1)>/1.png": 0, "$a$/1.png": 1}, ("$a$", "<img src=x onerror=alert(1)>"), 2),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_classes_are_the_folders_and_stay_text(layout):
    files, classes, count = LAYOUTS[layout]
    found = datasets.own_images([("x.zip", zipped({name: saved(scene(i)) for name, i in files.items()}))], 16)
    assert found.images.classes == classes and len(found) == count


def test_one_zip_file_a_class():
    files = [
        (f"{name}.zip", zipped({f"{i}.png": saved(scene(i + start)) for i in range(3)}))
        for name, start in (("cats", 0), ("dogs", 50))
    ]
    found = datasets.own_images([*files, ("single.png", saved(scene(1)))], 16)
    assert found.images.classes == ("cats", "dogs") and len(found) == 6
    assert found.skipped == (("single.png", "in no class folder"),)


# ------------------------------------------------------------------------------------------------ what is refused


def test_a_zip_file_leads_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = two_classes(2)
    data = io.BytesIO(zipped(good))
    with zipfile.ZipFile(data, "a") as archive:
        for name in ("../evil.png", "/evil.png", "C:/evil.png", "cat/../../evil.png", "..\\evil.png"):
            archive.writestr(name, saved(scene(7)))
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    found = datasets.own_images([("pets.zip", data.getvalue())], 16)
    assert len(found) == 4 and len(found.skipped) == 6
    reasons = [reason for _, reason in found.skipped]
    assert reasons.count("a path that leads out of the zip file") == 5 and reasons.count("a link") == 1
    assert list(tmp_path.iterdir()) == []  # nothing is written


def test_an_encrypted_or_damaged_member_is_listed():
    data = bytearray(zipped(two_classes(3)))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        first, second = archive.infolist()[:2]
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1  # the first member: encrypted
    start = second.header_offset + 30 + len(second.filename) + 40
    data[start : start + 40] = bytes(40)
    found = datasets.own_images([("pets.zip", bytes(data))], 16)
    reasons = dict(found.skipped)
    assert reasons[f"pets/{first.filename}"] == "encrypted" and "unpacked" in reasons[f"pets/{second.filename}"]
    assert len(found) == 4


def png_bomb(side):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_bombs_are_refused(monkeypatch):
    files = two_classes(2) | {"cat/a.png": png_bomb(60_000), "cat/b.png": png_bomb(9_000)}
    found = datasets.own_images([("pets.zip", zipped(files))], 16)
    assert len(found) == 4 and all("decompression bomb" in reason for _, reason in found.skipped)
    monkeypatch.setattr(sources, "MOST_BYTES", 50_000)
    found = datasets.own_images([("pets.zip", zipped(two_classes(2) | {"cat/zeros.png": bytes(60_000)}))], 16)
    assert [name for name, _ in found.skipped] == ["pets/cat/zeros.png"] and "larger than" in found.skipped[0][1]
    monkeypatch.setattr(sources, "MOST_ZIP_BYTES", 200_000)
    with pytest.raises(ValueError, match="at most 100,000 files and 0 GB unpacked, found 15 and 0.0 GB in 'pets.zip'"):
        datasets.own_images([("pets.zip", zipped({f"cat/{i}.png": bytes(20_000) for i in range(15)}))])
    monkeypatch.setattr(sources, "MOST_FILES", 3)
    with pytest.raises(ValueError, match="at most 3 files and .* found 4 and"):
        datasets.own_images([("pets.zip", zipped(two_classes(2)))])


def test_hostile_zip_files_never_get_through():
    """Any damage ends in a ValueError, or in pictures and reasons."""
    chance, good = random.Random(0), zipped(two_classes(2))
    for _ in range(60):
        data = bytearray(good)
        for _ in range(chance.randrange(1, 9)):
            place = chance.randrange(len(data)) if chance.random() < 0.5 else -chance.randrange(1, 300)
            data[place] ^= chance.randrange(1, 256)
        try:
            found = datasets.own_images([("pets.zip", bytes(data))], 8)
            assert len(found) == len(found.groups) == len(found.images)
        except ValueError as error:
            assert str(error).startswith("expected")


BAD_SOURCES = {
    "nothing there": (lambda path: path / "none", "a zip file of one, found none at .*none"),
    "a picture": (lambda path: write(path, {"a.png": saved(scene(1))}) / "a.png", "a zip file of one, found none"),
    "empty": (lambda path: path, "at least 2 folders, one per class, with pictures in them, found 0; put"),
    "one class": (lambda path: write(path, {"cat/1.png": saved(scene(1))}), r"found 1 \(cat\); put each class"),
    "no class folders": (
        lambda path: write(path, {f"{i}.png": saved(scene(i)) for i in range(4)}),
        "found 0; 4 files were skipped: 0.png: in no class folder",
    ),
    "broken zip": (lambda path: [("a.zip", b"PK\x03\x04 no")], "a complete zip file, found 'a.zip' broken"),
    "nothing uploaded": (lambda path: [], "at least 2 folders"),
}


@pytest.mark.parametrize("make, message", BAD_SOURCES.values(), ids=BAD_SOURCES.keys())
def test_a_bad_source_is_told_what_was_expected(tmp_path, make, message):
    with pytest.raises(ValueError, match=message):
        datasets.own_images(make(tmp_path))


# ------------------------------------------------------------------------------------------------ copies and splits

COPIES = {
    "same bytes": lambda picture: saved(picture),
    "JPEG": lambda picture: saved(picture, "JPEG", quality=50),
    "smaller WebP": lambda picture: saved(picture.reduce(2), "WEBP", quality=60),
    "larger": lambda picture: saved(picture.resize((200, 150))),
    "mirrored": lambda picture: saved(ImageOps.mirror(picture), "JPEG", quality=75),
    "brighter": lambda picture: saved(picture.point(lambda v: min(255, int(1.1 * v)))),
    "turned, with the note": lambda picture: saved(
        picture.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=TURNED
    ),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_are_found(kind):
    files = two_classes() | {"cat/copy": COPIES[kind](scene(3))}
    found = datasets.own_images([("pets.zip", zipped(files))])
    copies = [sorted(found.names[i] for i in index) for index in found.copies()]
    assert copies == [["pets/cat/3.png", "pets/cat/copy"]] and len(found.groups.unique()) == 20
    sign = "=" if kind == "same bytes" else "~"
    assert f"pets/cat/3.png {sign} pets/cat/copy" in found.report() and "20 different pictures" in found.report()


def test_one_picture_in_two_classes_is_reported():
    files = two_classes(3) | {"dog/wrong.png": saved(scene(0))}
    assert "(in several classes: which is right?)" in datasets.own_images([("pets.zip", zipped(files))]).report()


def test_distances_know_mirrors_and_ignore_brightness():
    images = torch.stack([torch.from_numpy(np.array(scene(i))).permute(2, 0, 1) for i in range(3)])
    prints = fingerprint(images)
    assert prints.shape == (3, 3, 8, 8) and distances(prints, prints).diagonal().max() < 1e-3
    assert distances(prints, fingerprint(images.flip(3))).diagonal().max() < 1e-3
    assert distances(prints, fingerprint(images // 2)).diagonal().max() < 0.05
    assert distances(prints, fingerprint(images.flip(2))).min() > 0.5
    plain = torch.tensor([[200, 0, 0], [0, 0, 200]], dtype=torch.uint8).view(2, 3, 1, 1).expand(-1, -1, 9, 9)
    assert distances(fingerprint(plain), fingerprint(plain))[0, 1] > 1  # without contrast, colours differ all the same


def test_groups_are_chained_over_blocks():
    prints = torch.randint(0, 256, (1500, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prints[1400], prints[700] = prints[2], prints[1400]
    groups = datasets.find_copies(prints)
    assert groups[2] == groups[700] == groups[1400] and len(groups.unique()) == 1498


@pytest.mark.parametrize("seed", range(5))
def test_splits_keep_groups_whole_and_classes_on_both_sides(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (70,), generator=generator)
    groups = 100 * labels + torch.randint(0, 9, (70,), generator=generator)  # none in two classes
    train, test = datasets.split_groups(labels, groups, 0.25, seed)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(70)) and 8 <= len(test) <= 27
    fold = datasets.fold_groups(labels, groups, 4, seed)
    sides = [(train, test)] + [((fold != k).nonzero()[:, 0], (fold == k).nonzero()[:, 0]) for k in range(4)]
    for first, second in sides:
        assert not set(groups[first].tolist()) & set(groups[second].tolist())
        assert labels[first].unique().tolist() == labels[second].unique().tolist() == [0, 1, 2]
    other = datasets.fold_groups(labels, groups, 4, seed + 1)
    assert not torch.equal(fold, other) and torch.equal(fold, datasets.fold_groups(labels, groups, 4, seed))


def test_two_classes_of_ten_are_enough():
    found = datasets.own_images([("pets.zip", zipped(two_classes()))], 16)
    train, test = found.split()
    assert found.images.labels[test].bincount().tolist() == [2, 2] and len(train) == 16
    fold = found.folds(5)
    assert all(found.images.labels[fold == k].bincount().tolist() == [2, 2] for k in range(5))
    assert found.at(32).images.shape == (20, 3, 32, 32) and found.at((8, 4)).image_size == (8, 4)


def test_a_large_group_stays_in_training():
    labels, groups = torch.zeros(20, dtype=torch.int64), torch.tensor([0] * 12 + list(range(1, 9)))
    _, test = datasets.split_groups(labels, groups)
    assert len(test) == 4 and test.min() >= 12


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, g: datasets.split_groups(x, g * 0), "2 different pictures in each class, found 1 in class 0"),
        (lambda x, g: datasets.fold_groups(x, g * 0), "copies of one picture count once"),
        (lambda x, g: datasets.split_groups(x, g, 1.0), "holdout between 0 and 1, found 1.0"),
        (lambda x, g: datasets.fold_groups(x, g, 1), "at least 2 folds, found 1"),
    ],
)
def test_a_split_that_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(6, dtype=torch.int64), torch.arange(6))


def test_the_example_has_what_the_notebook_tells_about(tmp_path):
    datasets.example_folder(tmp_path)
    found = datasets.own_images(tmp_path)
    assert found.images.classes == ("heart", "moon", "star") and len(found) == 44
    assert [name for name, _ in found.skipped] == ["star/IMG_1099.jpg", "star/notes.txt"]
    assert [len(index) for index in found.copies()] == [2, 2]
    with (
        Image.open(tmp_path / "heart" / "IMG_1001.jpg") as turned,
        Image.open(tmp_path / "star" / "IMG_1002.jpg") as ink,
    ):
        assert turned.height > turned.width and turned.getexif()[0x0112] == 6 and ink.mode == "CMYK"
    again = tmp_path / "again"
    datasets.example_folder(again)
    assert all((again / n).read_bytes() == (tmp_path / n).read_bytes() for n in found.names)
