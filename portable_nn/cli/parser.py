"""What the commands share: the help's examples, its form, and the options that choose a device."""

from __future__ import annotations

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
RAW = argparse.RawDescriptionHelpFormatter
EXAMPLES = """examples:
  portable-nn train                                  LeNet on scikit-learn's digits, under a minute on two cores
  portable-nn train --data ./mnist --epochs 3        a folder with MNIST's IDX files
  portable-nn train --data ./photos --image-size 32 --model resnet20
  portable-nn train --backend numpy --out runs/a     on another backend, in a folder of your choice
  portable-nn train --resume runs/a                  go on with a run that was stopped
  portable-nn eval runs/a                            accuracy per class on the test set
  portable-nn predict runs/a digit.png               the three likeliest classes
  portable-nn lr-find --optimizer sgd                find a learning rate
  portable-nn sweep --grid lr=0.001,0.01 --epochs 5  one run per value, one table and page
  portable-nn compare runs/a runs/b                  runs side by side
  portable-nn verify                                 check every op on your device
  portable-nn tune --budget 300                      find the kernel sizes that are fastest on it
  portable-nn info                                   backends, devices, and why one is not ready
"""


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--backend`` and ``--device``."""
    parser.add_argument("--backend", help="backend, or ordered list separated by commas")
    parser.add_argument("--device", help="device by index or part of its name")


def add_use(parser: argparse.ArgumentParser) -> None:
    """Add what eval and predict share: ``--best`` and ``--tta``."""
    from ..train.views import VIEWS

    parser.add_argument("--best", action="store_true", help="the model with the best reading of the validation set, in place of the last")
    parser.add_argument("--tta", choices=tuple(VIEWS), help="views of each image that are averaged")
