"""Models: their list, sizes they refuse, weights in files, what they cost, and the commands that show it."""

import json

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn import models, nn
from portable_nn.cli import main
from portable_nn.core.errors import ArgumentError, SettingError
from portable_nn.models.speedrun import whitening
from portable_nn.train.cost import cost_of

SMALL = ("mlp", "lenet", "allconv", "resnet8", "convmixer", "autoencoder")


@pytest.mark.parametrize("name", models.names(None))
def test_every_model_takes_images_of_many_sizes(name):
    with pnn.use_backend("null"):
        for shape in ((1, 9, 9), (3, 28, 33)):
            model = models.create(name, shape, 7).to()
            y, state = nn.apply(model, pnn.asarray(np.zeros((3, *shape), np.float32)), train=True, key=pnn.random_key(0))
            wanted = {"unet": (3, 7, *shape[1:]), "autoencoder": (3, *shape)}.get(name, (3, 7))
            assert tuple(y.shape) == wanted
            assert set(state) <= set(nn.buffers(model))


def test_equal_seeds_give_equal_weights():
    first, second, other = (nn.state_dict(models.create("vit_tiny", (3, 8, 8), 4, seed)) for seed in (1, 1, 2))
    assert all((first[n] == second[n]).all() for n in first)
    assert (first["head.weight"] != other["head.weight"]).any()


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("lenet", (1, 3, 3), "3x3 but two poolings need at least 4x4"),
        ("speedrun", (3, 8, 8), "8x8 but three halvings need at least 9x9"),
        ("convnext_atto", (3, 4, 4), "4x4 but three halvings need at least 8x8"),
        ("unet", (1, 4, 4), "3 halvings need at least 8x8"),
        ("autoencoder", (1, 2, 2), "2x2 but two halvings"),
        ("allconv", (1, 2, 2), "2x2 but two halvings"),
        ("resnet2", (1, 8, 8), "no model named 'resnet2'; did you mean 'resnet"),
    ],
)
def test_refuses(name, shape, words):
    with pytest.raises(SettingError, match=words):
        models.create(name, shape, 10)


def test_refuses_settings_that_contradict():
    with pytest.raises(SettingError, match="dim is 50 but must be a multiple of heads, 3"):
        models.VisionTransformer((3, 8, 8), 10, dim=50)
    with pytest.raises(SettingError, match="patches of 3x3 do not fill"):
        models.MLPMixer((3, 8, 8), 10, patch=3)
    with pytest.raises(SettingError, match="depth is 19 but one of 18, 34, 50"):
        models.ImageNetResNet((3, 8, 8), 10, depth=19)
    with pytest.raises(SettingError, match="'unet' is for segmentation, not classification"):
        models.check_name("unet")
    with pytest.raises(SettingError, match="both are needed where pretrained is not given"):
        models.create("mlp")
    with pytest.raises(SettingError, match="no trained weights of 'mlp' on 'cifar10'; with the package come"):
        models.create("mlp", pretrained="cifar10")


def test_large_images_take_the_stems_of_the_papers():
    for name, first, shape in (
        ("resnet18", "conv1.weight", (64, 3, 7, 7)), ("convnext_atto", "stem.0.weight", (40, 3, 4, 4)),
        ("vit_tiny", "patch_embed.proj.weight", (192, 3, 16, 16)), ("convmixer", "stem.0.weight", (128, 3, 7, 7)),
    ):  # fmt: skip
        assert nn.state_dict(models.create(name, (3, 224, 224), 10))[first].shape == shape


def test_whitening_whitens():
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((200, 3, 9, 9))
    images = (smooth[..., :-1, :-1] + smooth[..., 1:, :-1] + smooth[..., :-1, 1:]).astype(np.float32)
    filters = whitening(images, eps=0.0)
    assert filters.shape == (24, 3, 2, 2)
    np.testing.assert_array_equal(filters[12:], -filters[:12])
    patches = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    made = patches @ filters[:12].reshape(12, 12).T
    np.testing.assert_allclose(made.T @ made / len(made), np.eye(12), atol=1e-4)
    model = models.create("speedrun", (3, 16, 16), 10)
    fitted = model.fitted_to(images)
    np.testing.assert_allclose(fitted.whiten.weight, whitening(images))
    assert "whiten.weight" not in nn.params(fitted)


@pytest.mark.parametrize("name", SMALL)
def test_weights_go_through_a_file(tmp_path, name):
    model = models.create(name, (3, 8, 8), 5, seed=1)
    nn.save_weights(model, tmp_path / "w.safetensors", {"made": "here"})
    loaded, fit = nn.load_weights(models.create(name, (3, 8, 8), 5, seed=2), tmp_path / "w.safetensors")
    assert fit.complete
    assert all((x == nn.state_dict(loaded)[n]).all() for n, x in nn.state_dict(model).items())


