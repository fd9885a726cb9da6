"""Classes, sides and groups: from folders under any name, and from tables."""

import io
import os
import unicodedata
import zipfile

import pytest
import torch
from made_up_pictures import saved, scene

from vit_tutorial import datasets


def write(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return folder


def scenes(*names, start=0):
    return {name: saved(scene(start + i)) for i, name in enumerate(names)}


class Stored(zipfile.ZipInfo):
    """A member whose name is stored as bytes, with no word about their encoding."""

    def _encodeFilenameFlags(self):
        return self.raw, self.flag_bits


def zip_of(files, encoding):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            info = Stored("x")
            info.raw = name.encode(encoding)
            archive.writestr(info, content)
    return data.getvalue()


# ------------------------------------------------------------------------------------------------ names

NAMES = {
    "gbk": ("小猫/图一.png", "小猫/2.png", "小狗/图三.png", "小狗/4.png"),
    "cp932": ("犬/写真.png", "犬/ソース.png", "猫/3.png", "猫/四.png"),
    "cp437": ("café/1.png", "café/2.png", "thé/3.png", "thé/4.png"),
    "cp866": ("кошка/1.png", "кошка/2.png", "собака/3.png", "собака/4.png"),
    "utf-8": ("café/1.png", "café/猫.png", "thé/3.png", "thé/4.png"),
}


@pytest.mark.parametrize("encoding", NAMES)
def test_names_in_zip_files_are_read_in_their_encoding(encoding):
    names = NAMES[encoding]
    found = datasets.own_images([("pets.zip", zip_of(scenes(*names), encoding))], 16)
    assert set(found.names) == {f"pets/{name}" for name in names}
    assert ("do not say their encoding" in found.report()) == (encoding != "utf-8")


def test_names_in_no_usual_encoding_are_said_to_be_damaged():
    names = ("\u25a0\u00b2a/1.png", "\u25a0\u00b2a/2.png", "b/3.png", "b/4.png")
    found = datasets.own_images([("pets.zip", zip_of(scenes(*names), "cp437"))], 16)
    assert len(found) == 4 and "damaged: zip the folder anew" in found.report()


@pytest.mark.skipif(os.name == "nt", reason="its file system has one form")
@pytest.mark.parametrize("side", ["val", "Test", "validation", "holdout"])
def test_one_name_in_two_forms_is_one_class(tmp_path, side):
    for folder, form in (("train", "NFC"), (side, "NFD")):
        files = scenes("café/1.png", "café/2.png", "thé/1.png", "thé/2.png", start=10 * len(folder))
        write(tmp_path / folder, {unicodedata.normalize(form, name): data for name, data in files.items()})
    found = datasets.own_images(tmp_path, 16)
    assert found.images.classes == ("café", "thé") and found.sides.count("test") == 4
    train, test = found.split()
    assert len(train) == len(test) == 4 and all("train/" in found.names[i] for i in train)
    assert datasets.image_folder(tmp_path, "test", 16).classes == ("café", "thé")
    with pytest.raises(ValueError, match="without sides of their own for cross-validation, found 4 for training and 4"):
        found.folds(2)


def test_classes_are_in_the_order_that_people_count():
    names = [f"{i}/{j}.png" for i in range(1, 13) for j in range(2)]
    found = datasets.own_images([("x.zip", zipfile_of(scenes(*names)))], 8)
    assert found.images.classes == tuple(str(i) for i in range(1, 13))


def zipfile_of(files):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


PLACES = {
    "sides above": (("train/a/1.png", "train/b/1.png", "valid/a/1.png", "valid/b/1.png"), 2),
    "sides below": (("a/training/1.png", "b/training/1.png", "a/test/1.png", "b/test/1.png"), 2),
    "sides deep inside": (("x/y/train/a/1.png", "x/y/train/b/1.png", "x/y/val/a/1.png", "x/y/val/b/1.png"), 2),
    "two test sides": (("train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/1.png", "test/a/2.png"), 3),
    "a text beside": (("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png", "docs/a/read.txt"), 2),
    "sides in words": (
        ("x/training_set/a/1.png", "x/training_set/b/1.png", "x/Test Set/a/1.png", "x/Test Set/b/1.png"),
        2,
    ),
    "sides twice": (("s_train/s_train/a/1.png", "s_train/s_train/b/1.png", "s_test/s_test/a/1.png"), 1),
    "sides of a year": (("train2017/a/1.png", "train2017/b/1.png", "val2017/a/1.png", "val2017/b/1.png"), 2),
    "no side": (("test/a/1.png", "test/b/1.png", "val/a/1.png", "val/b/1.png"), 0),
    "vehicles": (("a/1.png", "b/1.png", "b/2.png", "a/2.png"), 0),
}


@pytest.mark.parametrize("place", PLACES)
def test_sides_are_found_where_they_are_and_are_no_classes(tmp_path, place):
    names, tests = PLACES[place]
    found = datasets.own_images(write(tmp_path, scenes(*names)), 16)
    assert found.images.classes == ("a", "b") and found.sides.count("test") == tests
    assert len(found) + len(found.skipped) == len(names)


def test_a_class_may_be_called_train(tmp_path):
    found = datasets.own_images(write(tmp_path, scenes("train/1.png", "plane/1.png", "train/2.png", "plane/2.png")), 16)
    assert found.images.classes == ("plane", "train") and found.sides == ()


def test_doubtful_folders_are_told(tmp_path):
    write(
        tmp_path, scenes("cam 1/cat/1.png", "cam 1/dog/1.png", "Cam_1/cat/1.png", "Cam_1/dog/1.png", "x/@eaDir/1.png")
    )
    (tmp_path / "cow").mkdir()
    found = datasets.own_images(tmp_path, 16)
    assert found.skipped == (("cow", "an empty folder"), ("x/@eaDir", "hidden")) and len(found) == 4
    report = found.report()
    assert "'Cam_1' and 'cam 1'; are they one?" in report and "in each class are folders cat, dog: where" in report


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_a_folder_that_cannot_be_opened_is_listed(tmp_path, monkeypatch):
    write(tmp_path, scenes("cat/1.png", "dog/1.png", "cow/1.png"))
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("cow"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert datasets.own_images(tmp_path, 16).skipped == (("cow", "cannot be opened: Permission denied"),)


# ------------------------------------------------------------------------------------------------ tables

FILES = tuple(f"pictures/{i}.png" for i in range(1, 7))
ROWS = [(f"{i}.png", "cat" if i < 4 else "dog") for i in range(1, 7)]


def table(rows, separator=",", header=("file", "label")):
    return "\n".join(separator.join(map(str, row)) for row in ([header] if header else []) + list(rows)) + "\n"


TABLES = {
    "file,label": table(ROWS),
    "filename;class": table(ROWS, ";", ("filename", "class")),
    "tabs": table(ROWS, "\t", ("Image Path", "Category")),
    "no header": table(ROWS, header=None),
    "BOM and Windows": "\ufeff" + table(ROWS).replace("\n", "\r\n"),
    "a note of Excel's": "sep=;\n" + table(ROWS, ";"),
    "paths": table([(f"pictures/{name}", label) for name, label in ROWS]),
    "backslashes": table([(f".\\pictures\\{name}", label) for name, label in ROWS]),
    "another machine's paths": table([(f"/home/me/pictures/{name}", label) for name, label in ROWS]),
    "numbers of pictures": table([(name[:-4], label) for name, label in ROWS], header=("id", "target")),
    "capitals": table([(name.upper(), label) for name, label in ROWS]),
    "names beside": table([(7 - i, *row) for i, row in enumerate(ROWS)], header=("id", "image", "label")),
    "unusual names": table(ROWS, header=("Bild", "Tier")),
    "a column a class": table(
        [(name, int(label == "cat"), int(label == "dog"), 30 + i) for i, (name, label) in enumerate(ROWS)],
        header=("image", "cat", "dog", "age"),
    ),
    "quotes": table([(f'"{name}"', f'"{label}"') for name, label in ROWS]),
    "quotes after spaces": table([(f'"{name}"', f' "{label}"') for name, label in ROWS]),
    "a separator in a quoted header": table(ROWS, header=('"a; b; c"', "label")),
    "a note of Excel's, quoted": '"sep=;"\r\n' + table(ROWS, ";"),
    "ends of lines of old Macs": table(ROWS).replace("\n", "\r"),
    "empty columns": table([(*row, "", "") for row in ROWS], header=("Bild", "Tier", "", "")),
    "numbers of rows": table([(7 - i, *row) for i, row in enumerate(ROWS)], header=("", "Bild", "Tier")),
    "numbers of rows, saved twice": table([(i, *row) for i, row in enumerate(ROWS)], header=("Unnamed: 0", "x", "y")),
    "a part of a large table": table([*((f"x{i}.gif", "cat") for i in range(500)), *ROWS]),
}


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("where", ["folder", "zip file", "the table"])
def test_labels_come_from_a_table(tmp_path, kind, where):
    files = scenes(*FILES) | {"labels.csv": TABLES[kind].encode()}
    if where == "zip file":
        found = datasets.own_images([("pets.zip", zipfile_of(files))], 16)
    else:
        write(tmp_path, files)
        found = datasets.own_images(tmp_path / ("labels.csv" if where == "the table" else ""), 16)
    assert found.images.classes == ("cat", "dog") and found.images.class_counts.tolist() == [3, 3]
    assert [name[-5:] for name in found.names] == [f"{i}.png" for i in range(1, 7)]
    assert all("x" in name for name, _ in found.skipped)
    assert "classes from column" in found.report()


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "gbk", "cp932", "cp1251"])
def test_tables_are_read_in_their_encoding(tmp_path, encoding):
    name = {"cp1252": "Bär", "gbk": "小猫", "cp932": "ねこ", "cp1251": "кошка"}.get(encoding, "猫")
    rows = [(file, label.replace("cat", name)) for file, label in ROWS]
    write(tmp_path, scenes(*FILES) | {"labels.csv": table(rows).encode(encoding)})
    assert name in datasets.own_images(tmp_path, 16).images.classes


