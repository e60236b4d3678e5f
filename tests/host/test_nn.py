"""Modules: names, frozen records, modes and state, first weights. Layers against their ops and hand formulas."""

import numpy as np
import pytest

import portable_nn as pnn
from portable_nn import models, nn, ops, tree
from portable_nn.core.errors import ArgumentError, SettingError, ShapeError


@pytest.fixture(autouse=True)
def numpy_backend():
    with pnn.use_backend("numpy"):
        yield


class Net(nn.Module):
    def __init__(self):
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.blocks = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)]
        self.scale = 2.0

    def __call__(self, x):
        x = ops.mean(ops.relu(self.bn1(self.conv1(x))), axis=(2, 3))
        for block in self.blocks:
            x = block(x)
        return ops.multiply(x, self.scale)


NAMES = [
    "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "blocks.0.0.weight",
    "blocks.0.0.bias", "blocks.1.weight", "blocks.1.bias",
]  # fmt: skip


def images(count=3, size=5):
    return np.random.default_rng(0).standard_normal((count, 1, size, size)).astype(np.float32)


def test_names_are_those_of_pytorch():
    model = Net()
    assert list(nn.state_dict(model)) == NAMES
    assert list(nn.buffers(model)) == ["bn1.running_mean", "bn1.running_var"]
    assert list(nn.params(model)) == [n for n in NAMES if "running" not in n]
    assert [name for name, _ in tree.named_leaves(model)] == NAMES
    assert nn.count_params(model) == 36 + 8 + 20 + 10


def test_a_module_is_frozen():
    model = Net()
    with pytest.raises(ArgumentError, match="with_params"):
        model.scale = 3.0
    with pytest.raises(ArgumentError, match="cannot be deleted"):
        del model.scale


def test_mapping_makes_a_new_module_and_leaves_the_old():
    model = Net()
    doubled = tree.map(lambda x: 2 * x, model)
    np.testing.assert_array_equal(doubled.blocks[1].weight, 2 * model.blocks[1].weight)
    assert type(doubled) is Net
    assert doubled.scale == 2.0
    assert isinstance(doubled.blocks, list)


def test_with_params_replaces_by_name():
    model = Net()
    zero = np.zeros((2, 4), np.float32)
    changed = nn.with_params(model, {"blocks.1.weight": zero})
    assert changed.blocks[1].weight is zero
    assert changed.blocks[0][0].weight is model.blocks[0][0].weight
    assert model.blocks[1].weight is not zero
    with pytest.raises(ArgumentError, match=r"'conv1.wieght'; did you mean 'conv1.weight'"):
        nn.with_params(model, {"conv1.wieght": zero})


def test_load_state_dict_checks_names_and_shapes():
    model, other = Net(), Net()
    state = nn.state_dict(other) | {"bn1.num_batches_tracked": np.array(7)}
    loaded = nn.load_state_dict(model, state)
    for name, x in nn.state_dict(loaded).items():
        np.testing.assert_array_equal(x, state[name])
    short = {n: x for n, x in state.items() if n != "bn1.bias"}
    with pytest.raises(ArgumentError, match=r"missing: bn1.bias"):
        nn.load_state_dict(model, short)
    with pytest.raises(ArgumentError, match=r"unknown: fc.weight"):
        nn.load_state_dict(model, state | {"fc.weight": np.zeros(3)})
    with pytest.raises(ShapeError, match=r"blocks.1.bias has shape \(3,\).*needs \(2,\)"):
        nn.load_state_dict(model, state | {"blocks.1.bias": np.zeros(3, np.float32)})


def test_one_layer_in_two_places_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            self.a = nn.Linear(2, 2)
            self.b = self.a

    with pytest.raises(ArgumentError, match="a and b are one Linear"):
        Tied()
    act = nn.ReLU()  # without parameters it does no harm
    nn.Sequential(act, nn.Linear(2, 2), act)


def test_an_array_must_say_what_it_is():
    class Bare(nn.Module):
        def __init__(self):
            self.w = np.zeros(3)

    with pytest.raises(ArgumentError, match=r"nn.parameter\(array\) or nn.buffer\(array\)"):
        Bare()


