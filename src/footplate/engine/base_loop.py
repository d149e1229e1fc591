"""What the loops that train, validate and test share."""

from typing import TYPE_CHECKING, Any, ClassVar

from footplate.data import build_dataloader
from footplate.engine.hook import check_accepts

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class ValidationLeftError(Exception):
    """A validation ended early, since the run is to stop: the resumed run validates again."""


class BaseLoop:
    """What all loops share: a runner and a loader.

    `calls` names the methods that a subclass may override and the engine calls, each with its positional arguments.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the dict of one.

    Raises:
        ArgumentError: An overridden method does not take the arguments that it is called with.
    """

    calls: ClassVar[dict[str, tuple[str, ...]]] = {"run": ()}
    in_progress = False

    def __init__(self, runner: "Runner", dataloader: Any) -> None:
        self._runner = runner
        for method, arguments in self.calls.items():
            if overrides(self, method):
                signature = f"{method}({', '.join(['self', *arguments])})"
                check_accepts(self, method, arguments, signature, caller="that its loop passes")
        self.dataloader = build_dataloader(dataloader, seed=runner.seed)

    @property
    def runner(self) -> "Runner":
        """The runner that drives the loop."""
        return self._runner

    def run(self) -> Any:
        """Goes through the loop once."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its run() does")


def overrides(loop: BaseLoop, method: str) -> bool:
    """Returns whether a loop's method is not one of the engine's own classes."""
    owner = next((kind for kind in type(loop).__mro__ if method in vars(kind)), None)
    return owner is not None and not owner.__module__.startswith("footplate.engine.")
