"""The phase of a run. The loops set it, and code that may interrupt a run reads it."""

from enum import Enum


class Phase(Enum):
    """The current activity of a run. Failure reports contain the value.

    `Runner.phase` holds the current phase. The loops set it by plain attribute assignments. Their cost per iteration is
    negligible. If an error is raised, the phase keeps its value and thus shows what failed.

    An evaluation that a hook starts within an iteration keeps the phase of the hook.

    Three parts of the engine depend on it:
        - A stop request ends the wait for a batch only in the two data loading phases. In all other phases, the loop
          handles the request between two iterations.
        - If an error leaves the run in a data loading phase, then no iteration was in progress, and the run is saved.
        - A checkpoint that is saved in `AFTER_STEP` contains the current iteration, which is not yet counted, and one
          that is saved in `AFTER_EPOCH` contains the current epoch. An overridden `run_iter` may save after a step of
          its own, so `CUSTOM_STEP` counts as after the step.
    """

    START = "start"
    BUILDING = "building the run"
    LOADING_CHECKPOINT = "loading a checkpoint"
    BETWEEN_ITERATIONS = "between two iterations"
    DATA_LOADING = "data loading"
    STEP = "training step"
    CUSTOM_STEP = "iteration of a custom loop"
    AFTER_STEP = "hooks after a training step"
    AFTER_EPOCH = "hooks after an epoch"
    EVALUATION = "evaluation"
    EVALUATION_DATA_LOADING = "data loading of an evaluation"
    METRICS = "computing metrics"
    SAVING = "saving on request"


COUNTED_STEPS = frozenset({Phase.AFTER_STEP, Phase.CUSTOM_STEP})

# Phases of events called through `Runner.call_hook`. After a step, hooks count the iteration before the loop does.
PHASE_OF_EVENT = {
    "before_train_iter": Phase.STEP,
    "after_train_iter": Phase.AFTER_STEP,
    "after_train_epoch": Phase.AFTER_EPOCH,
}