def test_a_table_elsewhere_is_named(tmp_path):
    write(tmp_path, {f"a/{name}": data for name, data in scenes(*FILES).items()} | {"b/l.csv": table(ROWS)})
    assert len(datasets.own_images(tmp_path / "a", 16, labels=tmp_path / "b" / "l.csv")) == 6
    files = scenes(*FILES) | {"b/l.csv": table(ROWS).encode(), "other.csv": b"a,b\n"}
    assert len(datasets.own_images([("pets.zip", zipfile_of(files))], 16, labels="b/l.csv")) == 6
    with pytest.raises(ValueError, match="a table of labels named x.csv, found 0 of that name; tables: pets/b"):
        datasets.own_images([("pets.zip", zipfile_of(files))], 16, labels="x.csv")


def test_folders_win_over_a_table_that_nobody_named(tmp_path):
    names = [f"{name}/{i}.png" for name in ("left", "right") for i in range(3)]
    rows = [(name, "ab"[i % 2]) for i, name in enumerate(names)]
    write(tmp_path, scenes(*names) | {"labels.csv": table(rows)})
    found = datasets.own_images(tmp_path, 16)
    assert found.images.classes == ("left", "right") and "to take them from labels.csv, name it" in found.report()
    assert datasets.own_images(tmp_path, 16, labels=tmp_path / "labels.csv").images.classes == ("a", "b")


