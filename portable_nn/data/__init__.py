"""Data sets as NumPy arrays: fetching, reading, splitting, normalising, batching. NumPy only; pooch, Pillow and scikit-learn late."""

from .batches import Batch as Batch
from .batches import Batches as Batches
from .cifar import read_cifar as read_cifar
from .dataset import Dataset as Dataset
from .dataset import check_every_class as check_every_class
from .decode import read_image as read_image
from .digits import read_digits as read_digits
from .fetch import data_folder as data_folder
from .folder import read_image_folder as read_image_folder
from .idx import read_idx as read_idx
from .idx import read_idx_folder as read_idx_folder
from .named import read_named as read_named
from .npz import read_npz as read_npz
from .published import PUBLISHED as PUBLISHED
from .split import Splits as Splits
from .split import load as load
from .split import load_splits as load_splits
from .split import stratified_split as stratified_split
from .svhn import read_svhn as read_svhn
from .transform import Normalisation as Normalisation
from .transform import measure_normalisation as measure_normalisation
from .vision import MissingExtraError as MissingExtraError
