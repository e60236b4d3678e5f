"""Reading IDX, image folders, .npz and digits; damaged and missing files are errors that name file and values."""

import gzip
import struct
import sys

import numpy as np
import pytest

from portable_nn import data
from portable_nn.core.errors import DataError, SettingError
from portable_nn.data.digits import read_digits
from portable_nn.data.idx import read_idx
from portable_nn.data.vision import MissingExtraError, require


def idx_bytes(array, dtype_code=8, shape=None):
    shape = array.shape if shape is None else shape
    return bytes((0, 0, dtype_code, len(shape))) + struct.pack(f">{len(shape)}I", *shape) + array.tobytes()


def write_idx_pair(folder, part, count, zipped=False, first=0, size=(5, 4)):
    images = ((np.arange(count * size[0] * size[1]) + first) % 256).astype(np.uint8).reshape(count, *size)
    labels = (np.arange(count) % 3).astype(np.uint8)
    for kind, rank, array in (("images", 3, images), ("labels", 1, labels)):
        name = f"{part}-{kind}-idx{rank}-ubyte"
        content = idx_bytes(array)
        (folder / (name + ".gz" if zipped else name)).write_bytes(gzip.compress(content) if zipped else content)
    return images, labels


# IDX


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_folder_with_both_pairs(tmp_path, zipped):
    images, labels = write_idx_pair(tmp_path, "train", 9, zipped)
    test_images, _ = write_idx_pair(tmp_path, "t10k", 6, zipped, first=11)
    train, test = data.load(tmp_path)
    np.testing.assert_array_equal(train.images[:, 0], images)
    np.testing.assert_array_equal(train.labels, labels)
    np.testing.assert_array_equal(test.images[:, 0], test_images)
    assert train.classes == test.classes == ("0", "1", "2")


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_idx_folder_with_one_pair_is_split(tmp_path, part):
    write_idx_pair(tmp_path, part, 30)
    train, test = data.load(str(tmp_path), counts=(21, 9))
    assert train.counts.tolist() == [7, 7, 7]
    assert test.counts.tolist() == [3, 3, 3]
    assert "split 21/9" in test.source


def test_idx_names_with_a_dot(tmp_path):
    write_idx_pair(tmp_path, "train", 30)
    for path in list(tmp_path.iterdir()):
        path.rename(tmp_path / path.name.replace("-idx", ".idx"))
    train, test = data.load(tmp_path)
    assert (len(train), len(test)) == (24, 6)


PIXELS = np.zeros((2, 3, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG....", "begins with 0x89504e47 .* 0x00000803"),
        (b"\0\0", "holds 2 bytes"),
        (idx_bytes(PIXELS, dtype_code=13), "float32 .*uint8"),
        (idx_bytes(PIXELS[0]), "has 2 dimensions but 3"),
        (idx_bytes(PIXELS)[:9], "ends after 9 bytes but 16"),
        (idx_bytes(PIXELS)[:-4], r"\(2, 3, 3\), which is 18 bytes, but only 14 bytes follow.*truncated"),
        (idx_bytes(PIXELS) + b"x", "18 bytes, but more bytes follow"),
        (idx_bytes(PIXELS, shape=(2**32 - 1, 2**16, 2**16)), "only 18 bytes follow"),
    ],
)
def test_idx_refuses(tmp_path, content, words):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [gzip.compress(idx_bytes(PIXELS))[:-9], b"not gzip at all"], ids=["cut", "no gzip"])
def test_idx_damaged_gzip(tmp_path, content):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"idx3-ubyte\.gz.*damaged or truncated"):
        read_idx(path, 3)


def test_idx_counts_that_differ(tmp_path):
    write_idx_pair(tmp_path, "train", 6)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    with pytest.raises(DataError, match=r"6 images but .*train-labels-idx1-ubyte holds 5 labels"):
        data.load(tmp_path)


def test_idx_labels_missing(tmp_path):
    write_idx_pair(tmp_path, "train", 6)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="found train-images-idx3-ubyte but not its labels"):
        data.load(tmp_path)


def test_idx_empty_class(tmp_path):
    write_idx_pair(tmp_path, "train", 6)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([0, 2, 0, 2, 0, 2], np.uint8)))
    with pytest.raises(DataError, match="'1'"):
        data.load(tmp_path)


