"""The models as PyTorch has them: torchvision's and timm's own where they exist, else written down once more.

Nothing here is taken from portable_nn: a mistake there must not be repeated here.
"""

from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F  # noqa: N812
import torchvision.models as tv
from timm.models.convmixer import ConvMixer
from timm.models.convnext import ConvNeXt
from timm.models.mlp_mixer import MlpMixer
from timm.models.vision_transformer import VisionTransformer
from torch import nn


class MLP(nn.Module):
    def __init__(self, inputs, hidden=(128, 64)):
        super().__init__()
        sizes = (inputs, *hidden)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], 10)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(x).relu()
        return self.head(x)


class LeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = F.max_pool2d(self.conv1(x).relu(), 2)
        x = F.max_pool2d(self.conv2(x).relu(), 2).flatten(1)
        return self.fc3(self.fc2(self.fc1(x).relu()).relu())


class AllConv(nn.Module):
    def __init__(self):
        super().__init__()
        plan = ((3, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2), (64, 128, 1))
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, s, 1, bias=False) for a, b, s in plan)
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for _, b, _ in plan)
        self.head = nn.Conv2d(128, 10, 1)

    def forward(self, x):
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(conv(x)).relu()
        return self.head(x).mean((2, 3))


class CifarResNet(nn.Module):
    """Three stages of torchvision's basic blocks, with a 1x1 convolution where the shape changes."""

    def __init__(self, depth, channels=3):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        came = 16
        for number, made in enumerate((16, 32, 64), start=1):
            blocks = []
            for i in range((depth - 2) // 6):
                stride = 2 if number > 1 and i == 0 else 1
                down = None
                if came != made or stride != 1:
                    down = nn.Sequential(nn.Conv2d(came, made, 1, stride, bias=False), nn.BatchNorm2d(made))
                blocks.append(tv.resnet.BasicBlock(came, made, stride, down))
                came = made
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


def small_resnet(maker):
    model = maker(num_classes=10)
    model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return model


def small_vgg():
    model = tv.VGG(tv.vgg.make_layers(tv.vgg.cfgs["A"], batch_norm=True), 10, False)
    model.avgpool = nn.AdaptiveAvgPool2d(1)
    model.classifier = nn.Sequential(
        nn.Linear(512, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(), nn.Linear(512, 10)
    )
    return model


def small_mobilenet(dropout=0.2, channels=3):
    model = tv.mobilenet_v2(num_classes=10, dropout=dropout)
    model.features[0][0] = nn.Conv2d(channels, 32, 3, 1, 1, bias=False)
    model.features[2].conv[1][0].stride = (1, 1)
    return model


class SpeedRun(nn.Module):
    """The network of Jordan 2024 (arXiv:2404.00498), as its paper describes it."""

    class Group(nn.Module):
        def __init__(self, came, made):
            super().__init__()
            self.conv1, self.conv2 = (nn.Conv2d(a, made, 3, padding="same", bias=False) for a in (came, made))
            self.norm1, self.norm2 = (nn.BatchNorm2d(made, eps=1e-12, momentum=0.4) for _ in range(2))

        def forward(self, x):
            x = F.gelu(self.norm1(F.max_pool2d(self.conv1(x), 2)))
            return F.gelu(self.norm2(self.conv2(x)))

    def __init__(self):
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.groups = nn.Sequential(self.Group(24, 64), self.Group(64, 256), self.Group(256, 256))
        self.head = nn.Linear(256, 10, bias=False)

    def forward(self, x):
        x = self.groups(F.gelu(self.whiten(x)))
        return self.head(F.max_pool2d(x, 3).flatten(1)) / 9


def double_conv(came, made):
    made = nn.Sequential(
        nn.Conv2d(came, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU(),
        nn.Conv2d(made, made, 3, padding=1, bias=False), nn.BatchNorm2d(made), nn.ReLU(),
    )  # fmt: skip
    return nn.ModuleDict({"double_conv": made})


class UNet(nn.Module):
    def __init__(self, width=32, levels=3):
        super().__init__()
        self.levels = levels
        self.inc = double_conv(3, width)
        for i in range(levels):
            inner = nn.ModuleList([nn.MaxPool2d(2), double_conv(width * 2**i, width * 2 ** (i + 1))])
            setattr(self, f"down{i + 1}", nn.ModuleDict({"maxpool_conv": inner}))
        for i in range(levels):
            came = width * 2 ** (levels - i)
            setattr(self, f"up{i + 1}", nn.ModuleDict({"up": nn.ConvTranspose2d(came, came // 2, 2, 2), "conv": double_conv(came, came // 2)}))
        self.outc = nn.ModuleDict({"conv": nn.Conv2d(width, 10, 1)})

    def forward(self, x):
        kept = [self.inc["double_conv"](x)]
        for i in range(self.levels):
            pool, conv = getattr(self, f"down{i + 1}")["maxpool_conv"]
            kept.append(conv["double_conv"](pool(kept[-1])))
        x = kept.pop()
        for i in range(self.levels):
            up, around = getattr(self, f"up{i + 1}"), kept.pop()
            x = up["up"](x)
            dy, dx = around.shape[2] - x.shape[2], around.shape[3] - x.shape[3]
            x = F.pad(x, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))
            x = up["conv"]["double_conv"](torch.cat([around, x], 1))
        return self.outc["conv"](x)


class Autoencoder(nn.Module):
    """For 3x32x32."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2048, 32)
        )
        self.expand = nn.Linear(32, 2048)
        self.decoder = nn.Sequential(nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 3, 2, 1, 1))

    def forward(self, x):
        return self.decoder(self.expand(self.encoder(x)).relu().reshape(-1, 32, 8, 8))


def convnext(patch):
    model = ConvNeXt(depths=(2, 2, 6, 2), dims=(40, 80, 160, 320), conv_mlp=True, num_classes=10)
    model.stem[0] = nn.Conv2d(3, 40, patch, patch)  # timm's own setting of a smaller patch halves the image elsewhere instead
    return model


def vit(size=32, patch=4, channels=3):
    return VisionTransformer(img_size=size, patch_size=patch, in_chans=channels, embed_dim=192, depth=12, num_heads=3, num_classes=10)


CASES = {
    "mlp": ("mlp", (3, 32, 32), lambda: MLP(3072)),
    "lenet": ("lenet", (1, 28, 28), LeNet),
    "allconv": ("allconv", (3, 32, 32), AllConv),
    **{f"resnet{d}": (f"resnet{d}", (3, 32, 32), partial(CifarResNet, d)) for d in (8, 20, 32, 44, 56)},
    **{f"resnet{d}": (f"resnet{d}", (3, 64, 64), partial(getattr(tv, f"resnet{d}"), num_classes=10)) for d in (18, 34, 50)},
    "resnet18, small": ("resnet18", (3, 32, 32), lambda: small_resnet(tv.resnet18)),
    "vgg11, small": ("vgg11", (3, 32, 32), small_vgg),
    "mobilenet_v2": ("mobilenet_v2", (3, 64, 64), partial(tv.mobilenet_v2, num_classes=10)),
    "mobilenet_v2, small": ("mobilenet_v2", (3, 32, 32), small_mobilenet),
    "convmixer": ("convmixer", (3, 32, 32), partial(ConvMixer, 128, 8, kernel_size=5, patch_size=2, num_classes=10)),
    "convnext_atto": ("convnext_atto", (3, 64, 64), partial(convnext, 4)),
    "convnext_atto, small": ("convnext_atto", (3, 32, 32), partial(convnext, 2)),
    "mixer": ("mixer", (3, 32, 32), partial(MlpMixer, 10, 32, patch_size=4, num_blocks=8, embed_dim=128)),
    "vit_tiny": ("vit_tiny", (3, 32, 32), vit),
    "speedrun": ("speedrun", (3, 32, 32), SpeedRun),
    "unet": ("unet", (3, 20, 28), UNet),
    "autoencoder": ("autoencoder", (3, 32, 32), Autoencoder),
}
"""Name of the case: our name of the model, the shape of an image, PyTorch's model."""

TRAINED = {
    "lenet": ("lenet", (1, 28, 28), LeNet),
    "resnet20": ("resnet20", (1, 8, 8), partial(CifarResNet, 20, 1)),
    "mobilenet_v2": ("mobilenet_v2", (1, 8, 8), partial(small_mobilenet, 0.0, 1)),
    "vit_tiny": ("vit_tiny", (1, 8, 8), partial(vit, 8, 2, 1)),
}
"""Models whose gradients are stored along a training run, on images small enough for every backend's test."""