def test_what_is_missing_or_listed_twice_is_named(tmp_path):
    rows = [*ROWS, ("7.png", "cat"), ("1.png", "cat"), ("2.png", "dog"), ("3.png", "")]
    rows[2] = ("3.png", "")
    write(tmp_path, scenes(*FILES, "pictures/8.png", "more/4.png", "more/9.png") | {"labels.csv": table(rows)})
    found = datasets.own_images(tmp_path, 16, labels="labels.csv")
    assert found.names == ("pictures/1.png", "pictures/5.png", "pictures/6.png")
    assert dict(found.skipped) == {
        "4.png": "in the table, and there 2 times",
        "7.png": "in the table, but not there",
        "more/4.png": "without a label in labels.csv",
        "more/9.png": "without a label in labels.csv",
        "pictures/2.png": "listed with several labels: cat, dog",
        "pictures/3.png": "without a label in labels.csv",
        "pictures/4.png": "without a label in labels.csv",
        "pictures/8.png": "without a label in labels.csv",
    }
    assert "listed again, with the same label, in labels.csv: 1.png" in found.report()


def test_a_column_says_which_side_a_picture_is_on(tmp_path):
    sides = ["train", "Train", "test", "training", "val", "unused"]
    rows = [(*row, side) for row, side in zip(ROWS, sides, strict=True)]
    write(tmp_path, scenes(*FILES) | {"labels.csv": table(rows, header=("file", "label", "split"))})
    found = datasets.own_images(tmp_path, 16)
    train, test = found.split()
    assert train.tolist() == [0, 1, 3] and test.tolist() == [2, 4]
    assert found.skipped == (("pictures/6.png", "neither for training nor for testing in labels.csv"),)
    rows = [(*row, fold) for row, fold in zip(ROWS, (10, 2, 2, 2, 10, 10), strict=True)]
    write(tmp_path, {"labels.csv": table(rows, header=("file", "label", "fold"))})
    found = datasets.own_images(tmp_path, 16)
    assert found.folds().tolist() == [1, 0, 0, 0, 1, 1] and found.split()[1].tolist() == [1, 2, 3]


