"""Models as reading material, with the parameter names PyTorch users know."""

from .lenet import LeNet as LeNet
from .mlp import MLP as MLP
from .registry import check_name as check_name
from .registry import create as create
from .registry import names as names
from .resnet import ResNet as ResNet
