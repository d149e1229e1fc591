"""The events of a run, at which hooks are called."""

from typing import Literal, NamedTuple


class Event(NamedTuple):
    """An event of a run.

    Attributes:
        arguments: The names of the event's arguments, excluding the runner.
        shared: The hook method that training, validation and test share, which the event's method calls by default.
            Empty for an event without such a method.
        mode: The mode that the shared method receives.
    """

    arguments: tuple[str, ...] = ()
    shared: str = ""
    mode: str = ""


EventName = Literal[
    "after_load_checkpoint",
    "before_run",
    "before_train",
    "before_train_epoch",
    "before_train_iter",
    "after_train_iter",
    "after_train_epoch",
    "before_val",
    "before_val_epoch",
    "before_val_iter",
    "after_val_iter",
    "after_val_epoch",
    "after_val",
    "after_validation",
    "before_save_checkpoint",
    "after_save_checkpoint",
    "after_train",
    "before_test",
    "before_test_epoch",
    "before_test_iter",
    "after_test_iter",
    "after_test_epoch",
    "after_test",
    "after_run",
]
"""The name of an event, for type checkers."""
EVENTS: dict[str, Event] = {
    "after_load_checkpoint": Event(("checkpoint",)),
    "before_run": Event(),
    "before_train": Event(),
    "before_train_epoch": Event((), "_before_epoch", "train"),
    "before_train_iter": Event(("batch_idx", "data_batch"), "_before_iter", "train"),
    "after_train_iter": Event(("batch_idx", "data_batch", "outputs"), "_after_iter", "train"),
    "after_train_epoch": Event((), "_after_epoch", "train"),
    "before_val": Event(),
    "before_val_epoch": Event((), "_before_epoch", "val"),
    "before_val_iter": Event(("batch_idx", "data_batch"), "_before_iter", "val"),
    "after_val_iter": Event(("batch_idx", "data_batch", "outputs"), "_after_iter", "val"),
    "after_val_epoch": Event(("metrics",), "_after_epoch", "val"),
    "after_val": Event(),
    "after_validation": Event(),
    "before_save_checkpoint": Event(("checkpoint",)),
    "after_save_checkpoint": Event(("saved",)),
    "after_train": Event(),
    "before_test": Event(),
    "before_test_epoch": Event((), "_before_epoch", "test"),
    "before_test_iter": Event(("batch_idx", "data_batch"), "_before_iter", "test"),
    "after_test_iter": Event(("batch_idx", "data_batch", "outputs"), "_after_iter", "test"),
    "after_test_epoch": Event(("metrics",), "_after_epoch", "test"),
    "after_test": Event(),
    "after_run": Event(),
}
