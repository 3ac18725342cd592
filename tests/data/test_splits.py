from pathlib import Path

import numpy as np
import pytest

from sepconc.data import splits
from sepconc.errors import BadInput, BadParameter


def disjoint_and_whole(rest, piece, count):
    return np.array_equal(np.sort(np.concatenate([rest, piece])), np.arange(count))


def test_stratified():
    labels = np.repeat([0, 1, 2], [100, 50, 10])[np.random.default_rng(0).permutation(160)]
    rest, piece = splits.stratified(labels, 0.1, 0, "set")
    assert disjoint_and_whole(rest, piece, 160)
    assert np.bincount(labels[piece]).tolist() == [10, 5, 1]
    assert np.all(np.diff(piece) > 0)
    assert np.all(np.diff(rest) > 0)
    assert np.array_equal(piece, splits.stratified(labels, 0.1, 0, "set")[1])
    assert not np.array_equal(piece, splits.stratified(labels, 0.1, 1, "set")[1])


@pytest.mark.parametrize("labels", [[0, 0, 0, 1], [0, 0, 1, 1, 2, 2], []])
def test_too_few_images_to_stratify(labels):
    with pytest.raises(BadInput, match=r"birds, validation: a stratified split of 10% needs more images"):
        splits.stratified(np.array(labels), 0.1, 0, "birds, validation")


def test_first_images():
    rest, piece = splits.first_images(12, 5, "set")
    assert piece.tolist() == [0, 1, 2, 3, 4]
    assert disjoint_and_whole(rest, piece, 12)
    with pytest.raises(BadInput, match=r"first 5 training images .* got 5"):
        splits.first_images(5, 5, "set")


def test_first_of_each_class():
    labels = np.array([1, 0, 1, 1, 0, 2, 0, 2, 2, 1])
    rest, piece = splits.first_of_each_class(labels, 2, "set")
    assert piece.tolist() == [0, 1, 2, 4, 5, 7]
    assert disjoint_and_whole(rest, piece, 10)
    with pytest.raises(BadInput, match="the smallest has 3"):
        splits.first_of_each_class(labels, 3, "set")


def test_at_most_some_of_each_class():
    labels = np.array([1, 0, 1, 1, 0, 2, 0, 4, 4, 1])
    assert splits.at_most_of_each_class(labels, 1).tolist() == [0, 1, 5, 7]
    assert splits.at_most_of_each_class(labels, 2).tolist() == [0, 1, 2, 4, 5, 7, 8]
    assert splits.at_most_of_each_class(labels, 9).tolist() == list(range(10))
    assert splits.at_most_of_each_class(labels[:0], 2).tolist() == []


def test_no_choice_of_classes():
    assert splits.choose_classes(10) is None


def test_classes_drawn_with_the_seed():
    chosen = splits.choose_classes(1000, 10, seed=3)
    assert len(set(chosen.tolist())) == 10
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, splits.choose_classes(1000, 10, seed=3))
    assert not np.array_equal(chosen, splits.choose_classes(1000, 10, seed=4))
    assert splits.choose_classes(5, 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("form", ["list", "array", "npy", "lines", "commas"])
def test_classes_from_lists_and_files(tmp_path, form):
    given = [7, 2, 5]
    if form == "npy":
        np.save(tmp_path / "list.npy", given)
    (tmp_path / "lines").write_text("# mine\n7\n2  # two\n\n5\n")
    (tmp_path / "commas").write_text("7,2, 5")
    source = {"list": given, "array": np.array(given), "npy": tmp_path / "list.npy"}.get(form, str(tmp_path / form))
    assert splits.read_class_indices(source).tolist() == given
    assert splits.choose_classes(8, class_indices=source).tolist() == [2, 5, 7]
    assert splits.choose_classes(8, 3, source).tolist() == [2, 5, 7]


@pytest.mark.parametrize(
    ("text", "classes"), [("0-99", range(100)), ("3, 5-7,9", [3, 5, 6, 7, 9]), ("8-8,1,", [1, 8]), ("7", [7])]
)
def test_ranges_of_classes(tmp_path, text, classes):
    (tmp_path / "list").write_text(f"{text.replace(',', ' ')}  # mine")
    assert splits.choose_classes(100, class_indices=text).tolist() == list(classes)
    assert splits.choose_classes(100, class_indices=tmp_path / "list").tolist() == list(classes)


def test_a_file_may_have_a_number_for_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("7").write_text("1 2 3")
    assert splits.read_class_indices(Path("7")).tolist() == splits.read_class_indices("./7").tolist() == [1, 2, 3]
    assert splits.read_class_indices("7").tolist() == [7]


@pytest.mark.parametrize("text", ["9-3,1", "1-2-3,4", "0-9999999", "-3", "3-"])
def test_a_range_that_is_none_is_named(tmp_path, text):
    (tmp_path / "list").write_text(text)
    for source in (tmp_path / "list", text):
        with pytest.raises(
            BadParameter, match=f'6 digits, or ranges FIRST-LAST of them in ascending order; got "{text.split(",")[0]}"'
        ):
            splits.choose_classes(10, class_indices=source)


@pytest.mark.parametrize("count", [10, 20, 100])
def test_shipped_lists(count):
    drawn = np.random.default_rng(2021).permutation(1000)[:count]
    assert splits.choose_classes(1000, count, f"imagenet{count}").tolist() == sorted(drawn.tolist())


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"nb_classes": 11}, "from 1 to 10.*got 11"),
        ({"nb_classes": 0}, "from 1 to 10.*got 0"),
        ({"class_indices": [1, 2], "nb_classes": 3}, "number of class_indices, 2.*got 3"),
        ({"class_indices": [1, 1]}, "each once; got 2 of which 1 differ"),
        ({"class_indices": []}, "at least one class"),
        ({"class_indices": [3, 10]}, "from 0 to 9.*got 10"),
        ({"class_indices": "0-4,3"}, "each once; got 6 of which 5 differ"),
        ({"class_indices": "7-12"}, "from 0 to 9.*got 12"),
        ({"class_indices": [-1, 3]}, "from 0 to 9.*got -1"),
        ({"class_indices": [0.5, 1.5]}, "class numbers; got float64"),
        ({"class_indices": [[1], [2]]}, r"of shape \(2, 1\)"),
        (
            {"class_indices": "imagenet7"},
            r"ranges \(1,3,10-19\), .* imagenet10, imagenet20, imagenet100; got imagenet7",
        ),
        ({"class_indices": "imagenet10"}, "from 0 to 9"),
    ],
)
def test_wrong_choices(arguments, text):
    with pytest.raises(BadParameter, match=text) as caught:
        splits.choose_classes(10, **arguments)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_lists(tmp_path):
    (tmp_path / "words").write_text("1 2 cat")
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "pickle.npy").read_bytes()[:20])
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    texts = {
        "words": 'got "cat"',
        "pickle.npy": "without pickles",
        "cut.npy": "cut.npy must be",
        "bytes.txt": "must be",
    }
    for name, text in texts.items():
        with pytest.raises(BadParameter, match=text):
            splits.read_class_indices(tmp_path / name)
