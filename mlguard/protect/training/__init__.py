"""Train a model into a run folder: the job, its loop, and the parts of the loop."""

from mlguard.protect.training.events import Epoch, Step, Watcher
from mlguard.protect.training.images import DataFolder, named_recipe
from mlguard.protect.training.job import Job
from mlguard.protect.training.loop import Training, train
from mlguard.protect.training.loss import cross_entropy_loss
from mlguard.protect.training.optimizer import learning_rate, new_optimizer

__all__ = [
    "DataFolder",
    "Epoch",
    "Job",
    "Step",
    "Training",
    "Watcher",
    "cross_entropy_loss",
    "learning_rate",
    "named_recipe",
    "new_optimizer",
    "train",
]
