"""The published data sets that `load` knows by name: their files, checksums, and where copies lie.

MD5 sums and addresses of MNIST, Fashion-MNIST and SVHN are those in torchvision 0.28 (`torchvision/datasets/mnist.py`,
`svhn.py`); those of the CIFAR binary versions stand on their authors' page, https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class File:
    """One file to fetch: its name, the MD5 sum of its bytes, and its addresses, the first one first."""

    name: str
    md5: str
    urls: tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """A data set with a name.

    Parameters
    ----------
    name : str
        As the command line has it.
    title : str
    files : tuple of File
    folder : str
        Where the files lie below the data folder, which is where torchvision puts them too.
    kind : "idx", "cifar10", "cifar100" or "svhn"
        Which reader they need.
    classes : tuple of str
        Empty where the files hold the names.
    unpacked : str
        The folder that an archive unpacks to; empty where there is none.
    pickled : str
        The folder of torchvision's pickled copy, which is not read: unpickling runs whatever code the file holds.
    """

    name: str
    title: str
    files: tuple[File, ...]
    folder: str
    kind: str
    classes: tuple[str, ...] = ()
    unpacked: str = ""
    pickled: str = ""


def _idx(sums: tuple[str, str, str, str], bases: tuple[str, ...]) -> tuple[File, ...]:
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    return tuple(
        File(f"{name}.gz", md5, tuple(f"{base}{name}.gz" for base in bases)) for name, md5 in zip(names, sums, strict=True)
    )


_KRIZ, _SVHN = "https://www.cs.toronto.edu/~kriz/", "http://ufldl.stanford.edu/housenumbers/"
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

PUBLISHED: dict[str, Published] = {
    made.name: made
    for made in (
        Published(
            "mnist", "MNIST: 70,000 handwritten digits, 28x28 grey",
            _idx(
                (
                    "f68b3c2dcbeaaa9fbdd348bbdeb94873", "d53e105ee54ea40749a09fcbcd1e9432",
                    "9fb629c4189551a2d022fa330f9573f3", "ec29112dd5afa0611ce80d1b7f02629c",
                ),
                ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            ),
            "MNIST/raw", "idx",
        ),
        Published(
            "fashion-mnist", "Fashion-MNIST: 70,000 articles of clothing, 28x28 grey",
            _idx(
                (
                    "8d4fb7e6c68d591d4c3dfef9ec88bf0d", "25c81989df183df01b3e8a0aad5dffbe",
                    "bef4ecab320f06d8554ea6380940ec79", "bb300cfdad3c16e7a12a480ee83cd310",
                ),
                ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
            ),
            "FashionMNIST/raw", "idx",
            ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        Published(
            "cifar10", "CIFAR-10: 60,000 photographs of 10 classes, 32x32 colour",
            (File("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", (f"{_KRIZ}cifar-10-binary.tar.gz",)),),
            "", "cifar10", CIFAR10_CLASSES, "cifar-10-batches-bin", "cifar-10-batches-py",
        ),
        Published(
            "cifar100", "CIFAR-100: 60,000 photographs of 100 classes, 32x32 colour",
            (File("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", (f"{_KRIZ}cifar-100-binary.tar.gz",)),),
            "", "cifar100", (), "cifar-100-binary", "cifar-100-python",
        ),
        Published(
            "svhn", "SVHN: 99,289 house-number digits, 32x32 colour",
            (
                File("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", (f"{_SVHN}train_32x32.mat",)),
                File("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", (f"{_SVHN}test_32x32.mat",)),
            ),
            "", "svhn", tuple("0123456789"),
        ),
    )
}  # fmt: skip