def test_idx_test_label_out_of_range(tmp_path):
    write_idx_pair(tmp_path, "train", 6)
    write_idx_pair(tmp_path, "t10k", 3)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([0, 7, 0], np.uint8)))
    with pytest.raises(DataError, match=r"label 7 of image 1 is out of range.*0\.\.2"):
        data.load(tmp_path)


def test_idx_sizes_of_the_pairs_differ(tmp_path):
    write_idx_pair(tmp_path, "train", 6)
    write_idx_pair(tmp_path, "t10k", 3, size=(7, 7))
    with pytest.raises(DataError, match=r"\(1, 5, 4\).*\(1, 7, 7\)"):
        data.load(tmp_path)


# .npz

X, Y = np.arange(6 * 4 * 5).reshape(6, 4, 5).astype(np.uint8), np.arange(6) % 2


def test_npz_with_a_test_set(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y[:, None], x_test=X[:2], y_test=Y[:2], classes=["no", "yes"])
    train, test = data.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(train.images[:, 0], X)
    assert train.labels.tolist() == Y.tolist()
    assert train.classes == ("no", "yes")
    assert len(test) == 2


@pytest.mark.parametrize("names", [("x_train", "y_train"), ("images", "labels")])
def test_npz_without_a_test_set_is_split(tmp_path, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (X, Y), strict=True)))
    train, test = data.load(tmp_path / "a.npz", test_fraction=1 / 3)
    assert (len(train), len(test)) == (4, 2)


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (np.zeros((4, 3, 6, 5), np.float32), (3, 6, 5)),
        (np.zeros((4, 6, 5, 3), np.float32), (3, 6, 5)),
        (np.zeros((4, 6, 5, 1), np.uint8), (1, 6, 5)),
        (np.zeros((4, 6, 5), np.int64), (1, 6, 5)),
    ],
)
def test_npz_layouts(tmp_path, images, shape):
    np.savez(tmp_path / "a.npz", images=images, labels=[0, 1, 0, 1])
    assert data.load(tmp_path / "a.npz", test_fraction=0.5)[0].image_shape == shape


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": X}, "found pictures; expected x_train"),
        ({"x_train": X}, r"found x_train \(6, 4, 5\) uint8; expected"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "x_test .*expected"),
        ({"images": X[0], "labels": Y}, r"images has shape \(4, 5\)"),
        ({"images": X.astype(np.int64) - 300, "labels": Y}, r"values -300\.\.-181"),
        ({"images": X, "labels": np.eye(2)[Y]}, "argmax"),
        ({"images": X, "labels": Y[:3]}, "6 images .* 3 labels"),
        ({"images": X, "labels": Y - 1}, "label -1 of image 0"),
        ({"images": np.where(X == 7, np.nan, 0.5), "labels": Y}, "image 0 holds nan"),
        ({"images": X, "labels": Y, "classes": ["only"]}, r"label 1 of image 1 .*0\.\.0"),
        ({"images": X, "labels": np.array([{}] * 6)}, "without pickled objects"),
    ],
)
def test_npz_refuses(tmp_path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=words):
        data.load(tmp_path / "a.npz")


