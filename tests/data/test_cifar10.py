"""CIFAR-10's binary version: what is read, what is refused, and that no pickle is."""

import functools
import hashlib
import pickle
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from mlguard.data import cifar10, open_split
from mlguard.data.cifar10 import ARCHIVE, FOLDER, RECORD_BYTES
from mlguard.errors import DatasetError
from mlguard.recipe import Data
from tests.images import cifar_records, write_cifar10


def spec(**changes: object) -> Data:
    fields = {"kind": "cifar10", "size": (32, 32), "validation": 100, "cache": False}
    return Data.model_validate(fields | changes)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cifar10(tmp_path_factory.mktemp("cifar"))


def test_splits_are_those_of_cifar10(root: Path) -> None:
    sizes = [
        len(open_split(spec(), root, split, seed=0))
        for split in ("train", "validation", "test")
    ]
    assert sizes == [49_900, 100, 10_000]


def test_an_image_is_three_planes_after_its_class(root: Path) -> None:
    test = open_split(spec(), root, "test", seed=0)
    image, label = test[12]
    record = cifar_records(5)[12 * RECORD_BYTES : 13 * RECORD_BYTES]
    assert image.numpy().tobytes() == record[1:]
    assert int(label) == record[0] == 2


def test_images_of_the_last_training_file_are_found(root: Path) -> None:
    train = open_split(spec(validation="test"), root, "train", seed=0)
    record = cifar_records(4)[-RECORD_BYTES:]
    assert train[49_999][0].numpy().tobytes() == record[1:]


def test_classes_are_known_and_others_refused(root: Path) -> None:
    assert open_split(spec(), root, "test", seed=0).task.classes == 10
    with pytest.raises(DatasetError, match="names other classes than CIFAR-10 has"):
        open_split(spec(class_names=("cat", "dog")), root, "test", seed=0)


def test_another_split_is_refused(root: Path) -> None:
    with pytest.raises(DatasetError, match="has no split 'val', only train and test"):
        open_split(spec(validation="val"), root, "validation", seed=0)


def small(tmp_path: Path, content: bytes) -> Path:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "test_batch.bin").write_bytes(content)
    return tmp_path


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    root = small(tmp_path, bytes(RECORD_BYTES))
    with pytest.raises(DatasetError, match="has 3073 bytes, expected 30730000"):
        open_split(spec(), root, "test", seed=0)


def test_a_class_that_is_none_is_refused(tmp_path: Path) -> None:
    records = np.frombuffer(cifar_records(0), dtype=np.uint8).copy()
    records[3 * RECORD_BYTES] = 10
    test = open_split(spec(), small(tmp_path, records.tobytes()), "test", seed=0)
    with pytest.raises(DatasetError, match="image 3 is damaged: the class 10"):
        test[3]


def test_a_file_that_shrank_meanwhile_is_refused(tmp_path: Path) -> None:
    root = small(tmp_path, cifar_records(0))
    test = open_split(spec(), root, "test", seed=0)
    (root / FOLDER / "test_batch.bin").write_bytes(b"")
    with pytest.raises(DatasetError, match="image 0 is damaged: nothing in 0 bytes"):
        test[0]


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was opened')",)


def test_pickles_are_named_and_never_opened(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DatasetError, match="no CIFAR-10 in") as refusal:
        open_split(spec(), tmp_path, "train", seed=0)
    assert "pickles are never opened" in refusal.value.hint
    assert "cifar-10-binary.tar.gz" in refusal.value.hint


def archive(folder: Path, source: Path, *, without: str = "") -> Path:
    """The archive as it is published, and what must not be taken from it."""
    path = folder / ARCHIVE
    with tarfile.open(path, "w:gz", compresslevel=1) as members:
        for file in sorted((source / FOLDER).iterdir()):
            if file.name != without:
                members.add(file, f"{FOLDER}/{file.name}")
        members.add(__file__, "../outside.txt")
    return path


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path):
    """A folder's address on this machine."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def published(tmp_path: Path, root: Path, served, monkeypatch: pytest.MonkeyPatch):
    """Publish an archive on this machine instead of where CIFAR-10 is."""

    def publish(*, md5: str = "", without: str = "") -> None:
        path = archive(tmp_path, root, without=without)
        digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        monkeypatch.setattr(cifar10, "ADDRESS", f"{served}/{path.name}")
        monkeypatch.setattr(cifar10, "MD5", md5 or digest)

    return publish


def test_a_download_leaves_the_six_files_and_nothing_else(
    published, tmp_path: Path
) -> None:
    published()
    to = tmp_path / "new" / "data"
    images = open_split(spec(), to, "test", seed=0, download=True)
    assert images[0][0].numpy().tobytes() == cifar_records(5)[1:RECORD_BYTES]
    assert [path.name for path in to.iterdir()] == [FOLDER]
    assert len(list((to / FOLDER).iterdir())) == 6
    assert not (tmp_path / "new" / "outside.txt").exists()


@pytest.mark.parametrize(
    "damage",
    [{"md5": "0" * 32}, {"without": "test_batch.bin"}],
    ids=["checksum", "member"],
)
def test_a_download_that_is_not_cifar10_leaves_nothing(
    published, tmp_path: Path, damage: dict[str, str]
) -> None:
    published(**damage)
    to = tmp_path / "data"
    with pytest.raises(DatasetError, match="CIFAR-10 could not be downloaded"):
        open_split(spec(), to, "test", seed=0, download=True)
    assert list(to.iterdir()) == []
