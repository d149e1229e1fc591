"""The `Registry` and `DefaultScope` classes and the build functions of `mmengine.registry`."""

import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from footplate.errors import BuildError, UnknownNameError, is_own_module
from footplate.optim import build_optimizer
from footplate.records import Instances
from footplate.registry import OPTIMIZERS, default_scope, set_default_scope, using_scope
from footplate.registry import Registry as _Registry
from footplate.registry.dotted_paths import module_exists
from footplate.registry.root import build_model
from footplate_openmmlab.extension import CODE_BASES
from footplate_openmmlab.mmengine.registry_members import RegistryMembers


def register_all_modules(scope: str) -> None:
    """Registers all classes of a code base by calling its `register_all_modules`, if this function exists."""
    if module_exists(f"{scope}.utils"):
        register = getattr(importlib.import_module(f"{scope}.utils"), "register_all_modules", None)
        if register is not None:
            register(init_default_scope=False)


class AcceptsBase(type):
    """Metaclass for classes that code bases import in place of the base class, which is footplate's.

    `isinstance` also accepts instances of the base class, such as footplate's root registries.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        return type.__instancecheck__(cls.__bases__[0] if is_own_module(cls.__module__) else cls, instance)


class Registry(_Registry, metaclass=AcceptsBase):
    """A registry whose `get` returns None for an unknown name, as code bases expect.

    As in MMEngine, `get` first looks here and upwards, because the default scope depends on the last run, and
    `module_dict` imports nothing.
    """

    _checks_registration = False  # code bases register classes with a wrong base that no config uses
    _has_registered_all = False

    module_dict = RegistryMembers._module_dict

    def register_all(self) -> None:
        """Registers all classes of the code base if this registry does not list the modules to import.

        Only the registries of early second-generation code bases lack this list.
        """
        if self.locations or self._has_registered_all or self.scope not in CODE_BASES:
            return
        if f"{self.scope}.registry" in sys.modules:
            self._has_registered_all = True
            register_all_modules(self.scope)

    def _import_locations(self, wanted: str | None = None) -> None:
        self.register_all()
        super()._import_locations(wanted)

    def get(self, key: str) -> Callable[..., Any] | None:  # type: ignore[override]
        """Returns the class or function registered under a name, or None if the name is not registered."""
        try:
            return ("." not in key and self._find_upwards(key)) or super().get(key)
        except UnknownNameError:
            return None


class DefaultScope(Instances):
    """Sets the default scope of the registries when an instance is created.

    Args:
        name: The name for `get_instance`.
        scope_name: The default scope.
    """

    def __init__(self, name: str, scope_name: str) -> None:
        super().__init__(name)
        self.scope_name = scope_name
        set_default_scope(scope_name)

    @classmethod
    def get_current_instance(cls) -> "DefaultScope | None":  # type: ignore[override]
        """Returns the instance for the current default scope, or None if no default scope is set."""
        scope = default_scope()
        return None if scope is None else cls.get_instance(scope, scope_name=scope)

    @staticmethod
    def overwrite_default_scope(scope_name: str | None) -> AbstractContextManager[None]:
        """Sets the default scope for the duration of a block. None keeps the current scope."""
        return using_scope(scope_name)


def build_from_cfg(cfg: Mapping[str, Any], registry: _Registry, default_args: Mapping[str, Any] | None = None) -> Any:
    """Builds an object from its config.

    Args:
        cfg: A dict with a `type`, which is a name or a class, and the constructor's arguments.
        registry: The registry to look up names in.
        default_args: Default values for arguments.

    Raises:
        BuildError: `registry` is not a Registry, or an argument is unknown or missing.
        UnknownNameError: `type` is not registered.
    """
    if not isinstance(registry, _Registry):
        raise BuildError("the 'registry' argument of build_from_cfg must be a Registry", found=registry)
    if registry is OPTIMIZERS:
        settings = {**(default_args or {}), **cfg}
        return build_optimizer(settings, settings.pop("params"))
    return registry.build_entry(cfg, default_args=default_args)


def build_model_from_cfg(cfg: Any, registry: _Registry, default_args: Mapping[str, Any] | None = None) -> nn.Module:
    """Builds a module from a config, or an `nn.Sequential` from a list of configs."""
    return build_model(cfg, registry=registry, default_args=default_args)  # type: ignore[no-any-return]
