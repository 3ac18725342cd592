"""What a record tells of the trainings that made a classifier, of its images and of the machine."""

import hashlib
import json
import os
import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import sepconc
from sepconc.data.images import ArrayImages, FolderImages
from sepconc.errors import TrainingInterrupted
from sepconc.estimators.persistence import Command
from sepconc.estimators.resuming import Resume
from sepconc.registry.store import configured_registry as registry
from sepconc.training.observers import Observer


def record(name: str, status: str = "checkpoint") -> dict:
    return registry().load(name, status, histories=False).record


def trainings(name: str, status: str = "checkpoint") -> list[dict]:
    return record(name, status)["provenance"]["trainings"]


@pytest.fixture
def data(images):
    X, y = images
    return X[:100], y[:100], X[100:], y[100:]


class Stop(Observer):
    """Asks to stop, as SIGTERM does, at the report number ``at``."""

    def __init__(self, at: int) -> None:
        self.left = at

    def report(self, report: object) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), 15)


# ---------------------------------------------------------------------- one training


def test_an_entry_tells_all(small, data):
    command = Command("train.py", "net -a scatnet", {"arch": "scatnet"})
    clf = small("scatnet").train(*data, name="net", command=command)
    (entry,) = trainings("net")
    assert entry["command"] == "train.py net -a scatnet"
    assert entry["options"] == {"arch": "scatnet"}
    assert (entry["epochs"], entry["updates"], entry["step"]) == ([0, 2], [0, 8], 0)
    assert clf.elapsed_time_ <= entry["seconds"] < 600
    assert (entry["host"], entry["machine"]) == (platform.node(), platform.machine())
    assert (entry["device"], entry["threads"]) == ("cpu", torch.get_num_threads())
    assert entry["device_name"] or not Path("/proc/cpuinfo").exists()
    assert entry["engine"] in ("fused", "reference")
    assert {"python", "sepconc", "torch", "numpy"} <= set(entry["versions"])
    assert isinstance(entry["dirty"], bool)
    assert len(entry["commit"]) in (0, 40)
    assert entry["date"] <= record("net")["provenance"]["date"]


def test_the_record_and_the_row_tell_the_same(small, data):
    clf = small("scatnet").fit(*data, name="net")
    stored = registry().load("net", histories=False)
    where, cells = stored.record["provenance"], stored.row.cells()
    assert where["command"] == ""
    assert where["engine"] == trainings("net")[0]["engine"]
    assert cells["commit"] == where["commit"]
    assert (cells["torch"], cells["numpy"]) == (where["versions"]["torch"], where["versions"]["numpy"])
    assert cells["cuda"] == where["versions"].get("cuda", "")
    assert (cells["host"], cells["threads"], cells["seed"]) == (platform.node(), str(where["threads"]), str(clf.seed_))
    assert cells["device"].startswith("cpu")
    assert cells["data_sha256"] == stored.record["learned"]["dataset"]["checksum"]
    assert float(cells["seconds"]) == pytest.approx(trainings("net")[0]["seconds"], abs=0.06)


def test_a_network_without_a_transform_has_no_engine(small, data):
    small("analysis").fit(*data, name="net")
    assert trainings("net")[0]["engine"] is None


# ---------------------------------------------------------------------- several trainings


def test_every_training_that_took_part_is_told(small, data):
    for place, epochs in enumerate((1, 3, 4)):
        command = Command("train.py", f"net --epochs {epochs}", {"epochs": epochs, "place": place})
        small("scatnet", epochs=epochs, snapshots=1).train(*data, name="net", command=command)
    entries = trainings("net")
    assert [entry["epochs"] for entry in entries] == [[0, 1], [1, 3], [3, 4]]
    assert [entry["updates"] for entry in entries] == [[0, 4], [4, 12], [12, 16]]
    assert [entry["options"]["place"] for entry in entries] == [0, 1, 2]
    assert record("net")["provenance"]["command"] == "train.py net --epochs 4"
    assert [entry["epochs"] for entry in trainings("net", "e2")] == [[0, 1], [1, 2]]
    row = registry().find("net").cells()
    assert float(row["seconds"]) == pytest.approx(sum(entry["seconds"] for entry in entries), abs=0.06)


