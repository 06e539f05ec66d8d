"""Training: one loop for every method, what each method learns, what a run leaves on disk, and the command line.

``loop`` goes from a recipe to stages to steps; ``tasks`` has what each method gives to it, batch and loss;
``batches``, ``step``, ``optimisers``, ``validation`` and ``journal`` are the loop's parts; ``checkpoints``, ``plan``,
``identity``, ``frozen`` and ``interrupts`` are why a run that was stopped ends as one that was not; ``ranks`` lets
several processes share one run; ``command`` is ``python -m vos_tutorial train``.
"""

from .batches import derived_seed, sample_seeds
from .identity import Start
from .loop import TrainingRun, train
from .optimisers import learning_rate
from .tasks import Task, task

__all__ = ["Start", "Task", "TrainingRun", "derived_seed", "learning_rate", "sample_seeds", "task", "train"]
