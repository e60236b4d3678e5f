"""What a run says while it trains: a bar on a terminal, plain lines when its output goes elsewhere."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Logged:
    """One reading of a run: after a training step, or of the test set at the end of an epoch."""

    step: int
    epoch: int
    seconds: float
    loss: float
    accuracy: float
    images_per_second: float = float("nan")


class Progress(Protocol):
    """What the loop tells while it runs."""

    def begin(self, title: str, epochs: int, steps_per_epoch: int, step: int) -> None:
        """Say what is about to be trained, and how many steps are already behind."""
        ...

    def advance(self) -> None:
        """Note one more step."""
        ...

    def trained(self, logged: Logged) -> None:
        """Show a reading of the training loss."""
        ...

    def tested(self, logged: Logged, part: str = "test") -> None:
        """Show what the model came to after an epoch on the `part` that is held out: "validation" or "test"."""
        ...

    def note(self, text: str) -> None:
        """Say something that happens once, such as an early end."""
        ...

    def end(self) -> None:
        """Leave the terminal as it was; called once, also after an error."""
        ...


class Silent:
    """Says nothing."""

    def begin(self, title: str, epochs: int, steps_per_epoch: int, step: int) -> None:
        """Say nothing."""

    def advance(self) -> None:
        """Say nothing."""

    def trained(self, logged: Logged) -> None:
        """Say nothing."""

    def tested(self, logged: Logged, part: str = "test") -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""


class Lines(Silent):
    """One line per epoch, and one for the first loss."""

    def __init__(self) -> None:
        self._last: Logged | None = None
        self._epochs = 0

    def begin(self, title: str, epochs: int, steps_per_epoch: int, step: int) -> None:
        """Print what is about to be trained."""
        self._epochs = epochs
        at = f", going on after step {step}" if step else ""
        print(f"{title}: {epochs} epoch{'s' if epochs != 1 else ''} of {steps_per_epoch} steps{at}", flush=True)

    def trained(self, logged: Logged) -> None:
        """Print the first loss, to show that the run lives; keep the others for the line of the epoch."""
        if self._last is None:
            print(f"step {logged.step}: loss {logged.loss:.4f}, {logged.seconds:.1f} s", flush=True)
        self._last = logged

    def tested(self, logged: Logged, part: str = "test") -> None:
        """Print the line of the epoch."""
        print(_epoch_line(self._epochs, self._last, logged, part), flush=True)

    def note(self, text: str) -> None:
        """Print it."""
        print(text, flush=True)


def _epoch_line(epochs: int, trained: Logged | None, tested: Logged, part: str) -> str:
    train = "" if trained is None else f"train loss {trained.loss:.4f}, "
    rate = "" if tested.images_per_second != tested.images_per_second else f", {tested.images_per_second:,.0f} images/s"
    right = "" if tested.accuracy != tested.accuracy else f", accuracy {100 * tested.accuracy:.2f} %"
    width = len(str(epochs))
    return f"epoch {tested.epoch:{width}d}/{epochs}: {train}{part} loss {tested.loss:.4f}{right}{rate}, {tested.seconds:.1f} s"


class Bar(Lines):
    """A bar over all steps of the run, by rich; the line of each epoch stays above it."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: Any = None
        self._task: Any = None

    def begin(self, title: str, epochs: int, steps_per_epoch: int, step: int) -> None:
        """Start the bar."""
        from rich import progress as rich

        self._epochs = epochs
        self._bar = rich.Progress(
            rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(),
            rich.TextColumn("{task.fields[reading]}"), rich.TimeRemainingColumn(compact=True), transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task(title, total=epochs * steps_per_epoch, completed=step, reading="")
        self._bar.start()

    def advance(self) -> None:
        """Move the bar by one step."""
        self._bar.advance(self._task)

    def trained(self, logged: Logged) -> None:
        """Show loss and speed beside the bar."""
        self._last = logged
        rate = "" if logged.images_per_second != logged.images_per_second else f"  {logged.images_per_second:,.0f} images/s"
        self._bar.update(self._task, reading=f"loss {logged.loss:.4f}{rate}")

    def tested(self, logged: Logged, part: str = "test") -> None:
        """Leave the line of the epoch above the bar."""
        self._bar.console.print(_epoch_line(self._epochs, self._last, logged, part), highlight=False)

    def note(self, text: str) -> None:
        """Leave it above the bar."""
        self._bar.console.print(text, highlight=False)

    def end(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()


def by_terminal() -> Progress:
    """Return a bar if the output is a terminal, else lines."""
    return Bar() if sys.stdout.isatty() else Lines()