def test_npz_damaged(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=X, labels=Y)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz: cannot be read"):
            data.load(path)
    with path.open("wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match=r"one array of shape \(6, 4, 5\)"):
        data.load(path)


# Image folders


@pytest.fixture
def image_module():
    return pytest.importorskip("PIL.Image")


def write_images(image_module, folder, per_class=4, size=(6, 5), classes=("cat", "dog"), colour=True, suffix=".png"):
    """Each image is a constant; its level tells class and number."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for number in range(per_class):
            shape = (*size, 3) if colour else size
            level = np.full(shape, 100 * label + 10 * number, np.uint8)
            image_module.fromarray(level).save(folder / name / f"{number:03}{suffix}")


@pytest.mark.parametrize("colour", [True, False])
def test_one_tree_is_split(tmp_path, image_module, colour):
    write_images(image_module, tmp_path, colour=colour)
    (tmp_path / "cat" / ".hidden.png").write_bytes(b"")
    (tmp_path / "cat" / "notes.txt").write_text("x")
    train, test = data.load(tmp_path, test_fraction=0.25)
    assert train.image_shape == (3 if colour else 1, 6, 5)
    assert train.classes == ("cat", "dog")
    assert (len(train), len(test)) == (6, 2)
    levels = train.images[:, 0, 0, 0]
    assert (levels // 100 == train.labels).all()


@pytest.mark.parametrize("part", ["test", "val"])
def test_train_and_test_trees(tmp_path, image_module, part):
    write_images(image_module, tmp_path / "train", suffix=".jpg")
    write_images(image_module, tmp_path / part, per_class=1, suffix=".jpeg")
    train, test = data.load(tmp_path)
    assert (len(train), len(test)) == (8, 2)
    assert abs(train.images[:, 0, 0, 0].astype(int) - [0, 10, 20, 30, 100, 110, 120, 130]).max() <= 2


def test_a_tree_with_all_three_parts(tmp_path, image_module):
    for part, count in (("train", 4), ("val", 2), ("test", 1)):
        write_images(image_module, tmp_path / part, per_class=count)
    made = data.load_splits(tmp_path)
    assert (len(made.train), len(made.valid), len(made.test)) == (8, 4, 2)
    assert [len(x) for x in data.load(tmp_path)] == [8, 2]
    (tmp_path / "test").rename(tmp_path / "aside")
    made = data.load_splits(tmp_path)
    assert (len(made.train), len(made.valid), made.test) == (8, 4, None)  # what is called val chooses; nothing more is kept back


def test_a_validation_set_is_kept_back_from_the_training_set():
    pytest.importorskip("sklearn")
    made = data.load_splits("digits")
    assert (len(made.train), len(made.valid), len(made.test)) == (1294, 144, 359)
    assert made.valid.counts.min() >= 14
    whole, test = data.load("digits")
    np.testing.assert_array_equal(made.test.images, test.images)  # whatever is kept back, the test set stays
    rows = [{x.tobytes() for x in part.images} for part in (made.train, made.valid, whole)]
    assert rows[0] | rows[1] == rows[2]
    assert "144 of 1438 training images kept back" in made.valid.source
    assert data.load_splits("digits", valid_fraction=0.0).valid is None
    other = data.load_splits("digits", split_seed=1)
    assert not np.array_equal(made.valid.images, other.valid.images)


def test_small_sets_keep_back_an_image_of_each_class(tmp_path, image_module):
    for part, count in (("train", 3), ("test", 1)):
        write_images(image_module, tmp_path / part, per_class=count)
    made = data.load_splits(tmp_path, valid_fraction=0.1)
    assert (len(made.train), made.valid.counts.tolist()) == (4, [1, 1])
    for name in ("001", "002"):
        (tmp_path / "train" / "dog" / f"{name}.png").unlink()
    with pytest.raises(DataError, match=r"class 'dog' has a single training image.*--valid-fraction 0"):
        data.load_splits(tmp_path)
    assert data.load_splits(tmp_path, valid_fraction=0).valid is None
    with pytest.raises(SettingError, match="valid_fraction is 1"):
        data.load_splits(tmp_path, valid_fraction=1.0)


def test_sizes_that_differ(tmp_path, image_module):
    write_images(image_module, tmp_path)
    image_module.new("RGB", (9, 7)).save(tmp_path / "dog" / "odd.png")
    with pytest.raises(DataError, match=r"odd\.png: is 7x9 \(height x width\) but .* is 6x5.*set an image size"):
        data.load(tmp_path)
    train, test = data.load(tmp_path, image_size=8)
    assert train.image_shape == test.image_shape == (3, 8, 8)
    assert data.read_image_folder(tmp_path, size=(4, 3))[0].image_shape == (3, 4, 3)


def test_channels_that_differ(tmp_path, image_module):
    write_images(image_module, tmp_path)
    image_module.new("L", (5, 6)).save(tmp_path / "dog" / "grey.png")
    with pytest.raises(DataError, match=r"grey\.png: has 1 channel\(s\) but .* has 3; set channels"):
        data.load(tmp_path)
    for channels in (1, 3):
        assert data.load(tmp_path, channels=channels)[0].image_shape == (channels, 6, 5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_corrupt_images(tmp_path, image_module):
    write_images(image_module, tmp_path, suffix=".jpg")
    (tmp_path / "cat" / "bad.jpg").write_bytes(b"not an image")
    whole = (tmp_path / "dog" / "000.jpg").read_bytes()
    (tmp_path / "dog" / "cut.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(DataError, match=r"2 of 10 images cannot be read: .*bad\.jpg.*cut\.jpg.*on_error='skip'"):
        data.load(tmp_path)
    train, _ = data.load(tmp_path, on_error="skip")
    assert [text.partition(": ")[0].rpartition("/")[2] for text in train.skipped] == ["bad.jpg", "cut.jpg"]
    with pytest.warns(UserWarning, match="left out 2 of 10"):
        data.read_image_folder(tmp_path, on_error="skip")


def test_deep_images_are_refused(tmp_path, image_module):
    write_images(image_module, tmp_path)
    image_module.fromarray(np.full((6, 5), 40000, np.uint16)).save(tmp_path / "cat" / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png: has pixel mode I"):
        data.load(tmp_path)


def test_folders_that_are_refused(tmp_path, image_module):
    write_images(image_module, tmp_path / "a" / "train")
    (tmp_path / "a" / "train" / "owl").mkdir()
    with pytest.raises(DataError, match=r"no images for class 'owl' \(found nothing\)"):
        data.load(tmp_path / "a")
    (tmp_path / "a" / "train" / "owl").rmdir()
    write_images(image_module, tmp_path / "a" / "test", classes=("cat", "fox"))
    with pytest.raises(DataError, match=r"classes \['fox'\] that .*train lacks"):
        data.load(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found an empty folder; expected"):
        data.load(tmp_path / "empty")


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"channels": 2}, "channels is 2"), ({"size": 0}, r"\(0, 0\)"), ({"on_error": "ignore"}, "'ignore'")],
)
def test_folder_settings_are_checked(tmp_path, settings, words):
    with pytest.raises(SettingError, match=words):
        data.read_image_folder(tmp_path, **settings)


def test_read_image(tmp_path, image_module):
    path = tmp_path / "a.png"
    image_module.new("RGBA", (8, 4), (200, 100, 50, 128)).save(path)
    assert data.read_image(path).shape == (3, 4, 8)
    assert data.read_image(path)[:, 0, 0].tolist() == [200, 100, 50]
    assert data.read_image(path, size=(6, 6), channels=1).shape == (1, 6, 6)
    with pytest.raises(DataError, match=r"gone\.png: FileNotFoundError"):
        data.read_image(tmp_path / "gone.png")


# load, digits and the extra


def test_digits():
    pytest.importorskip("sklearn")
    train, test = data.load("digits")
    assert (len(train), len(test)) == (1438, 359)
    assert train.image_shape == (1, 8, 8)
    assert train.images.dtype == np.uint8
    assert train.images.max() == 255
    assert test.counts.min() >= 34
    again = data.load("digits")[1]
    np.testing.assert_array_equal(test.images, again.images)


def test_nothing_of_that_name(tmp_path):
    with pytest.raises(DataError, match=r"'digit': found nothing of that name; did you mean 'digits'\?"):
        data.load("digit")
    (tmp_path / "mnist").mkdir()
    with pytest.raises(DataError, match=r"did you mean '.*mnist'"):
        data.load(tmp_path / "mnits")
    with pytest.raises(DataError, match="Expected one of digits, mnist"):
        data.load(tmp_path / "no" / "such" / "place")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"a\.csv: found a file of 3 bytes; expected"):
        data.load(tmp_path / "a.csv")


def test_a_missing_extra_names_the_command():
    with pytest.raises(MissingExtraError, match=r'reading clouds needs no_such_library.*portable-nn\[vision\]"'):
        require("no_such_library.part", "reading clouds")


def test_digits_are_the_same_with_and_without_importing_scikit_learn(monkeypatch):
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    monkeypatch.delitem(sys.modules, "sklearn")  # then the file is read
    by_file = read_digits()
    monkeypatch.undo()
    by_import = read_digits()
    for made in (by_file, by_import):
        np.testing.assert_array_equal(made.images[:, 0], np.rint(digits.images * (255 / 16)))
        np.testing.assert_array_equal(made.labels, digits.target)
        assert list(made.classes) == [str(name) for name in digits.target_names]
