"""The `Registry` of mmcv 1.x. It adds the registries of code bases to footplate's registry tree."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from footplate import registry as roots
from footplate.hosts.mmengine.registry import Registry as _Registry
from footplate.registry import Registry as FootplateRegistry

# Maps the names of registries that code bases create without a parent to the registries that configs use.
# Code bases for mmcv 1.2 and older have a registry for each kind of module.
_MODULES = "backbone neck head loss segmentor detector classifier posenet roi_extractor shared_head model memory"
_ROOTS: Mapping[str, FootplateRegistry] = {
    **dict.fromkeys(_MODULES.split(), roots.MODELS),
    "dataset": roots.DATASETS,
    "datasets": roots.DATASETS,
    "pipeline": roots.TRANSFORMS,
    "sampler": roots.DATA_SAMPLERS,
    "Sampler": roots.DATA_SAMPLERS,
    "hook": roots.HOOKS,
    "optimizer": roots.OPTIMIZERS,
    "optimizer builder": roots.OPTIMIZER_BUILDERS,
}


class Registry(_Registry):
    """A registry that joins footplate's tree, so that the config of a run finds its entries.

    A registry without a parent, such as `Registry("pipeline")`, becomes a child of the corresponding registry of
    footplate. Registries with the same scope and parent share their entries.

    Args:
        name: The kind of its entries.
        build_func: See the base class.
        parent: See the base class.
        scope: The scope; by default the top-level package that creates it.
    """

    def __init__(
        self,
        name: str,
        build_func: Callable[..., Any] | None = None,
        parent: FootplateRegistry | None = None,
        scope: str | None = None,
    ) -> None:
        scope = scope or sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
        parent = _ROOTS.get(name) if parent is None else parent
        present = parent.children.get(scope) if parent is not None else None
        if present is None:
            super().__init__(name, build_func=build_func, parent=parent, scope=scope)
            return
        super().__init__(name, build_func=build_func or present._build_func, scope=scope, noun=present.noun)
        self.parent, self._entries = parent, present._entries

    def register_module(self, name: Any = None, force: bool = False, module: Any = None) -> Any:
        """Registers a class as in the base class. The decorator can also be used without parentheses."""
        if inspect.isclass(name):
            return super().register_module(module=name)
        return super().register_module(name, force, module=module)

    def build_with(self, function: Callable[[Any], Any]) -> None:
        """Makes the registry build its entries with a function of the code base.

        Args:
            function: A function that is called with the config.
        """
        self._build_func = lambda cfg, *, registry: function(cfg)