def test_the_column_of_files_is_not_one_of_classes_that_files_are_called_too(tmp_path):
    write(
        tmp_path, scenes(*FILES) | {"labels.csv": table([(7 - i, f"{i}.png") for i in range(1, 7)], header=("n", "x"))}
    )
    found = datasets.own_images(tmp_path, 16)
    assert found.images.classes == tuple("123456") and found.names[0] == "pictures/6.png"
    rows = [(f"{i + 3}.png", i % 4) for i in range(1, 9)]  # more files are called as a class is than as a file is
    write(tmp_path, {"labels.csv": table(rows, header=("image", "grade"))})
    assert datasets.own_images(tmp_path, 16).names == ("pictures/4.png", "pictures/5.png", "pictures/6.png")
    write(tmp_path, scenes("pictures/image.png") | {"labels.csv": table(ROWS, header=("image", "label"))})
    assert datasets.own_images(tmp_path, 16).images.classes == ("cat", "dog")


def test_what_programs_write_for_no_label_is_no_class(tmp_path):
    rows = [*ROWS[1:5], ("1.png", "NaN"), ("6.png", "<NA>")]
    found = datasets.own_images(write(tmp_path, scenes(*FILES) | {"labels.csv": table(rows)}), 16)
    assert found.images.classes == ("cat", "dog") and len(found.skipped) == 2


def test_a_path_that_ends_as_another_is_not_that_file(tmp_path):
    rows = [(f"{side}/{i}.png", label) for side, label in (("a", "cat"), ("b", "dog")) for i in range(4)]
    rows += [("a/4.png", "dog"), ("a/5.png", "dog")]
    write(tmp_path, scenes(*(f"a/{i}.png" for i in range(6))) | {"labels.csv": table(rows)})
    found = datasets.own_images(tmp_path, 16)
    assert found.images.class_counts.tolist() == [4, 2]
    assert dict(found.skipped) == {f"b/{i}.png": "in the table, but not there" for i in range(4)}


@pytest.mark.parametrize("header", [("file", "label", "Dataset"), None])
def test_a_column_of_sides_is_known_by_what_it_says(tmp_path, header):
    rows = [(*row, "TEST" if i in (2, 5) else "TRAIN") for i, row in enumerate(ROWS)]
    found = datasets.own_images(write(tmp_path, scenes(*FILES) | {"labels.csv": table(rows, header=header)}), 16)
    assert found.split()[1].tolist() == [2, 5]


def test_what_a_table_says_besides_is_told(tmp_path):
    rows = [(*row, ("train", "valid", "test")[i % 3], 40 + i) for i, row in enumerate(ROWS)]
    rows.append(("1.png", "cat", "test", 40))
    write(tmp_path, scenes(*FILES) | {"labels.csv": table(rows, header=("file", "label", "split", "age"))})
    found = datasets.own_images(tmp_path, 16)
    assert "train (2) for training; test (3) and valid (2) for testing" in found.report()
    assert "columns of labels.csv that are not used: age" in found.report()
    assert found.skipped == (("pictures/1.png", "listed with several labels: cat (test), cat (train)"),)


def test_several_tables_are_named_where_none_was_chosen(tmp_path):
    write(tmp_path, scenes(*FILES) | {"train.csv": table(ROWS), "test.csv": table(ROWS)})
    with pytest.raises(ValueError, match="name a table .CSV. of files and labels: test.csv, train.csv"):
        datasets.own_images(tmp_path, 16)


BAD_TABLES = {
    "no files": (table([("x.png", "cat"), ("y.png", "dog")]), "a column of labels.csv to name files, found none"),
    "one column": ("file\n1.png\n", "files and labels in labels.csv, at most 1,000, found 1"),
    "empty": ("", "at most 1,000, found 0"),
    "several numbers": (
        table([(*row, i, i) for i, row in enumerate(ROWS)], header=("file", "a", "b", "c")),
        "named label, class, category or target in labels.csv.*found file, a, b, c; rename one",
    ),
    "several classes, columns": (
        table([(name, 1, i % 2) for i, (name, _) in enumerate(ROWS)], header=("file", "cat", "dog")),
        "expected one class a picture, found several in a row of labels.csv: cat, dog",
    ),
    "several classes, words": (table([*ROWS[:5], ("6.png", "cat|dog")]), "one class a picture, found several"),
    "several classes, one of them new": (table([*ROWS[:5], ("6.png", "dog; bird")]), "found several .*: bird, dog"),
    "one class": (table([(name, "cat") for name, _ in ROWS]), r"found 1 \(cat\)"),
    "a workbook": ("PK\x03\x04 xlsx", "to be a workbook; save it as CSV"),
}


