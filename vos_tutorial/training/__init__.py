"""Training: one loop for every method, what each method learns, what a run leaves on disk, and the command line.

``loop`` goes from a recipe to stages to steps; ``tasks`` has each method's batch and loss; ``checkpoints`` and
``interrupts`` are why a run that was stopped ends as one that was not; ``ranks`` lets several processes share one
run; ``command`` is ``python -m vos_tutorial train``.
"""

from .loop import Task, TrainingRun, derived_seed, learning_rate, sample_seeds, train
from .tasks import task

__all__ = ["Task", "TrainingRun", "derived_seed", "learning_rate", "sample_seeds", "task", "train"]
