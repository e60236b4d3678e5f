"""`fit`: from settings, or from the folder of a stopped run, to a finished run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..core.errors import RunError, SettingError
from ..core.selection import use_backend
from ..data import Dataset
from ..models import check_name
from ..nn import Module
from .callbacks import Callback
from .checkpoint import CHECKPOINT, Position, read_checkpoint
from .config import FIELDS, TrainConfig, load_config
from .interrupt import delayed_interrupts
from .lock import locked
from .loop import Result, Run
from .progress import Progress, Silent
from .records import JSONL, MetricsWriter, remove_parts
from .setup import PARTS, Sets, absolute_data, choose_backend, load_data, prepare
from .step import Loss
from .task import Metric, Pairs, choose_task
from .tensorboard import tensorboard

CONFIG = "config.json"
MAY_CHANGE = ("epochs", "backend", "device", "capture", "log_every", "eval_batch_size", "data", "data_folder", "offline", "prefetch", "report", "tensorboard", "patience", "min_delta")
"""Settings that a resumed run may be given anew; others would make it another run."""


def fit(
    model: str | Module | None = None, train: Dataset | Pairs | None = None, valid: Dataset | Pairs | None = None,
    test: Dataset | Pairs | None = None, *,
    config: TrainConfig | None = None, resume: str | Path | None = None, loss: Loss | None = None,
    metrics: Mapping[str, Metric] | None = None, callbacks: Sequence[Callback] = (), progress: Progress | None = None, **settings: Any,
) -> Result:  # fmt: skip
    """Train a model and write a run folder.

    Parameters
    ----------
    model : str or Module, optional
        Name of a model, or a model of your own; by default the one that `config` names.
    train, valid, test : Dataset or Pairs, optional
        In place of the data that `config` names; give the first two at least. The model is measured on `valid` after each
        epoch, which chooses the best one (``valid_...`` in the metrics), and on `test` once at the end (``test_...``).
    config : TrainConfig, optional
        Settings; the defaults train LeNet on scikit-learn's digits.
    resume : str or Path, optional
        A run folder to continue. Its own settings hold; only those in `MAY_CHANGE` may be given anew.
    loss : callable, optional
        ``loss(outputs, targets) -> 0-d array``, in place of cross-entropy; `Pairs` need one.
    metrics : mapping of str to callable, optional
        ``metric(outputs, targets) -> float`` on NumPy arrays, for `Pairs`: the mean over a set goes to the metrics
        as ``valid_<name>`` and ``test_<name>``.
    callbacks : sequence of Callback
        Called at the milestones of the run, in order.
    progress : Progress, optional
        What hears of losses and epochs; nothing by default. `pnn.train.by_terminal()` is what the command line uses.
    **settings
        Settings by name, over those of `config`.

    Returns
    -------
    Result

    Raises
    ------
    SettingError, DataError, BackendError
        Settings, data or a backend that cannot be used.
    RunError
        A folder that holds a run already, a checkpoint that does not fit, a loss that is not finite.
    Interrupted
        Ctrl-C: the step was finished and a checkpoint written.

    Examples
    --------
    >>> result = pnn.train.fit("lenet", train, valid, epochs=5, backend="numpy")
    >>> result.valid_accuracy
    """
    if (train is None) != (valid is None):
        raise SettingError("fit: one of train and valid was given but both are needed, or neither")
    if test is not None and train is None:
        raise SettingError("fit: test was given without train and valid; give all three, or name data by data=...")
    if model is not None and not isinstance(model, str | Module):
        raise SettingError(f"fit: model is a {type(model).__name__} but a name or a Module is needed; give settings by name")
    if isinstance(model, str):
        settings, model = {**settings, "model": model}, None
    if resume is None:
        config = _changed(config or TrainConfig(), settings)
        if train is not None:
            config = replace(config, data=train.name)
        if model is None:
            check_name(config.model)
        else:
            config = replace(config, model=type(model).__name__)
        folder = config.run_folder()
        _refuse_used(folder)
    else:
        folder = Path(resume).expanduser()
        config = resumed_config(folder, config, settings)
    callbacks = [*callbacks, *([tensorboard()] if config.tensorboard else [])]
    backend = choose_backend(config)
    with use_backend(backend), delayed_interrupts() as stop:
        sets = load_data(config) if train is None else Sets(train, valid, test)
        task = choose_task(sets.train, loss, metrics, config.label_smoothing, config.tta)
        parts = prepare(config, sets, model, task)
        position = Position()
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            remove_parts(folder)
            if resume is not None and (folder / CHECKPOINT).exists():  # else it stopped before the first: from the beginning
                state, position = read_checkpoint(folder, parts.state, parts.fingerprint)
                parts = replace(parts, state=state)
            replace(config, data=absolute_data(config), out=str(folder)).save(folder / CONFIG)
            columns = tuple(f"{part}_{name}" for part in PARTS for name in task.metrics)
            with MetricsWriter(folder, None if resume is None else position.step, columns) as written:
                run = Run(config, parts, folder, backend, written, progress or Silent(), stop, position, callbacks)
                return run.to_the_end()


def _changed(config: TrainConfig, settings: dict[str, Any]) -> TrainConfig:
    unknown = [name for name in settings if name not in FIELDS]
    if unknown:
        raise SettingError(f"fit: unknown setting(s) {', '.join(unknown)}; the settings are {', '.join(FIELDS)}")
    return replace(config, **settings)


def _refuse_used(folder: Path) -> None:
    for name in (CHECKPOINT, JSONL, CONFIG):
        if (folder / name).exists():
            raise RunError(
                f"{folder}: holds a run already ({name}); continue it with --resume {folder}, or choose another --out"
            )


def resumed_config(folder: Path, config: TrainConfig | None, settings: dict[str, Any]) -> TrainConfig:
    """Return the settings of a run folder with those given anew; raises `RunError` for one that must not change."""
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder}: is no run folder (it has no {CONFIG}); give one that `portable-nn train` made")
    own = load_config(folder / CONFIG)
    if config is not None:
        default = TrainConfig()
        given = config.to_dict()
        settings = {n: v for n, v in given.items() if v != getattr(default, n)} | settings
    changed = {n: v for n, v in settings.items() if n not in FIELDS or v != getattr(own, n)}
    fixed = [n for n in changed if n not in MAY_CHANGE]
    if fixed:
        name = fixed[0]
        raise RunError(
            f"resume: {name} is {changed[name]!r} but the run in {folder} has {getattr(own, name, 'no such setting')!r}; only "
            f"{', '.join(MAY_CHANGE)} may change; train a new run for other settings"
        )
    return replace(own, **changed)