def test_the_report_of_weights_that_do_not_fit(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    model = models.create("lenet", (1, 8, 8), 5)
    arrays = {n: np.array(x) for n, x in nn.state_dict(model).items()}
    arrays["fc3.weight"] = np.zeros((7, 64), np.float32)
    arrays["bn.num_batches_tracked"] = np.array(3)
    arrays["extra"] = arrays.pop("fc1.bias")
    safetensors.save_file(arrays, tmp_path / "w.safetensors")
    with pytest.raises(ArgumentError, match="does not fit LeNet: 8 loaded, 1 missing, 1 unexpected, 1 misshapen") as error:
        nn.load_weights(model, tmp_path / "w.safetensors")
    for line in ("missing     fc1.bias", "unexpected  extra", r"misshapen   fc3.weight: (7, 64) in the file, (5, 64) in the model", "strict=False"):
        assert line in str(error.value)
    made, fit = nn.load_weights(model, tmp_path / "w.safetensors", strict=False)
    assert (fit.missing, fit.unexpected) == (("fc1.bias",), ("extra",))
    assert (nn.state_dict(made)["fc3.weight"] == nn.state_dict(model)["fc3.weight"]).all()


def test_files_that_hold_no_weights(tmp_path):
    model = models.create("mlp", (1, 4, 4), 2)
    with pytest.raises(ArgumentError, match="there is no such file"):
        nn.load_weights(model, tmp_path / "none.safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"nothing")
    with pytest.raises(ArgumentError, match="is damaged or no safetensors file"):
        nn.load_weights(model, tmp_path / "w.safetensors")


def test_the_cost_of_a_linear_model_by_hand():
    cost = cost_of("mlp", (1, 2, 2), 3, batch=5)
    sizes = ((4, 128), (128, 64), (64, 3))
    assert cost.parameters == sum(a * b + b for a, b in sizes)
    # Two operations per weight, one per bias added, one per ReLU.
    assert cost.flops == sum(2 * a * b + b for a, b in sizes) + 128 + 64
    # Weights and two averages, before and after the step, and gradients: seven times four bytes; images are few here.
    assert cost.memory == pytest.approx(7 * 4 * cost.parameters, rel=0.02)


def test_memory_grows_with_the_batch_and_is_given_back():
    from portable_nn.core import selection

    live = selection.get("null").memory.live
    small, middle, large = (cost_of("resnet8", (3, 16, 16), 10, batch).memory for batch in (32, 64, 128))
    assert (large - middle) / (middle - small) == pytest.approx(2, rel=0.1)
    assert selection.get("null").memory.live == live


def test_the_command_lists_costs(capsys):
    assert main(["models", "resnet20", "unet", "--image", "3x32x32", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["resnet20", "unet"]
    assert rows[0]["parameters"] == 272474
    # He et al. 2015 and everyone after: 41 million multiplications and additions per image.
    assert rows[0]["flops"] == pytest.approx(2 * 41e6, rel=0.05)
    assert main(["models", "speedrun", "mlp", "--image", "1,8,8"]) == 0
    told = capsys.readouterr().out
    assert "speedrun: images are 8x8" in told
    assert "linear layers" in told
    assert main(["models", "--image", "wide"]) == 2
    assert "--image is 'wide'" in capsys.readouterr().err


def test_the_command_lists_data(tmp_path, capsys):
    assert main(["data", "--folder", str(tmp_path), "--json"]) == 0
    assert not any(row["there"] for row in json.loads(capsys.readouterr().out))
    assert main(["data", "mnist", "--folder", str(tmp_path), "--offline"]) == 2
    assert "fetch elsewhere and put" in capsys.readouterr().err
    assert main(["data", "mnits"]) == 2
    assert "no data set 'mnits'" in capsys.readouterr().err


def test_the_command_draws_augmentation(tmp_path, capsys):
    image = pytest.importorskip("PIL.Image", reason="the picture is Pillow's")
    pytest.importorskip("sklearn", reason="the digits are scikit-learn's")
    picture = tmp_path / "a" / "digits.png"
    assert main(["show-augment", "--augment", "rotate:20", "--mixup", "0.2", "--backend", "numpy", "--picture", str(picture)]) == 0
    assert "Rotate(degrees=20), MixUp(alpha=0.2)" in capsys.readouterr().out
    with image.open(picture) as made:
        assert made.size == (10 * 68, 6 * 68)
