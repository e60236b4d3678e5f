"""Augmentation on the device, drawn from the seed and the step: every backend makes the same choices.

>>> augmented = augment.pipeline("flip,crop:4", seed=0, mean=mean, std=std, classes=10)
>>> images, targets = augmented(images, labels, step)
"""

from .color import ColorJitter as ColorJitter
from .color import Levels as Levels
from .erasing import Cutout as Cutout
from .erasing import RandomErasing as RandomErasing
from .geometry import Affine as Affine
from .geometry import Crop as Crop
from .geometry import Flip as Flip
from .geometry import Rotate as Rotate
from .geometry import Shift as Shift
from .mixing import CutMix as CutMix
from .mixing import MixUp as MixUp
from .pipeline import Pipeline as Pipeline
from .pipeline import pipeline as pipeline
from .registry import Augmentation as Augmentation
from .registry import describe as describe
from .registry import parse as parse
