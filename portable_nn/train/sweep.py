"""Many runs over settings: a grid or a random search, in one folder that can be stopped and gone on with."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import RunError, SettingError
from ..data.order import random_words
from .compare import HEAD, Compared, cells, curves, read_runs, text_table
from .config import FIELDS, TrainConfig, did_you_mean, from_mapping, typed_text
from .interrupt import Interrupted
from .pages.chart import Series, chart
from .pages.html import escape, page, percent, section, table
from .progress import Progress
from .records import write_bytes, write_json
from .start import CONFIG, fit
from .summary import RESULT

PLAN, TABLE, PAGE, FAILED = "sweep.json", "sweep.csv", "sweep.html", "failed.json"
_PURPOSE = 0x5357454550  # its own stream of random words
FIXED = ("out",)


@dataclass(frozen=True)
class Sweep:
    """A plan: settings that all trials share, and what each changes."""

    base: dict[str, Any]
    trials: tuple[dict[str, Any], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Settings that the trials change."""
        return tuple(self.trials[0])


def _split(word: str) -> tuple[str, str]:
    name, equals, text = word.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not text:
        raise SettingError(f"sweep: {word!r} but a setting with values is needed, such as lr=0.001,0.01")
    if name not in FIELDS:
        raise SettingError(f"sweep: unknown setting {name!r}" + (did_you_mean(name, tuple(FIELDS)) or "; the settings are " + ", ".join(FIELDS)))
    if name in FIXED:
        raise SettingError(f"sweep: {name} cannot be swept: each trial has a folder of its own")
    return name, text


def _choices(name: str, text: str) -> list[Any]:
    return [typed_text(name, word.strip()) for word in text.split(",")]


def _draw(name: str, text: str) -> Callable[[float], Any]:
    """Return what makes a value of a uniform number in [0, 1): ``low:high``, ``log:low:high`` or words separated by commas."""
    parts = text.split(":")
    log = parts[0] == "log"
    ends = parts[1:] if log else parts
    if len(ends) == 1 and not log:
        values = _choices(name, text)
        return lambda u: values[int(u * len(values))]
    try:
        low, high = (float(end) for end in ends)
    except ValueError:
        raise SettingError(f"sweep: {name}={text} but low:high, log:low:high, or values separated by commas are needed") from None
    if not low < high or (log and low <= 0):
        raise SettingError(f"sweep: {name}={text} but low below high is needed" + (", and above 0" if log else ""))
    whole = isinstance(FIELDS[name].default, int) and not isinstance(FIELDS[name].default, bool)

    def draw(u: float) -> Any:
        value = low * (high / low) ** u if log else low + (high - low) * u
        return round(value) if whole else float(f"{value:.4g}")

    return draw


def plan(base: TrainConfig, grid: Sequence[str] = (), search: Sequence[str] = (), trials: int = 20, seed: int = 0) -> Sweep:
    """Make the trials of a sweep.

    Parameters
    ----------
    base : TrainConfig
        Settings that all trials share.
    grid : sequence of str
        Settings with values, ``"lr=0.001,0.01"``: every combination is a trial.
    search : sequence of str
        Settings with ranges, ``"lr=log:1e-4:1e-1"``, ``"momentum=0.8:0.99"`` or ``"optimizer=adamw,sgd"``: each trial draws one
        of each. With a grid too, each combination of the grid gets `trials` draws.
    trials : int
        Draws.
    seed : int
        Of the draws.

    Raises
    ------
    SettingError
        Nothing to sweep, an unknown setting, or a value that a run would refuse.
    """
    given = [_split(word) for word in (*grid, *search)]
    names = [name for name, _ in given]
    if not names:
        raise SettingError("sweep: nothing is swept; give --grid lr=0.001,0.01 or --random lr=log:1e-4:1e-1")
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise SettingError(f"sweep: {twice} is given twice; give all its values at once")
    if trials < 1:
        raise SettingError(f"sweep: trials is {trials} but at least 1 is needed")
    axes = [[(name, value) for value in _choices(name, text)] for name, text in given[: len(grid)]]
    draws = [(name, _draw(name, text)) for name, text in given[len(grid) :]]
    words = [float(w) for w in random_words(trials * len(draws), seed, _PURPOSE) / 2.0**64] if draws else []
    made = []
    for combination in itertools.product(*axes):
        for trial in range(trials if draws else 1):
            drawn = {name: draw(words[trial * len(draws) + i]) for i, (name, draw) in enumerate(draws)}
            made.append(dict(combination) | drawn)
    for settings in made:
        replace(base, **settings)  # a value that a run would refuse is refused now
    shared = {n: v for n, v in base.to_dict().items() if n not in names and n not in FIXED}
    return Sweep(shared, tuple(made))


