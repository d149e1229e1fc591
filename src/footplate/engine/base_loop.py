"""What the loops that train, validate and test share."""

from typing import TYPE_CHECKING, Any

from footplate.data import build_dataloader

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class ValidationLeftError(Exception):
    """A validation ended early, since the run is to stop: the resumed run validates again."""


class BaseLoop:
    """What all loops share: a runner and a loader.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the dict of one.
    """

    def __init__(self, runner: "Runner", dataloader: Any) -> None:
        self._runner = runner
        self.dataloader = build_dataloader(dataloader, seed=runner.seed)

    @property
    def runner(self) -> "Runner":
        """The runner that drives the loop."""
        return self._runner

    def run(self) -> Any:
        """Goes through the loop once."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its run() does")
