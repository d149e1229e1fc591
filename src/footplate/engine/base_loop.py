"""The base class of the training, validation and test loops."""

from typing import TYPE_CHECKING, Any, ClassVar

from footplate.data import build_dataloader
from footplate.engine.hook import check_accepts

if TYPE_CHECKING:
    from footplate.engine.runner import Runner


class ValidationLeftError(Exception):
    """Raised when a stop request ends a validation early. The resumed run validates again."""


class BaseLoop:
    """The base class of all loops: a runner and a dataloader.

    `calls` lists the methods that a subclass may override and the engine calls, each with its positional arguments.

    Args:
        runner: The runner that drives the loop.
        dataloader: A loader, any iterable of batches, or the config dict of a loader.

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
        """Runs the loop once."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its run() does")


def overrides(loop: BaseLoop, method: str) -> bool:
    """Checks whether a loop overrides a method outside of the engine's own classes."""
    owner = next((kind for kind in type(loop).__mro__ if method in vars(kind)), None)
    return owner is not None and not owner.__module__.startswith("footplate.engine.")