def test_own_parameters_and_buffers():
    class Scale(nn.Module):
        def __init__(self):
            self.gain = nn.parameter(np.float32([2.0]))
            self.seen = nn.buffer(np.float32([0.0]))

        def __call__(self, x):
            return ops.multiply(x, self.gain)

    model = Scale()
    assert list(nn.params(model)) == ["gain"]
    assert list(nn.buffers(model)) == ["seen"]
    np.testing.assert_array_equal(model(np.float32([3.0])), [6.0])


def test_a_module_without_a_call_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(ArgumentError, match="Empty has no __call__"):
        Empty()(1)


def test_repr_shows_settings_and_nesting():
    text = repr(Net())
    assert "(conv1): Conv2d(in_channels=1, out_channels=4, kernel_size=(3, 3), stride=1, padding=1" in text
    assert "scale=2.0" in text


# -- modes and state --------------------------------------------------------------------------------------------------


def test_outside_apply_layers_are_in_evaluation_mode():
    model, x = Net(), images()
    y, state = nn.apply(model, x)
    np.testing.assert_array_equal(y, model(x))
    assert state == {}


def test_batch_norm_state_comes_out_once_and_is_that_of_pytorch():
    bn = nn.BatchNorm2d(3, momentum=0.2)
    x = np.random.default_rng(1).standard_normal((4, 3, 2, 5)).astype(np.float32) * 3 + 1
    y, state = nn.apply(bn, x, train=True)
    axes, count = (0, 2, 3), 4 * 2 * 5
    mean, var = x.mean(axes), x.var(axes)
    np.testing.assert_allclose(y, (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None], rtol=1e-4, atol=1e-5)
    assert list(state) == ["running_mean", "running_var"]
    np.testing.assert_allclose(state["running_mean"], 0.2 * mean, rtol=1e-5)
    np.testing.assert_allclose(state["running_var"], 0.8 + 0.2 * var * count / (count - 1), rtol=1e-5)
    np.testing.assert_array_equal(bn.running_mean, 0)  # the module itself does not change
    after = nn.with_state(bn, state)
    expected = (x - state["running_mean"][:, None, None]) / np.sqrt(state["running_var"] + 1e-5)[:, None, None]
    np.testing.assert_allclose(after(x), expected, rtol=1e-4, atol=1e-5)


def test_state_has_full_names_and_is_untraced():
    model, x = Net(), images()

    def loss(params):
        y, state = nn.apply(nn.with_params(model, params), x, train=True)
        return ops.mean(y), state

    (_, state), grads = pnn.value_and_grad(loss, has_aux=True)(nn.params(model))
    assert set(state) == {"bn1.running_mean", "bn1.running_var"}
    assert all(isinstance(v, np.ndarray) for v in state.values())
    assert list(grads) == list(nn.params(model))


def test_batch_norm_refuses_what_it_cannot_normalise():
    with pytest.raises(ShapeError, match="no variance"):
        nn.apply(nn.BatchNorm1d(3), np.zeros((1, 3), np.float32), train=True)
    with pytest.raises(ShapeError, match=r"4 axes"):
        nn.BatchNorm2d(3)(np.zeros((2, 3), np.float32))


def test_a_foreign_batch_norm_inside_apply_has_no_name():
    stray = nn.BatchNorm1d(2)

    class Outer(nn.Module):
        def __call__(self, x):
            return stray(x)

    with pytest.raises(ArgumentError, match="no part of Outer"):
        nn.apply(Outer(), np.eye(2, dtype=np.float32), train=True)