@pytest.mark.parametrize("text, message", BAD_TABLES.values(), ids=BAD_TABLES.keys())
def test_a_bad_table_is_told_what_was_expected(tmp_path, text, message):
    write(tmp_path, scenes(*FILES) | {"labels.csv": text})
    with pytest.raises(ValueError, match=message):
        datasets.own_images(tmp_path, 16)


# ------------------------------------------------------------------------------------------------ groups and copies


def patients():
    """Four patients with pictures of both classes each."""
    return [f"{name}/p{patient}-{i}.png" for name in ("ill", "well") for patient in range(4) for i in range(3)]


@pytest.mark.parametrize("how", ["pattern", "column"])
def test_groups_stay_together_in_every_split(tmp_path, how):
    names = patients()
    rows = [(name, name.split("/")[0], name.split("/")[1][:2]) for name in names]
    write(tmp_path, scenes(*names) | {"l.csv": table(rows, header=("file", "label", "Patient ID"))})
    if how == "column":
        found = datasets.own_images(tmp_path, 16, labels="l.csv", groups="patient_id")
    else:
        found = datasets.own_images(tmp_path, 16, groups=r"/(p\d+)-")
    assert len(found.groups.unique()) == 4 and found.copies() == [] and len(found.distinct()) == 24
    patient = [name.split("/")[1][:2] for name in found.names]
    for seed in range(5):
        train, test = found.split(0.25, seed)
        assert not {patient[i] for i in train} & {patient[i] for i in test}
        assert found.images.labels[test].unique().tolist() == [0, 1] and len(test) == 6
        fold = found.folds(2, seed)
        assert all(len({int(fold[i]) for i in range(24) if patient[i] == own}) == 1 for own in set(patient))


@pytest.mark.parametrize("groups, message", [("pateint", "'pateint', which fits none"), ("(p", "a regular expression")])
def test_groups_that_are_none_are_refused(tmp_path, groups, message):
    with pytest.raises(ValueError, match=message):
        datasets.own_images(write(tmp_path, scenes(*patients()[::6])), 16, groups=groups)


def test_what_is_in_no_group_is_counted(tmp_path):
    write(tmp_path, scenes(*patients(), "ill/x.png"))
    assert "1 pictures match no group" in datasets.own_images(tmp_path, 16, groups=r"p\d").report()


def fixed_camera(count=30):
    """Views of one part that are alike but for a few pixels."""
    views = {}
    for i in range(count):
        view = scene(1).copy()
        view.paste((255, 255, 255), (2 * i % 70, i % 50, 2 * i % 70 + 3, i % 50 + 3))
        views[f"{'sound' if i % 3 else 'faulty'}/{i}.png"] = saved(view)
    return views


def test_views_from_one_fixed_camera_are_not_one_picture_without_a_word(tmp_path):
    write(tmp_path, fixed_camera())
    found = datasets.own_images(tmp_path, 32)
    report = found.report()
    assert "only 1 of 30 pictures were taken for different ones" in report and "--copies off" in report
    assert "30 pictures in several classes were taken for copies" in report
    assert len(found.pairs) == len(found.distances) == 29 and found.distances.max() < 0.25
    assert (found.distances.diff() >= 0).all() and (found.pairs[:, 0] < found.pairs[:, 1]).all()
    for split in (found.split, found.folds):
        with pytest.raises(ValueError, match="found 1 in: faulty, sound; only 1 of 30 .* pass a smaller distance"):
            split()
    assert len(datasets.own_images(tmp_path, 32, copies=0.01).pairs) < 20
    found = datasets.own_images(tmp_path, 32, copies=False)
    assert len(found.groups.unique()) == 30 and len(found.split()[1]) == 6 and found.doubts() == []


def test_pairs_and_groups_agree():
    prints = torch.randint(0, 256, (300, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    prints[200], prints[100], prints[50] = prints[2], prints[200], prints[7].flip(2)
    pairs, distances = datasets.copy_pairs(prints)
    assert sorted(pairs.tolist())[::2] == [[2, 100], [7, 50]] and len(pairs) == 3 and distances.max() < 1e-3
    assert datasets.find_copies(prints)[[2, 100, 200]].unique().numel() == 1
    assert len(datasets.copy_pairs(prints[:0])[0]) == 0


def test_a_leak_between_sides_is_told(tmp_path):
    files = scenes("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")
    write(tmp_path, files | {"test/b/2.png": files["train/b/1.png"]})
    assert "1 groups or copies stand on both sides" in datasets.own_images(tmp_path, 16).report()