def test_an_interrupted_training_is_told_up_to_its_last_update(small, data):
    with pytest.raises(TrainingInterrupted):
        small("scatnet", epochs=3, print_freq=1).train(*data, name="net", observer=Stop(6))
    (entry,) = trainings("net")
    assert (entry["epochs"], entry["updates"], entry["step"]) == ([0, 1], [0, 6], 2)
    small("scatnet", epochs=3, print_freq=1).train(*data, name="net")
    first, second = trainings("net")
    assert first == entry
    assert (second["epochs"], second["updates"], second["step"]) == ([1, 3], [6, 12], 0)


def test_starting_again_forgets_and_going_back_keeps_what_led_there(small, data):
    for epochs in (1, 3):
        small("scatnet", epochs=epochs, snapshots=1).fit(*data, name="net")
    small("scatnet", epochs=4, snapshots=1).train(*data, name="net", resume=Resume(epoch=2))
    assert [entry["epochs"] for entry in trainings("net")] == [[0, 1], [1, 2], [2, 4]]
    small("scatnet", epochs=1).train(*data, name="net", resume=Resume(restart=True))
    assert [entry["epochs"] for entry in trainings("net")] == [[0, 1]]


def test_a_copy_keeps_them(small, data):
    command = Command("train.py", "net -a scatnet", {"arch": "scatnet"})
    small("scatnet").train(*data, name="net", command=command)
    sepconc.ImageClassifier.load("net").save("copy")
    assert trainings("copy") == trainings("net")
    where = record("copy")["provenance"]
    assert (where["command"], where["options"]) == ("train.py net -a scatnet", {"arch": "scatnet"})


def test_loaded_and_trained_on_there_is_one_more(small, data):
    small("scatnet").fit(*data, name="net")
    clf = sepconc.ImageClassifier.load("net", train=True).set_params(warm_start=True, epochs=1)
    clf.fit(*data).save("more")
    assert [entry["epochs"] for entry in trainings("more")] == [[0, 2], [2, 3]]
    clf.fit(*data)
    assert [entry["epochs"] for entry in clf.trainings_] == [[0, 2], [2, 3], [3, 4]]
    clf.set_params(warm_start=False, epochs=2).fit(*data)
    assert [entry["epochs"] for entry in clf.trainings_] == [[0, 2]]


def test_pieces_are_one_entry(small, images):
    clf = small("scatnet")
    for _ in range(3):
        clf.partial_fit(*images)
    (entry,) = clf.trainings_
    assert (entry["epochs"], entry["updates"], entry["by"]) == ([0, 3], [0, len(clf.losses_)], "partial_fit")
    assert entry["seconds"] >= clf.elapsed_time_ - 3 * 0.0005  # rounded to milliseconds, piece by piece
    clf.set_params(warm_start=True, epochs=1).fit(*images)
    assert [entry["epochs"] for entry in clf.trainings_] == [[0, 3], [3, 4]]


def test_a_file_without_its_record_is_named(small, data, tmp_path):
    small("scatnet").fit(*data, name="net")
    (tmp_path / "alone.tar").write_bytes(registry().paths(registry().find("net"))["tar"].read_bytes())
    small("scatnet", epochs=3).train(*data, name="other", resume=Resume(path=tmp_path / "alone.tar"))
    (entry,) = trainings("other")
    assert entry["from_file"] == str(tmp_path / "alone.tar")
    assert entry["epochs"] == [2, 3]


def test_a_record_of_the_version_before_is_gone_on_from(small, data):
    small("scatnet", epochs=2, snapshots=1).train(*data, name="net", command=Command("train.py", "net -a x", {"a": 1}))
    row = registry().find("net")

    def of_before(record: dict) -> dict:
        where, dataset = record["provenance"], record["learned"]["dataset"]
        for key in ("trainings", "engine", "device_name"):
            del where[key]
        for key in ("hashed", "validation"):
            del dataset[key]
        return record

    registry().update_record("net", "checkpoint", row, of_before)
    assert sepconc.ImageClassifier.load("net").current_epoch_ == 2
    small("scatnet", epochs=3, snapshots=1).fit(*data, name="net")
    old, new = trainings("net")
    assert (old["epochs"], old["command"], old["options"], old["threads"]) == (
        [0, 2],
        "train.py net -a x",
        {"a": 1},
        torch.get_num_threads(),
    )
    assert new["epochs"] == [2, 3]
    assert record("net")["learned"]["dataset"]["hashed"] == "pixels and labels"


# ---------------------------------------------------------------------- the images


