"""A model of one's own, a callback of one's own, and reading the model back from its run."""

import portable_nn as pnn
from portable_nn import nn, ops


class Block(nn.Module):
    """A 3x3 convolution with normalisation, and a way around it."""

    def __init__(self, channels):
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)

    def __call__(self, x):
        return x + ops.silu(self.norm(self.conv(x)))


class Net(nn.Module):
    """A stem, two blocks, and the mean of what is left."""

    def __init__(self, channels=16, classes=10):
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.blocks = nn.Sequential(Block(channels), Block(channels))
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(channels, classes)

    def __call__(self, x):
        x = self.blocks(ops.max_pool2d(self.stem(x), 2))
        return self.head(self.drop(ops.mean(x, axis=(2, 3))))


class UntilGood(pnn.train.Callback):
    """End the run when an accuracy is reached."""

    def epoch(self, run, evaluation):
        if evaluation.accuracy >= 0.9:
            run.stop_after_epoch(f"{100 * evaluation.accuracy:.1f} % are enough")


train, valid = pnn.data.load("digits")
result = pnn.train.fit(Net(), train, valid, epochs=10, lr=0.02, optimizer="muon", callbacks=[UntilGood()])

model, info = pnn.train.read_model(result.folder, model=Net())
chances = pnn.train.predict(model, info.normalisation(valid.images[:1]))
print(f"{result.steps} steps, {100 * result.valid_accuracy:.1f} %; the first validation image is a {info.classes[chances[0].argmax()]}")
assert result.valid_accuracy >= 0.9
