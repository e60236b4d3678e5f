"""Published data sets: found in torchvision's folders, fetched with checksums from a server, refused offline. No network."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from dataclasses import replace

import numpy as np
import pytest
from host.test_data_files import idx_bytes

from portable_nn import data
from portable_nn.core.errors import DataError
from portable_nn.data import fetch as fetching
from portable_nn.data import named
from portable_nn.data.published import PUBLISHED, File


@pytest.fixture
def server(tmp_path_factory):
    """A server on this machine; the folder it serves, its address, and the paths that were asked for."""
    root, asked = tmp_path_factory.mktemp("served"), []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield root, f"http://127.0.0.1:{made.server_port}/", asked
        made.shutdown()
        thread.join()


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx_contents():
    rng = np.random.default_rng(0)
    contents = {}
    for part, count in (("train", 40), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (count, 5, 4)).astype(np.uint8), (np.arange(count) % 10).astype(np.uint8)
        contents[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx_bytes(images))
        contents[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx_bytes(labels))
    return contents


def cifar_records(kind, count, first=0):
    classes = 10 if kind == "cifar10" else 100
    labels = (np.arange(count) + first) % classes
    pixels = np.random.default_rng(first).integers(0, 256, (count, 3072)).astype(np.uint8)
    columns = [labels[:, None]] if kind == "cifar10" else [labels[:, None] // 5, labels[:, None]]
    return np.concatenate([*columns, pixels], axis=1).astype(np.uint8).tobytes(), labels, pixels


def cifar_folder(place, kind):
    place.mkdir(parents=True)
    if kind == "cifar10":
        for i in range(1, 6):
            (place / f"data_batch_{i}.bin").write_bytes(cifar_records(kind, 10, i)[0])
        (place / "test_batch.bin").write_bytes(cifar_records(kind, 10)[0])
        (place / "batches.meta.txt").write_text("\n".join(PUBLISHED[kind].classes) + "\n\n")
    else:
        (place / "train.bin").write_bytes(cifar_records(kind, 200)[0])
        (place / "test.bin").write_bytes(cifar_records(kind, 100)[0])
        (place / "fine_label_names.txt").write_text("".join(f"class {i}\n" for i in range(100)))


def published(monkeypatch, name, contents, base, **changes):
    """Make the table name these contents on that server."""
    files = tuple(File(n, md5(c), (base + n,)) for n, c in contents.items())
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], files=files, **changes))


def archive(folder):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        tar.add(folder, folder.name)
    return made.getvalue()


def test_checksums_have_the_form_of_md5():
    sums = [file.md5 for made in PUBLISHED.values() for file in made.files]
    assert all(len(s) == 32 and set(s) <= set("0123456789abcdef") for s in sums)
    assert len(set(sums)) == len(sums) == 12


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_is_fetched_once_to_torchvisions_folder(server, tmp_path, monkeypatch, name):
    root, base, asked = server
    contents = idx_contents()
    for n, content in contents.items():
        (root / n).write_bytes(content)
    published(monkeypatch, name, contents, base)
    train, test = data.load(name, folder=tmp_path)
    assert (len(train), len(test), train.name) == (40, 20, name)
    assert train.classes[0] == ("0" if name == "mnist" else "T-shirt/top")
    assert (tmp_path / PUBLISHED[name].folder / "train-images-idx3-ubyte.gz").is_file()
    count = len(asked)
    again, _ = data.load(name, folder=tmp_path, offline=True)
    assert len(asked) == count == 4
    np.testing.assert_array_equal(again.images, train.images)


def test_the_mirror_is_tried_first_and_the_published_address_next(server, tmp_path, monkeypatch):
    root, base, asked = server
    contents = idx_contents()
    (root / "mirror").mkdir()
    for n, content in contents.items():
        (root / n).write_bytes(content)
        if "train" in n:
            (root / "mirror" / n).write_bytes(content)
    published(monkeypatch, "mnist", contents, base)
    monkeypatch.setenv("PORTABLE_NN_MIRROR", base + "mirror/")
    monkeypatch.setenv("PORTABLE_NN_DATA", str(tmp_path))
    assert len(data.load("mnist")[1]) == 20
    tried = [path for path in asked if "t10k-images" in path]
    assert tried == ["/mirror/t10k-images-idx3-ubyte.gz", "/t10k-images-idx3-ubyte.gz"]
    assert "/train-images-idx3-ubyte.gz" not in asked


def test_a_wrong_file_is_not_kept(server, tmp_path, monkeypatch):
    root, base, _ = server
    contents = idx_contents()
    for n in contents:
        (root / n).write_bytes(b"an error page")
    published(monkeypatch, "mnist", contents, base)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz could not be fetched from .*hash.*or put the file \(MD5"):
        data.load("mnist", folder=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nobody_answers(tmp_path, monkeypatch):
    contents = idx_contents()
    published(monkeypatch, "mnist", contents, "http://127.0.0.1:9/")
    with pytest.raises(DataError, match=r"could not be fetched from http://127\.0\.0\.1:9/.*check the network, name a mirror by PORTABLE_NN_MIRROR"):
        data.load("mnist", folder=tmp_path)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_offline_says_which_file_goes_where(tmp_path, name):
    with pytest.raises(DataError, match="fetching is off") as error:
        data.load(name, folder=tmp_path, offline=True)
    for file in PUBLISHED[name].files:  # all that are missing, not the first alone
        for words in (file.urls[0], file.md5, str(tmp_path / PUBLISHED[name].folder / file.name)):
            assert words in str(error.value)


def test_a_damaged_file_in_the_folder(tmp_path):
    place = tmp_path / "MNIST" / "raw"
    place.mkdir(parents=True)
    (place / "train-images-idx3-ubyte.gz").write_bytes(b"half")
    with pytest.raises(DataError, match=r"does not have the MD5 sum f68b3c2dcbeaaa9fbdd348bbdeb94873.*delete it"):
        data.load("mnist", folder=tmp_path, offline=True)


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_cifar_archive_is_fetched_and_unpacked(server, tmp_path, monkeypatch, kind):
    root, base, asked = server
    folder = root / PUBLISHED[kind].unpacked
    cifar_folder(folder, kind)
    contents = {PUBLISHED[kind].files[0].name: archive(folder)}
    for n, content in contents.items():
        (root / n).write_bytes(content)
    published(monkeypatch, kind, contents, base)
    train, test = data.load(kind, folder=tmp_path)
    assert train.images.shape == ((50, 3, 32, 32) if kind == "cifar10" else (200, 3, 32, 32))
    assert len(train.classes) == (10 if kind == "cifar10" else 100)
    _, labels, pixels = cifar_records(kind, len(test))
    np.testing.assert_array_equal(test.labels, labels)
    np.testing.assert_array_equal(test.images.reshape(len(test), -1), pixels)
    assert len(asked) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([PUBLISHED[kind].unpacked, *contents])


@pytest.mark.parametrize("kind", ["cifar10", "cifar100"])
def test_cifar_that_is_there_already(tmp_path, kind):
    cifar_folder(tmp_path / PUBLISHED[kind].unpacked, kind)
    by_name, _ = data.load(kind, folder=tmp_path, offline=True)
    by_path, _ = data.load(tmp_path / PUBLISHED[kind].unpacked)
    np.testing.assert_array_equal(by_name.images, by_path.images)
    assert by_name.classes == by_path.classes


def test_cifar_truncated(tmp_path):
    place = tmp_path / "cifar-10-batches-bin"
    cifar_folder(place, "cifar10")
    (place / "data_batch_3.bin").write_bytes(bytes(3073 + 7))
    with pytest.raises(DataError, match=r"data_batch_3\.bin: has 3080 bytes but a multiple of 3073"):
        data.load("cifar10", folder=tmp_path)


def test_a_pickled_cache_is_not_read(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(DataError, match="cifar-10-batches-py holds the pickled version, which is not read"):
        data.load("cifar10", folder=tmp_path, offline=True)


def test_a_root_of_torchvision_is_no_folder_of_classes(tmp_path):
    cifar_folder(tmp_path / "cifar-10-batches-bin", "cifar10")
    with pytest.raises(DataError, match="give --data cifar10 --data-folder"):
        data.load(tmp_path)


def test_svhn(tmp_path):
    io_module = pytest.importorskip("scipy.io", reason="SVHN's files are MATLAB's")
    rng = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 20)):
        labels = (np.arange(count) % 10 + 1).astype(np.uint8)
        images = rng.integers(0, 256, (32, 32, 3, count)).astype(np.uint8)
        io_module.savemat(tmp_path / f"{part}_32x32.mat", {"X": images, "y": labels[:, None]})
    train, test = data.load("svhn", folder=tmp_path, offline=True)
    assert (len(train), len(test)) == (30, 20)
    assert test.labels.tolist()[:10] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    np.testing.assert_array_equal(test.images[7], images[..., 7].transpose(2, 0, 1))
    (tmp_path / "test_32x32.mat").write_bytes(b"MATLAB no more")
    with pytest.raises(DataError, match=r"test_32x32\.mat: cannot be read as SVHN's"):
        data.load(tmp_path)


def test_an_archive_without_its_folder(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "x.tar.gz").write_bytes(archive(tmp_path / "other"))
    with pytest.raises(DataError, match="has no folder cifar-10-batches-bin"):
        fetching.unpack(tmp_path / "x.tar.gz", tmp_path / "cifar-10-batches-bin")
    (tmp_path / "x.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetching.unpack(tmp_path / "x.tar.gz", tmp_path / "cifar-10-batches-bin")
    assert not list(tmp_path.glob(".unpacking-*"))


def test_what_is_there(tmp_path):
    assert not any(named.is_there(made, tmp_path) for made in PUBLISHED.values())
    cifar_folder(tmp_path / "cifar-100-binary", "cifar100")
    assert [name for name, made in PUBLISHED.items() if named.is_there(made, tmp_path)] == ["cifar100"]


def test_decoded_images_are_kept(tmp_path, monkeypatch):
    image_module = pytest.importorskip("PIL.Image", reason="images are decoded by Pillow")
    from portable_nn.data import decode, folder

    monkeypatch.setattr(folder, "CACHE_FROM", 4)
    rng = np.random.default_rng(0)
    tree, cache = tmp_path / "tree", tmp_path / "cache"
    for name in ("a", "b"):
        (tree / name).mkdir(parents=True)
        for i in range(3):
            image_module.fromarray(rng.integers(0, 256, (6, 7, 3)).astype(np.uint8)).save(tree / name / f"{i}.png")
    (tree / "b" / "bad.png").write_bytes(b"no image")
    calls = []
    real = decode.decode_all
    monkeypatch.setattr(folder, "decode_all", lambda *args, **kwargs: calls.append(1) or real(*args, **kwargs))

    def read(**settings):
        with pytest.warns(UserWarning, match=r"left out 1 of 7 images: .*bad\.png"):
            return data.read_image_folder(tree, on_error="skip", cache=cache, **settings)[0]

    first, second = read(), read()
    assert len(calls) == 1
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.skipped == second.skipped
    with pytest.raises(DataError, match=r"1 of 7 images cannot be read: .*bad\.png"):  # also when it comes from the cache
        data.read_image_folder(tree, cache=cache)
    read(size=4)
    assert len(calls) == 2
    image_module.fromarray(np.zeros((6, 7, 3), np.uint8)).save(tree / "a" / "0.png")
    assert not read().images[0].any()
    assert len(calls) == 3
    (file,) = {path for path in cache.iterdir() if path == decode.cache_file(cache, tree, sorted(tree.rglob("*.png")), None, None)}
    file.write_bytes(b"PK\x03\x04 damaged")
    assert not read().images[0].any()
    assert len(calls) == 4