def test_dropout_depends_on_key_and_place():
    model = nn.Sequential(nn.Dropout(0.5))
    x = np.ones((100, 20), np.float32)
    key = pnn.random_key(3)
    once, again = (nn.apply(model, x, train=True, key=key)[0] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert set(np.unique(once)) == {0.0, 2.0}
    assert abs(once.mean() - 1.0) < 0.1
    other, _ = nn.apply(model, x, train=True, key=pnn.random_key(4))
    assert (other != once).any()

    class Twice(nn.Module):
        def __init__(self):
            self.drop = nn.Dropout(0.5)

        def __call__(self, x):
            return self.drop(x), self.drop(x)

    first, second = nn.apply(Twice(), x, train=True, key=key)[0]
    assert (first != second).any()
    np.testing.assert_array_equal(model(x), x)
    with pytest.raises(ArgumentError, match="no key was given"):
        nn.apply(model, x, train=True)
    with pytest.raises(SettingError, match=r"p is 1.5"):
        nn.Dropout(1.5)


def test_an_error_inside_apply_ends_training_mode():
    with pytest.raises(ArgumentError):
        nn.apply(nn.Dropout(0.5), np.ones(3, np.float32), train=True)
    assert nn.current() is None


# -- first weights ----------------------------------------------------------------------------------------------------


def test_weights_depend_on_the_seed_only():
    one, same, other = (models.create("lenet", (1, 8, 8), 10, seed=s) for s in (5, 5, 6))
    for name, x in nn.state_dict(one).items():
        np.testing.assert_array_equal(x, nn.state_dict(same)[name])
    assert (one.conv1.weight != other.conv1.weight).any()
    with nn.seed(5):
        a, b = nn.Linear(4, 4), nn.Linear(4, 4)
    assert (a.weight != b.weight).any()


def test_first_weights_are_fixed_for_ever():
    # Golden: a change of these numbers changes every published run.
    with nn.seed(0):
        layer = nn.Linear(4, 1)
    words = np.random.Philox(key=np.array([0, 17], np.uint64), counter=np.array([0, 1, 0, 0], np.uint64)).random_raw(4)
    expected = (2.0 * (words >> np.uint64(11)).astype(np.float64) * 2.0**-53 - 1.0) * 0.5
    np.testing.assert_array_equal(layer.weight[0], expected.astype(np.float32))


@pytest.mark.parametrize(
    ("layer", "fan_in"), [(lambda: nn.Linear(100, 200), 100), (lambda: nn.Conv2d(16, 64, 3, groups=4), 36)]
)
def test_default_weights_are_uniform_in_pytorchs_bound(layer, fan_in):
    with nn.seed(1):
        made = layer()
    bound = 1 / np.sqrt(fan_in)
    for x in (made.weight, made.bias):
        assert x.dtype == np.float32
        assert np.abs(x).max() <= bound
    assert np.abs(made.weight).max() > 0.98 * bound
    assert abs(made.weight.std() - bound / np.sqrt(3)) < 0.03 * bound


def test_embedding_starts_normal_with_a_zero_row():
    with nn.seed(1):
        made = nn.Embedding(200, 50, padding_idx=3)
    assert abs(made.weight.std() - 1) < 0.03
    assert (made.weight[3] == 0).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: nn.Linear(0, 3), "in_features is 0"),
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups is 2"),
        (lambda: nn.Embedding(5, 2, padding_idx=5), "padding_idx is 5"),
        (lambda: nn.init.seed(-1).__enter__(), "seed is -1"),
        (lambda: models.create("lenett", (1, 8, 8), 10), "did you mean 'lenet'"),
        (lambda: models.create("lenet", (1, 3, 8), 10), "3x8"),
        (lambda: models.ResNet((3, 32, 32), 10, depth=21), "depth is 21"),
    ],
)
def test_bad_settings_name_the_value(make, words):
    with pytest.raises(SettingError, match=words):
        make()


def test_sequential_flatten_identity():
    model = nn.Sequential(nn.Identity(), nn.Flatten(), nn.Linear(25, 2))
    assert len(model) == 3
    assert model(images()).shape == (3, 2)
    assert model[2].out_features == 2
    assert nn.Flatten(0, 1)(np.zeros((2, 3, 4), np.float32)).shape == (6, 4)
    with pytest.raises(ShapeError, match="Flatten"):
        nn.Flatten(3)(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [("lenet", (1, 28, 28), 61706), ("resnet20", (3, 32, 32), 272474), ("resnet32", (3, 32, 32), 466906), ("mlp", (1, 8, 8), 17226)],
)
def test_models_have_the_published_number_of_parameters(name, shape, count):
    assert nn.count_params(models.create(name, shape, 10)) == count


def test_resnet_names_are_torchvisions():
    names = set(nn.state_dict(models.create("resnet20", (3, 8, 8), 10)))
    for name in ("layer1.2.bn2.running_var", "layer2.0.downsample.0.weight", "layer2.0.downsample.1.bias", "fc.weight"):
        assert name in names


@pytest.mark.parametrize("name", models.names())
def test_every_model_gives_scores(name):
    model = models.create(name, (3, 12, 10), 7)
    assert model(np.zeros((2, 3, 12, 10), np.float32)).shape == (2, 7)


def test_to_moves_and_converts():
    model = models.create("mlp", (1, 2, 2), 3).to("numpy", dtype="float64")
    assert {x.dtype.name for x in nn.state_dict(model).values()} == {"float64"}
