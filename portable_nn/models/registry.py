"""Models by name, for the trainer and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from .. import nn
from ..core.errors import SettingError
from .allconv import AllConv
from .autoencoder import Autoencoder
from .convmixer import ConvMixer
from .convnext import ConvNeXt
from .lenet import LeNet
from .mixer import MLPMixer
from .mlp import MLP
from .mobilenet import MobileNetV2
from .pretrained import describe, with_pretrained
from .resnet import ResNet
from .resnet_imagenet import ImageNetResNet
from .speedrun import SpeedRun
from .transformer import VisionTransformer
from .unet import UNet
from .vgg import VGG11

Maker = Callable[[tuple[int, int, int], int], nn.Module]
CLASSIFICATION, SEGMENTATION, RECONSTRUCTION = "classification", "segmentation", "reconstruction"


@dataclass(frozen=True)
class Entry:
    """A model that has a name: how it is made, what it is for, and in a line what it is."""

    make: Maker
    about: str
    task: str = CLASSIFICATION


MODELS: dict[str, Entry] = {
    "mlp": Entry(MLP, "linear layers with ReLU"),
    "lenet": Entry(LeNet, "LeNet-5, and its small sister for images below 20 pixels"),
    "allconv": Entry(AllConv, "convolutions alone, with strides for pooling"),
    "resnet8": Entry(partial(ResNet, depth=8), "the smallest residual net for CIFAR"),
    "resnet20": Entry(partial(ResNet, depth=20), "He et al. 2015 for CIFAR; trained weights come along"),
    "resnet32": Entry(partial(ResNet, depth=32), "He et al. 2015 for CIFAR"),
    "resnet44": Entry(partial(ResNet, depth=44), "He et al. 2015 for CIFAR"),
    "resnet56": Entry(partial(ResNet, depth=56), "He et al. 2015 for CIFAR"),
    "resnet18": Entry(partial(ImageNetResNet, depth=18), "four stages, torchvision's names"),
    "resnet34": Entry(partial(ImageNetResNet, depth=34), "four stages, torchvision's names"),
    "resnet50": Entry(partial(ImageNetResNet, depth=50), "four stages of bottlenecks, torchvision's names"),
    "vgg11": Entry(VGG11, "VGG-11 with batch normalisation, torchvision's names"),
    "mobilenet_v2": Entry(MobileNetV2, "inverted residuals, torchvision's names"),
    "convmixer": Entry(ConvMixer, "patches and wide convolutions per channel, timm's names"),
    "convnext_atto": Entry(ConvNeXt, "the smallest ConvNeXt, timm's names"),
    "mixer": Entry(MLPMixer, "MLPs across patches and channels, timm's names"),
    "vit_tiny": Entry(VisionTransformer, "a vision transformer, timm's names"),
    "speedrun": Entry(SpeedRun, "the net of CIFAR-10 speed runs"),
    "unet": Entry(UNet, "scores for each pixel", SEGMENTATION),
    "autoencoder": Entry(Autoencoder, "an image through 32 numbers and back", RECONSTRUCTION),
}


def names(task: str | None = CLASSIFICATION) -> tuple[str, ...]:
    """Return the names of the models for a task; None for all."""
    return tuple(name for name, entry in MODELS.items() if task in (None, entry.task))


def check_name(name: str, task: str | None = CLASSIFICATION) -> None:
    """Raise `SettingError` (with a close match) unless there is a model of that name for the task; None for any task."""
    if name not in MODELS:
        close = get_close_matches(name, MODELS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise SettingError(f"there is no model named {name!r}; {hint}Known: {', '.join(names(task))}")
    if task not in (None, MODELS[name].task):
        raise SettingError(f"the model {name!r} is for {MODELS[name].task}, not {task}; for that there are {', '.join(names(task))}")


def create(
    name: str, in_shape: tuple[int, int, int] | None = None, classes: int | None = None, seed: int = 0, pretrained: str | None = None
) -> nn.Module:
    """Return a model with freshly drawn or trained weights, on the host; `model.to(...)` moves it.

    Parameters
    ----------
    name : str
        One of `names(None)`.
    in_shape : (int, int, int)
        C, H, W of an image; may be left out with `pretrained`.
    classes : int
        Scores per image, or per pixel; may be left out with `pretrained`.
    seed : int
        Of the weights: equal seeds give equal weights on every backend and machine.
    pretrained : str, optional
        Data set whose trained weights are taken, such as ``"cifar10"`` for resnet20. With another number of classes the
        last layer stays fresh, to be fine-tuned. `describe` tells the normalisation they need.

    Raises
    ------
    SettingError
        An unknown name (with a close match), images too small for the model, no shape or classes, no such weights.

    Examples
    --------
    >>> model = pnn.models.create("resnet20", pretrained="cifar10")
    """
    check_name(name, None)
    if pretrained is not None:
        known = describe(name, pretrained)
        in_shape, classes = in_shape or known.in_shape, classes or len(known.classes)
    if in_shape is None or classes is None:
        raise SettingError(f"create: in_shape is {in_shape} and classes is {classes} but both are needed where pretrained is not given")
    with nn.seed(seed):
        made = MODELS[name].make(in_shape, classes)
    return made if pretrained is None else with_pretrained(made, name, pretrained)