def read_plan(folder: Path) -> Sweep:
    """Read `sweep.json`; raises `RunError` when it is missing or damaged."""
    try:
        found = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return Sweep(dict(found["base"]), tuple(dict(t) for t in found["trials"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: is no sweep that can be gone on with ({error}); give a folder that `portable-nn sweep` made") from error


def trial_folder(folder: Path, number: int) -> Path:
    """Return the run folder of a trial, numbered from 1."""
    return folder / f"trial-{number:03d}"


def run_sweep(sweep: Sweep | None, folder: str | Path, progress: Callable[[str], Progress]) -> Path:
    """Run the trials that have not finished, and write table and page after each.

    Parameters
    ----------
    sweep : Sweep, optional
        A new sweep; None goes on with the one in `folder`.
    folder : str or Path
    progress : callable
        ``progress("trial 2 of 8: lr=0.01")`` says what begins, and returns what hears of it.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    RunError
        A folder that holds a sweep already, or none to go on with.
    Interrupted
        Ctrl-C: the trial wrote a checkpoint.
    """
    folder = Path(folder).expanduser()
    if sweep is None:
        sweep = read_plan(folder)
    elif (folder / PLAN).exists():
        raise RunError(f"{folder}: holds a sweep already; go on with it by --resume {folder}, or choose another --out")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / PLAN, {"base": sweep.base, "trials": list(sweep.trials)})
    for number, settings in enumerate(sweep.trials, start=1):
        run = trial_folder(folder, number)
        if (run / RESULT).is_file() or (run / FAILED).is_file():
            continue
        told = ", ".join(f"{name}={value}" for name, value in settings.items())
        hears = progress(f"trial {number} of {len(sweep.trials)}: {told}")
        try:
            if (run / CONFIG).is_file():
                fit(resume=run, progress=hears)
            else:
                fit(config=from_mapping(sweep.base | settings | {"out": str(run)}), progress=hears)
        except Interrupted as error:
            error.args = (f"stopped in trial {number}; the checkpoint is written. Continue with: portable-nn sweep --resume {folder}",)
            raise
        except RunError as error:  # a loss that is not finite is a result: this setting does not train
            write_json(run / FAILED, {"error": str(error)})
        write_outcome(folder, sweep)
    return write_outcome(folder, sweep)


def outcome(folder: Path, sweep: Sweep) -> tuple[list[str], list[list[str]], list[tuple[dict[str, Any], Compared | None]]]:
    """Return head and rows of the table, the best trial first and those without a result last, and the trials in that order."""
    found: list[tuple[float, int, dict[str, Any], Compared | None]] = []
    for number, settings in enumerate(sweep.trials, start=1):
        path = trial_folder(folder, number)
        run = read_runs([path])[0] if (path / CONFIG).is_file() else None
        result = run.result if run is not None else None
        score = -math.inf if result is None else _best(result)
        found.append((-math.inf if score is None else float(score), number, settings, run))
    found.sort(key=lambda f: (-f[0], f[1]))
    head = [HEAD[0], *sweep.names, *HEAD[1:]]
    rows = []
    for _, number, settings, run in found:
        path = trial_folder(folder, number)
        values = [str(settings[n]) for n in sweep.names]
        state = "failed" if (path / FAILED).is_file() else "not begun" if run is None else ""
        first, *rest = [f"{path.name} ({state})", *[""] * (len(HEAD) - 1)] if state or run is None else cells(run)
        rows.append([first, *values, *rest])
    return head, rows, [(settings, run) for _, _, settings, run in found]


def write_outcome(folder: Path, sweep: Sweep) -> Path:
    """Write `sweep.csv` and `sweep.html`; return the page."""
    head, rows, trials = outcome(folder, sweep)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    write_bytes(folder / TABLE, text.getvalue().encode())
    done = [(s, run) for s, run in trials if run is not None and run.result is not None]
    title = f"Sweep over {', '.join(sweep.names)}"
    charts = "".join(f"<figure>{_plot(name, done)}</figure>" for name in sweep.names)
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{len(done)} of {len(sweep.trials)} trials have finished, the best on validation images first. Test images choose nothing.</p>',
        section("Trials", table(head, rows)),
        section("Best accuracy over each setting", f'<div class="charts">{charts}</div>') if done else "",
        section("Curves of the best six", curves([run for _, run in done[:6]])) if done else "",
    ]
    write_bytes(folder / PAGE, page(title, body).encode())
    return folder / PAGE


def _best(result: dict[str, Any]) -> float | None:
    """Return the accuracy by which the best epoch of a run was chosen."""
    found: float | None = result["best"][f"{result['watched']}_accuracy"]
    return found


def _plot(name: str, done: Sequence[tuple[dict[str, Any], Compared]]) -> str:
    """Draw the best accuracy of each trial over one setting; words stand side by side."""
    values = [settings[name] for settings, _ in done]
    heights = [100.0 * (_best(run.result or {}) or 0.0) for _, run in done]
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        log = min(values) > 0 and max(values) / min(values) >= 10
        return chart(name, [Series("", [float(v) for v in values], heights, points=True)], name, "best accuracy, %", log_x=log)
    words = sorted({str(v) for v in values})
    places = [float(words.index(str(v)) + 1) for v in values]
    best = {w: max(h for v, h in zip(values, heights, strict=True) if str(v) == w) for w in words}
    listing = "; ".join(f"{w}: {percent(h / 100)}" for w, h in best.items())
    picture = chart(name, [Series("", places, heights, points=True)], name, "best accuracy, %", labels=words)
    return picture + f"<figcaption>{escape(listing)}</figcaption>"


def print_table(folder: Path) -> str:
    """Return the table of a sweep as text."""
    head, rows, _ = outcome(folder, read_plan(folder))
    return text_table(head, rows)
