"""Augmentation: what each one does, against loops and formulas; the same draws on every backend; errors that say what to do."""

import colorsys

import numpy as np
import pytest
from conftest import VALUES

import portable_nn as pnn
from portable_nn import augment, nn, optim
from portable_nn.augment.color import turned
from portable_nn.augment.mixing import beta, host_uniforms
from portable_nn.augment.warp import sample
from portable_nn.core.errors import SettingError
from portable_nn.train import TrainState, train_step

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
BLACK = (-np.array(MEAN) / STD).astype(np.float32).reshape(1, 3, 1, 1)
DEVICES = [name for name in VALUES if name != "numpy"]
TEXTS = ("flip", "crop:4", "shift:2", "rotate:30", "affine", "jitter", "cutout:4", "erase:1", "flip,crop:3,affine,jitter,erase")


def batch(count=64, size=(9, 12), seed=0):
    colors = np.random.default_rng(seed).random((count, 3, *size))
    return ((colors - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))).astype(np.float32), np.arange(count) % 10


def run(text, images, labels, step=5, seed=3, backend="numpy", **mixing):
    made = augment.pipeline(text, seed=seed, mean=MEAN[: images.shape[1]], std=STD[: images.shape[1]], classes=10, **mixing)
    with pnn.use_backend(backend):
        y, t = made(pnn.asarray(images), pnn.asarray(labels), step)
        return pnn.to_numpy(y), pnn.to_numpy(t)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.3}, {"cutmix": 1.0}], ids=["plain", "mixup", "cutmix"])
@pytest.mark.parametrize("text", TEXTS)
def test_every_backend_draws_the_same(device, text, mixing):
    images, labels = batch(7)
    expected, targets = run(text, images, labels, **mixing)
    got, got_targets = run(text, images, labels, backend=device, **mixing)
    assert got.dtype == images.dtype
    # Positions up to 12 pixels round by 1e-6 each way, and values change by at most 8 from one pixel to the next.
    np.testing.assert_allclose(got, expected, atol=2e-5 if any(w in text for w in ("rotate", "affine", "jitter")) else 1e-6)
    np.testing.assert_allclose(got_targets, targets, atol=1e-6)


@pytest.mark.parametrize("text", TEXTS)
def test_draws_depend_on_seed_and_step_alone(text):
    images, labels = batch(16)
    first, _ = run(text, images, labels)
    np.testing.assert_array_equal(run(text, images, labels)[0], first)
    assert (run(text, images, labels, step=6)[0] != first).any()
    assert (run(text, images, labels, seed=4)[0] != first).any()
    assert (first != images).any()


def test_the_place_of_an_image_decides_its_draws_not_the_others():
    images, labels = batch(16)
    np.testing.assert_array_equal(run("crop:3", images[:5], labels[:5])[0], run("crop:3", images, labels)[0][:5])