def test_images_and_labels_are_hashed_with_and_without_a_name(small, data):
    X, y, X_val, y_val = data
    first = small("scatnet", epochs=1).fit(*data)
    dataset = first.dataset_
    assert dataset["hashed"] == "pixels and labels"
    assert dataset["validation"]["images"] == len(X_val)
    first.save("net")
    assert record("net")["learned"]["dataset"] == json.loads(json.dumps(dataset))
    assert small("scatnet", epochs=1).fit(*data, name="named").dataset_ == dataset
    other_label, other_pixel = y.copy(), X.copy()
    other_label[0] = (y[0] + 1) % 10
    other_pixel[7, 0, 0] += 0.25
    checksums = {
        small("scatnet", epochs=1).fit(*pair).dataset_["checksum"] for pair in ((X, other_label), (other_pixel, y))
    }
    assert len(checksums | {dataset["checksum"]}) == 3
    validation = small("scatnet", epochs=1).fit(X, y, X_val[1:], y_val[1:]).dataset_
    assert validation["checksum"] == dataset["checksum"]
    assert validation["validation"]["checksum"] != dataset["validation"]["checksum"]


def test_the_checksum_of_a_set_is_the_record_s_and_computed_once(small, images, monkeypatch):
    X, y = images
    train = ArrayImages(X[:, None], y, classes=list(range(10)))
    times, hashed = [], ArrayImages._hash_images
    monkeypatch.setattr(ArrayImages, "_hash_images", lambda self, digest: times.append(1) or hashed(self, digest))
    checksum = train.checksum()
    for name in ("one", "two"):
        assert small("scatnet", epochs=1).fit(train, name=name).dataset_["checksum"] == checksum
    assert len(times) == 1
    plain = hashlib.sha256(f"{X.dtype} {X[:, None].shape}".encode() + X.tobytes())
    plain.update(repr((y.shape, y.tolist())).encode())
    assert checksum == plain.hexdigest()


@pytest.fixture
def folder(tmp_path):
    """Files of two classes."""
    rng = np.random.default_rng(0)
    for k in range(12):
        path = tmp_path / "images" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "images"


def test_files_are_hashed_by_name_and_size_without_being_opened(folder, monkeypatch):
    def checksum(root: Path, labels: list[int]) -> str:
        files = sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
        return FolderImages(root, files, labels, side=16).checksum()

    labels = [0] * 6 + [1] * 6
    monkeypatch.setattr(FolderImages, "raw", None)
    before = checksum(folder, labels)
    moved = folder.rename(folder.with_name("moved"))
    assert checksum(moved, labels) == before
    assert checksum(moved, labels[::-1]) != before
    (moved / "a" / "0.png").write_bytes((moved / "a" / "0.png").read_bytes() + b"x")
    changed = checksum(moved, labels)
    assert changed != before
    (moved / "a" / "0.png").rename(moved / "a" / "00.png")
    assert checksum(moved, labels) not in (before, changed)


def test_a_folder_that_moved_is_gone_on_with_and_another_is_not(small, folder, monkeypatch):
    def train(root: str, epochs: int) -> None:
        images = sepconc.load_dataset(f"folder:{root}", validation=False, size=16)
        small("scatnet", epochs=epochs, batch_size=4).fit(images, name="net")

    monkeypatch.chdir(folder.parent)
    train("images", 1)
    assert record("net")["learned"]["dataset"]["name"] == f"folder:{folder}"
    folder.rename(folder.with_name("moved"))
    (folder.parent / "deeper").mkdir()
    monkeypatch.chdir("deeper")
    train("../moved", 2)
    dataset = record("net")["learned"]["dataset"]
    assert dataset["name"] == f"folder:{folder.parent}/moved"
    assert dataset["hashed"] == "names and sizes of files, and labels"
    for path in (folder.parent / "moved").rglob("*.png"):
        path.write_bytes(path.read_bytes() + b"x")
    (folder.parent / "moved").rename(folder.parent / "other")
    with pytest.raises(sepconc.errors.ParameterMismatch, match=r"data set folder:.*moved .*other; .*checksum"):
        train("../other", 3)


def test_items_of_a_torch_data_set_are_not_read_for_it(small, images):
    X, y = images
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(X[:, None]), torch.from_numpy(y))
    assert small("scatnet", epochs=1).fit(dataset).dataset_["hashed"] == "number, shape and labels"
