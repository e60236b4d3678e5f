"""Models as reading material, with the parameter names PyTorch users know."""

from .allconv import AllConv as AllConv
from .autoencoder import Autoencoder as Autoencoder
from .convmixer import ConvMixer as ConvMixer
from .convnext import ConvNeXt as ConvNeXt
from .lenet import LeNet as LeNet
from .mixer import MLPMixer as MLPMixer
from .mlp import MLP as MLP
from .mobilenet import MobileNetV2 as MobileNetV2
from .pretrained import Pretrained as Pretrained
from .pretrained import available as available
from .pretrained import describe as describe
from .registry import MODELS as MODELS
from .registry import check_name as check_name
from .registry import create as create
from .registry import names as names
from .resnet import ResNet as ResNet
from .resnet_imagenet import ImageNetResNet as ImageNetResNet
from .speedrun import SpeedRun as SpeedRun
from .transformer import VisionTransformer as VisionTransformer
from .unet import UNet as UNet
from .vgg import VGG11 as VGG11