def test_flip():
    images, labels = batch(400, (2, 3))
    y, t = run("flip:0.3", images, labels)
    mirrored = [np.array_equal(a, b[..., ::-1]) for a, b in zip(y, images, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(y, images, strict=True)]
    assert all(np.array(mirrored) ^ kept)
    assert 0.3 * 400 - 46 < sum(mirrored) < 0.3 * 400 + 46  # five standard deviations
    np.testing.assert_array_equal(t, labels)


@pytest.mark.parametrize("text", ["crop:2", "shift:2"])
def test_crop_gives_a_window_of_the_padded_image(text):
    images, labels = batch(200, (5, 6))
    y, _ = run(text, images, labels)
    padded = np.broadcast_to(BLACK, (200, 3, 9, 10)).copy()
    padded[:, :, 2:7, 2:8] = images
    seen = set()
    for image, whole in zip(y, padded, strict=True):
        found = [(r, c) for r in range(5) for c in range(5) if np.allclose(image, whole[:, r : r + 5, c : c + 6], atol=1e-6)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 25  # 200 draws of 25 places: one is left out with a chance below 1 %, and the seed is fixed


def test_sampling_between_pixels_is_scipys(backend):
    ndimage = pytest.importorskip("scipy.ndimage", reason="the oracle")
    images, _ = batch(3, (6, 5))
    rng = np.random.default_rng(1)
    rows, columns = (rng.uniform(-3, size + 2, (3, 6, 5)).astype(np.float32) for size in (6, 5))
    with pnn.use_backend(backend):
        got = pnn.to_numpy(sample(*(pnn.asarray(x) for x in (images, rows, columns, BLACK))))
    for n in range(3):
        for c in range(3):
            expected = ndimage.map_coordinates(
                images[n, c].astype(np.float64), [rows[n].astype(np.float64), columns[n].astype(np.float64)], order=1,
                mode="grid-constant", cval=float(BLACK[0, c, 0, 0]),
            )  # fmt: skip
            np.testing.assert_allclose(got[n, c], expected, atol=1e-5)


def test_affine_turns_moves_and_scales_a_slope():
    # On the slope f(row, column) = column bilinear reading is exact, so what comes out is the map itself.
    size, count = 33, 100
    slope = np.broadcast_to(np.arange(size, dtype=np.float32), (count, 1, size, size)).copy()
    y, _ = run("affine:20:0.1:0.2", slope, np.arange(count) % 10)
    middle = y[:, 0, 12:21, 12:21].astype(np.float64)  # far enough from the border to read inside
    down = (middle[:, -1, :] - middle[:, 0, :]).mean(1) / 8
    right = (middle[:, :, -1] - middle[:, :, 0]).mean(1) / 8
    zoom, angle = 1 / np.hypot(down, right), np.degrees(np.arctan2(-down, right))
    assert (zoom + 1e-4 >= 0.8).all()
    assert (zoom - 1e-4 <= 1.2).all()
    assert (np.abs(angle) <= 20 + 1e-2).all()
    assert np.ptp(zoom) > 0.3  # the draws fill their ranges
    assert np.ptp(angle) > 30
    flat = middle - down[:, None, None] * np.arange(9)[:, None] - right[:, None, None] * np.arange(9)
    assert np.ptp(flat, axis=(1, 2)).max() < 1e-3
    move = middle[:, 4, 4] - 16  # of the centre, in source pixels: at most the move through the zoom, along both axes
    assert np.abs(move).max() <= 0.1 * size * np.sqrt(2) / 0.8


def test_rotation_by_nothing_is_nothing():
    images, labels = batch(4)
    np.testing.assert_allclose(run("rotate:0", images, labels)[0], images, atol=1e-6)


def test_jitter_scales_colours():
    rng = np.random.default_rng(0)
    colors = rng.uniform(0.2, 0.6, (50, 3, 6, 6))
    images = ((colors - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))).astype(np.float32)

    def colored(text):
        return run(text, images, np.arange(50) % 10)[0] * np.reshape(STD, (1, 3, 1, 1)) + np.reshape(MEAN, (1, 3, 1, 1))

    ratio = colored("jitter:0.3:0:0:0") / colors
    assert np.ptp(ratio, axis=(1, 2, 3)).max() < 1e-4
    assert 0.7 - 1e-4 <= ratio.min() < 0.8
    assert 1.2 < ratio.max() <= 1.3 + 1e-4
    luma = np.reshape((0.299, 0.587, 0.114), (1, 3, 1, 1))
    grey = (colors * luma).sum(1, keepdims=True)
    after = (colored("jitter:0:0:0.5:0") * luma).sum(1, keepdims=True)
    np.testing.assert_allclose(after, grey, atol=1e-5)  # saturation keeps the grey of each pixel
    mean = (colored("jitter:0:0.5:0:0") * luma).sum(1).mean((1, 2))
    np.testing.assert_allclose(mean, grey[:, 0].mean((1, 2)), atol=1e-5)  # contrast that of the image
    wild = colored("jitter:1:1:1:0.5")
    assert wild.min() >= -1e-6
    assert wild.max() <= 1 + 1e-6


def test_hue_turns_as_the_standard_library_does(backend):
    rng = np.random.default_rng(0)
    colors = rng.random((4, 3, 5, 6)).astype(np.float32)
    colors[0, :, 0] = colors[0, :1, 0]  # greys
    colors[1, 0, 0] = colors[1, 1, 0]  # two channels alike
    colors[1, 2, 1] = colors[1, 0, 1]
    turns = np.array([0.0, 0.3, -0.45, 1.0], np.float32).reshape(4, 1, 1, 1)
    with pnn.use_backend(backend):
        got = pnn.to_numpy(turned(pnn.asarray(colors), pnn.asarray(turns)))
    for n in range(4):
        for place in np.ndindex(5, 6):
            hue, saturation, value = colorsys.rgb_to_hsv(*(float(v) for v in colors[n, :, *place]))
            expected = colorsys.hsv_to_rgb((hue + float(turns[n, 0, 0, 0])) % 1.0, saturation, value)
            np.testing.assert_allclose(got[n, :, *place], expected, atol=3e-6)
    np.testing.assert_array_equal(got[0, :, 0], colors[0, :, 0])  # a grey has no hue


def test_jitter_turns_hues_within_its_range_and_leaves_greys():
    images, labels = batch(60, (3, 4))
    std, mean = np.reshape(STD, (1, 3, 1, 1)), np.reshape(MEAN, (1, 3, 1, 1))
    y = run("jitter:0:0:0:0.1", images, labels)[0] * std + mean
    turns = []
    for before, after in zip(images * std + mean, y, strict=True):
        place = np.unravel_index(np.argmax(np.ptp(before, axis=0)), before.shape[1:])  # the most colourful pixel
        h0, h1 = (colorsys.rgb_to_hsv(*(float(v) for v in x[:, *place]))[0] for x in (before, after))
        turns.append((h1 - h0 + 0.5) % 1.0 - 0.5)
    assert np.abs(turns).max() <= 0.1 + 1e-4
    assert min(turns) < -0.07
    assert max(turns) > 0.07
    grey = np.random.default_rng(0).standard_normal((5, 1, 4, 4)).astype(np.float32) * 0.5
    np.testing.assert_allclose(run("jitter:0:0:0:0.5", grey, labels[:5])[0], np.clip(grey, (0 - MEAN[0]) / STD[0], (1 - MEAN[0]) / STD[0]), atol=1e-5)


def rectangles(y, images):
    """Return the (height, width) of what was covered in each image, after checking that it is a filled rectangle of zeros."""
    sizes = []
    for image, before in zip(y, images, strict=True):
        changed = (image != before).any(0)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        if len(rows):
            assert (image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0).all()
            assert changed.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        sizes.append((len(rows), len(columns)))
    return np.array(sizes)


def test_cutout_and_erasing_cover_rectangles():
    images, labels = batch(300, (16, 16))
    sizes = rectangles(run("cutout:6", images, labels)[0], images)
    assert sizes.max() == 6  # squares of 6, cut off at the border
    assert sizes.min() >= 3
    sizes = rectangles(run("erase:0.5", images, labels)[0], images)
    covered = sizes[:, 0] > 0
    assert 150 - 44 < covered.sum() < 150 + 44  # five standard deviations
    assert sizes[covered].min() == 2  # an eighth of 16
    assert sizes[covered].max() == 8  # a half


def test_mixup_mixes_images_and_targets_alike():
    images, labels = batch(8)
    parts = set()
    for step in range(20):
        y, t = run("", images, labels, step, mixup=1.0)
        part = t[0, labels[0]]
        assert 0 <= part <= 1
        np.testing.assert_allclose(y, part * images + (1 - part) * images[::-1], atol=1e-5)
        np.testing.assert_allclose(t, part * np.eye(10)[labels] + (1 - part) * np.eye(10)[labels[::-1]], atol=1e-6)
        parts.add(round(float(part), 6))
    assert len(parts) == 20


def test_cutmix_mixes_targets_by_the_area():
    images, labels = batch(8, (10, 12))
    for step in range(20):
        y, t = run("", images, labels, step, cutmix=1.0)
        pasted = (y == images[::-1]).all(1)
        assert ((y == images).all(1) | pasted).all()
        assert t[0, labels[0]] == pytest.approx(1 - pasted[0].mean(), abs=1e-6)
        assert (pasted == pasted[0]).all()


def test_one_of_two_mixes_is_taken():
    images, labels = batch(8)
    kinds = {bool(((y := run("", images, labels, step, mixup=1.0, cutmix=1.0)[0]) == images).all(1).any() or (y == images[::-1]).all(1).any())
             for step in range(20)}  # fmt: skip
    assert kinds == {True, False}


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_has_its_moments(alpha):
    drawn = np.array([beta(alpha, host_uniforms(1, step, 7)) for step in range(1500)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(drawn.mean() - 0.5) < 5 * np.sqrt(variance / 1500)
    assert abs(drawn.var() - variance) < 5 * variance * np.sqrt(2 / 1500)


def test_nothing_changes_nothing():
    images, labels = batch(3)
    made = augment.pipeline(seed=0, mean=MEAN, std=STD, classes=10)
    y, t = made(images, labels, 0)
    assert not made
    assert y is images
    assert t is labels


def test_a_step_takes_mixed_targets(backend):
    images, labels = batch(8, (8, 8))
    made = augment.pipeline("flip,crop:1", seed=0, mean=MEAN, std=STD, classes=10, mixup=0.4)
    optimizer = optim.sgd(0.1)
    with pnn.use_backend(backend):
        model = pnn.models.create("lenet", (3, 8, 8), 10).to()
        state = TrainState(model, optimizer.init(nn.params(model)))
        x, t = made(pnn.asarray(images), pnn.asarray(labels), 0)
        assert np.isfinite(float(train_step(state, optimizer, x, t, lr=0.1)[1]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("flop", "no augmentation 'flop'; did you mean 'flip'"),
        ("crop:4:5", "has 2 settings but crop takes 1"),
        ("erase:q=1", "erase has no setting 'q'"),
        ("crop:much", "crop's pixels is 'much' but a number is needed, as in 'crop:pixels=4'"),
        ("crop:0", "crop's pixels is 0 but a whole number of pixels"),
        ("shift:1.5", "shift's pixels is 1.5"),
        ("flip:2", r"flip's p is 2 but a number in 0\.\.1"),
        ("rotate:200", r"degrees of a turn is 200 but a number in 0\.\.180"),
        ("erase:0.5:0.6:0.5", "erase's smallest is 0.6"),
        ("jitter:1.5", "jitter's brightness is 1.5"),
        ("jitter:hue=0.6", r"jitter's hue is 0\.6"),
        ("affine:scale=1", r"affine's scale is 1 but a number in 0\.\.0\.9"),
        ("cutout:-1", "cutout's size is -1"),
    ],
)
def test_refuses(text, words):
    with pytest.raises(SettingError, match=words):
        augment.parse(text)


def test_refuses_what_does_not_fit_the_images():
    images, labels = batch(2, (4, 4))
    with pytest.raises(SettingError, match="by up to 4 pixels but images are 4x4"):
        run("crop:4", images, labels)
    with pytest.raises(SettingError, match="images have 3 channels but the normalisation has 1"):
        augment.pipeline("crop:1", seed=0, mean=[0], std=[1], classes=10)(images, labels, 0)
    with pytest.raises(SettingError, match="mixup is -1"):
        augment.pipeline(seed=0, mean=[0], std=[1], classes=10, mixup=-1)


def test_describe_can_be_parsed():
    described = augment.describe()
    assert len(augment.parse(",".join(described.values()))) == len(described)
