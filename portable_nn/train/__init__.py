"""Training: settings, the step, the loop around it, checkpoints, metrics and the report."""

from .callbacks import Callback as Callback
from .checkpoint import ModelInfo as ModelInfo
from .checkpoint import read_model as read_model
from .config import TrainConfig as TrainConfig
from .config import load_config as load_config
from .evaluation import Evaluation as Evaluation
from .evaluation import evaluate as evaluate
from .evaluation import predict as predict
from .interrupt import Interrupted as Interrupted
from .loop import Result as Result
from .loop import Run as Run
from .progress import Progress as Progress
from .progress import by_terminal as by_terminal
from .report import write_report as write_report
from .start import fit as fit
from .step import Recipe as Recipe
from .step import TrainState as TrainState
from .step import train_step as train_step
from .task import Measurement as Measurement
from .task import Pairs as Pairs
