"""Defines registries, which map names to classes and form a tree of scopes."""

import copy
import importlib
import inspect
import json
import logging
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TypeVar, get_type_hints, overload

from footplate.error_context import at_key, building, origin_of
from footplate.errors import BuildError, DuplicateNameError, FootplateError, UnknownNameError, is_own_module
from footplate.extensions import known_packages
from footplate.registry.arguments import Entry, arguments_of, check_arguments
from footplate.registry.dotted_paths import (
    find_spec,
    has_submodule,
    import_class,
    is_from_executed_config,
    is_user_module,
)
from footplate.registry.messages import constructor_error, unknown_name_error, wrong_base_error
from footplate.registry.scopes import code_base_of, default_scope, is_installed, known_scopes, using_scope

_Entry = TypeVar("_Entry", bound=Entry)
_logger = logging.getLogger("footplate.registry")
_CONSTRUCTOR_ERRORS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, OSError)


class Registry:
    """Maps names to classes or functions, and builds objects from `dict(type=NAME, ...)`.

    If a name is not in a registry, it is looked up in the parent registry. `"scope.Name"` is looked up in the registry
    with that scope, anywhere in the tree. A name without a scope is looked up in the default scope first. See `_get`
    for all steps.

    Args:
        name: The kind of entries, e.g. "hook".
        build_func: Called by `build` as `build_func(cfg, *args, registry=self, **kwargs)`.
        parent: The registry to search for names that this one does not contain.
        scope: The scope of the registry. Defaults to the top-level package that creates it.
        locations: Dotted names of modules that register entries. The modules are imported on first lookup.
        base: The required base class of all entries, as `"package.module:Class"`.
        strict: If False, any class or function can be registered, and `base` is checked only for dotted paths. Dotted
            paths may also refer to functions whose return annotation is a subclass of `base`.
        noun: The term for an entry in messages. Defaults to the parent's term or, without a parent, `name`.

    Attributes:
        locations: The locations that were passed to the constructor.

    Example:
        >>> from footplate.registry import Registry
        >>> SHAPES = Registry("shape", scope="example")
        >>> @SHAPES.register_module()
        ... class Square:
        ...     def __init__(self, side): self.side = side
        >>> SHAPES.build(dict(type="Square", side=2)).side
        2
    """

    _checks_registration = True  # otherwise, the base class is checked when an entry is used

    def __init__(
        self,
        name: str,
        build_func: Callable[..., Any] | None = None,
        parent: "Registry | None" = None,
        scope: str | None = None,
        locations: Sequence[str] = (),
        *,
        base: str | None = None,
        strict: bool = True,
        noun: str | None = None,
    ) -> None:
        self.name = name
        # By default, the top-level package of the module that creates the registry.
        caller = str(sys._getframe(1).f_globals.get("__name__", ""))
        self.scope = scope if scope is not None else caller.partition(".")[0]
        known_scopes.add(self.scope)
        self.parent = parent
        self.children: dict[str, Registry] = {}
        self.noun = noun or name
        self._build_func = build_func
        self._base = base
        self._strict = strict
        self._entries: dict[str, Entry] = {}
        self.locations = tuple(locations)
        self._locations_to_import = list(locations)
        if parent is not None:
            if self.scope in parent.children:
                raise DuplicateNameError(
                    f"the registry '{parent.name}' already has a child with the scope '{self.scope}'"
                )
            parent.children[self.scope] = self
            self.noun = noun or parent.noun
            self._build_func = build_func or parent._build_func
            if not base:
                self._base = parent._base
                self._strict = parent._strict

    def __repr__(self) -> str:
        return f"Registry(name={self.name!r}, scope={self.scope!r}, entries={sorted(self.module_dict)})"

    def __len__(self) -> int:
        return len(self.module_dict)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.module_dict)

    @property
    def module_dict(self) -> Mapping[str, Entry]:
        """The entries of this registry, keyed by name. Does not include entries of its parent or children."""
        self._import_locations()
        return self._entries

    @property
    def root(self) -> "Registry":
        """The root of the registry tree."""
        return self.parent.root if self.parent is not None else self

    @overload
    def register_module(self, name: _Entry) -> _Entry: ...

    @overload
    def register_module(
        self, name: str | Sequence[str] | None = None, force: bool = False, module: None = None
    ) -> Callable[[_Entry], _Entry]: ...

    @overload
    def register_module(
        self, name: str | Sequence[str] | None = None, force: bool = False, *, module: _Entry
    ) -> _Entry: ...

    def register_module(self, name: Any = None, force: bool = False, module: Any = None) -> Any:
        """Registers a class or function. Can also be used as a decorator, with or without parentheses.

        If a user class replaces a built-in class with the same name, a warning is logged.

        Args:
            name: One or more names. Defaults to the class name.
            force: Whether to replace an existing entry.
            module: The class or function to register.

        Raises:
            DuplicateNameError: The name is in use, and the new class cannot replace the old one without `force`.
            BuildError: The class is not a subclass of the registry's base class.
        """
        if inspect.isclass(name):
            name, module = None, name
        register = partial(self._register, names=name, force=force)
        return register if module is None else register(module)

    def get(self, key: str) -> Entry:
        """Returns the class or function registered under a name.

        Args:
            key: `"Name"`, `"scope.Name"`, or a dotted path that `footplate.registry.dotted_paths` allows.

        Raises:
            UnknownNameError: The name is not registered. The message suggests the most similar name.
            BuildError: Configs must not use the object that the dotted path refers to. The object is not called. Of
                installed packages, at most `<package>.registry` and model packages such as timm are imported.
        """
        return self._get(key, trusted=False)

    def build(self, cfg: Any, *args: Any, **kwargs: Any) -> Any:
        """Builds an object from `dict(type=..., ...)`.

        Args:
            cfg: The config. `type` is a name, a class or a lazily imported class. All other keys are constructor
                arguments.
            args: Additional positional arguments.
            kwargs: Additional keyword arguments. `cfg` takes precedence over them, and both take precedence over the
                dict `default_args`.

        Raises:
            UnknownNameError: `type` is not registered.
            BuildError: `cfg` is not a dict with a `type`, an argument is unknown or missing, or the constructor of an
                object from a config file fails.
            ArgumentError: An argument does not match its annotation.
        """
        if self._build_func is not None:
            return self._build_func(cfg, *args, registry=self, **kwargs)
        return self.build_entry(cfg, *args, **kwargs)

    def build_entry(self, cfg: Any, *args: Any, default_args: Mapping[str, Any] | None = None, **kwargs: Any) -> Any:
        """Builds an object like `build`, but ignores the registry's `build_func`."""
        with self._resolving(cfg, {**(default_args or {}), **kwargs}, args) as (entry, settings):
            try:
                return entry(*args, **import_lazy(settings))
            except _CONSTRUCTOR_ERRORS as error:
                if isinstance(error, FootplateError) or origin_of(cfg, "type") is None:
                    raise
                # The user needs the location in the config file, not footplate's stack frames.
                raise constructor_error(self._describe(entry), entry, settings, error, cfg) from error

    def build_nested(self, entry: Any, key: str, **kwargs: Any) -> Any:
        """Builds `entry`, the config under `key` in a section. Returns `entry` unchanged if it is not a dict."""
        if not isinstance(entry, Mapping):
            return entry
        with at_key(key):
            return self.build(entry, **kwargs)

    def check(self, cfg: Any, *args: Any, **kwargs: Any) -> None:
        """Checks the `type` and the arguments of a config without building it. Does nothing if `cfg` is not a dict.

        Args:
            cfg: The config.
            args: The positional arguments for `build`. Their values are ignored.
            kwargs: The keyword arguments for `build`. Values that are not known yet may be None.

        Raises:
            UnknownNameError: `type` is not registered.
            BuildError: `cfg` has no `type`, or an argument is unknown or missing.
            ArgumentError: An argument does not match its annotation.
        """
        if isinstance(cfg, Mapping):
            with self._resolving(cfg, kwargs, args):
                pass

    @contextmanager
    def _resolving(
        self, cfg: Any, defaults: Mapping[str, Any], args: Sequence[Any]
    ) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """Yields the class and the checked arguments of a config. The config's `_scope_` applies inside the block."""
        cfg = getattr(cfg, "_cfg_dict", cfg)  # of a whole Config
        settings = {**defaults, **cfg} if isinstance(cfg, Mapping) else {}
        with building(cfg):
            if "type" not in settings:
                message = f"the {self.noun} config must be a dict with a 'type' key"
                raise BuildError(message, found=cfg, origin=origin_of(cfg))
            with using_scope(settings.pop("_scope_", None)):
                entry = self.resolve(settings.pop("type"), cfg)
                if str(getattr(entry, "__module__", "")).startswith("torch.utils."):  # most samplers take no dataset
                    accepted = {*cfg, *arguments_of(entry).types}
                    given = {"data_source": settings.get("dataset"), **settings}
                    settings = {key: value for key, value in given.items() if key in accepted}
                check_arguments(entry, self._describe(entry), settings, args=args, source=cfg)
                yield entry, settings

    def _describe(self, entry: Any) -> str:
        return f"{self.noun} '{getattr(entry, '__name__', repr(entry))}'"

    def resolve(self, entry: Any, source: Any = None, *, key: str = "type") -> Entry:
        """Returns the class that a `type` (a name, a class or a lazily imported class) refers to.

        Args:
            entry: The value of `type`.
            source: The mapping that contains the value. If a Python config has set the value, a dotted path may refer
                to any class that the registry accepts.
            key: The key under which `source` contains the value.

        Raises:
            UnknownNameError: The name is not registered.
            BuildError: The class has the wrong base class, or configs must not use it.
        """
        if isinstance(entry, str):
            try:
                entry = self._get(entry, trusted=is_from_executed_config(source, key))
                self._check_base(entry, dotted=False)
                return entry  # type: ignore[no-any-return]
            except (UnknownNameError, BuildError) as error:
                error.origin = error.origin or origin_of(source, key)
                error.key = error.key or key
                raise
        entry = import_lazy(entry)
        if not callable(entry):
            raise BuildError(
                f"the {self.noun} type must be a name or a class", found=entry, origin=origin_of(source, "type")
            )
        self._check_base(entry, dotted=False)
        return entry  # type: ignore[no-any-return]

    def _get(self, name: str, *, trusted: bool) -> Entry:
        """Returns the entry with a name, from the first of these steps that finds one.

        1. Imports `<scope>.registry` if it exists and the scope has no registry yet. The scope is the one in
           `"scope.Name"`, or else the default scope.
        2. `"scope.Name"`: looks in the scope's registry and then upwards, in its parents. If footplate knows the scope,
           but its package is not installed, looks here and then upwards. A registry imports its `locations` first.
           `"Name"`: looks in the registry of the default scope and then upwards; after that, here and then upwards.
        3. With a default scope, looks in all registries for a class of the user or of the default scope's package. If
           several classes match, none is used.
        4. Imports the name as a dotted path to a class.

        Raises:
            UnknownNameError: No step finds an entry.
            BuildError: The name is not a string, or a class at a dotted path may not be used.
        """
        if not isinstance(name, str):
            raise BuildError(f"the {self.noun} name must be a string", found=name)
        package = name.partition(".")[0] if "." in name else default_scope() or ""
        module = f"{package}.registry"
        is_imported = module in sys.modules or self.root._member(package) is not None
        is_package = package.isidentifier() and package not in sys.stdlib_module_names
        if is_package and not is_imported and has_submodule(package, "registry"):
            importlib.import_module(module)
        if entry := self._find(name) or self._find_in_any_scope(name):
            return entry
        tree = list(self.root._tree())
        for registry in tree:  # for the names in the error below
            try:
                registry._import_locations()
            except Exception:
                if registry.scope not in known_packages():
                    raise
        if entry := self._import_path(name, trusted=trusted):
            return entry
        raise unknown_name_error(name, self, tree)

    def _find_in_any_scope(self, name: str) -> Entry | None:
        """Finds a class by name in all scopes if it is a user class or from the default scope's package.

        For example, MMDetection3D and its plugins register detectors in MMDetection's registry. Returns None if several
        classes match, or if there is no default scope.
        """
        if default_scope() is None:
            return None
        entries = [registry._entries[name] for registry in self.root._tree() if name in registry._entries]
        matches = {entry for entry in entries if code_base_of(entry) in ("", default_scope())}
        return matches.pop() if len(matches) == 1 else None

    def _register(self, entry: _Entry, names: str | Sequence[str] | None, *, force: bool) -> _Entry:
        if not callable(entry):
            raise BuildError(f"the registry '{self.name}' accepts only classes and functions", found=entry)
        if self._checks_registration:
            self._check_base(entry, dotted=False)
        if names is None:
            names = [entry.__name__]
        elif isinstance(names, str):
            names = [names]
        for name in names:
            if force or self._may_register(name, entry):
                self._entries[name] = entry
        return entry

    def _may_register(self, name: str, entry: Any) -> bool:
        """Checks whether to register a class under a name that may already be in use.

        A user class replaces a built-in class or one of a code base, but not the other way around. A class replaces an
        earlier definition of itself, because notebook cells run repeatedly, and modules are reloaded. If two code bases
        use the same name, the first class stays, unless it comes from a library for code bases, such as mmcv.

        Raises:
            DuplicateNameError: The name is already in use, and none of these rules applies.
        """
        present = self._entries.get(name)
        if present is entry:
            return True
        is_ours = is_built_in(entry)
        if present is None or is_ours != is_built_in(present):
            is_replaced = self.scope == "footplate" and name in _built_in_names().get(self.name, ())
            # An installed code base's configs refer to its own classes.
            if is_replaced and not is_ours and not code_base_of(entry):
                kind = f"{entry.__module__}.{entry.__qualname__}"
                _logger.warning("Replacing the built-in %s '%s' with %s.", self.noun, name, kind)
            return present is None or not is_ours
        name_in_module = getattr(entry, "__qualname__", "<none>")
        is_redefined = entry.__module__ == present.__module__ and name_in_module == getattr(present, "__qualname__", "")
        if is_redefined and (entry.__module__ == "__main__" or "<" not in name_in_module):
            return True
        base, other = code_base_of(present), code_base_of(entry)
        if base and other not in ("", base) and not known_packages()[base]:
            return True  # for example, the sparse convolutions of MMDetection3D 0.x work only with each other
        # For example, MMPretrain and MMSelfSup add the same class to MMDetection, or a later MMDetection contains a
        # class that a repository has added to it.
        if base != other and all(code_base_of(each) or is_user_module(each.__module__) for each in (present, entry)):
            used, ignored = (entry, present) if base and not other else (present, entry)
            text = "Using the %s '%s' from %s, not the one from %s."
            _logger.warning(text, self.noun, name, used.__module__, ignored.__module__)
            return used is entry
        raise DuplicateNameError(
            f"the {self.noun} '{name}' is already registered by {present.__module__}",
            notes=["To replace it, pass force=True."],
        )

    def _import_locations(self, wanted: str | None = None) -> None:
        """Imports the modules in `locations`: all, or in order until the entry `wanted` is registered."""
        while self._locations_to_import and (wanted or "") not in self._entries:
            location = self._locations_to_import[0]
            try:
                importlib.import_module(location)
            except ModuleNotFoundError as error:
                if error.name != location or self.scope not in known_packages():
                    raise  # some code bases, such as MMSelfSup, list modules that do not exist
            # Remove it only after the import, because a failed import is retried and the import itself may look up
            # names here.
            if location in self._locations_to_import:
                self._locations_to_import.remove(location)

    def _find(self, name: str) -> Entry | None:
        scope, _, rest = name.partition(".")
        if rest:
            member = self if scope == self.scope else self.root._member(scope)
            if member is None and scope in known_scopes and not is_installed(scope):
                # "mmengine.GELU", or "mmseg.PolyLR" without mmseg: most likely, the class is registered here.
                member = self
            if member is not None and "." in rest:  # "hound.little_hound.Dachshund"
                return member._find(rest)
            return member._find_upwards(rest) if member is not None else None
        first = self.root._member(default_scope())
        entry = first._find_upwards(name) if first is not None else None
        return entry or self._find_upwards(name)

    def _find_upwards(self, name: str) -> Entry | None:
        self._import_locations(name)
        return self._entries.get(name) or (self.parent._find_upwards(name) if self.parent is not None else None)

    def _member(self, scope: str | None) -> "Registry | None":
        return next((registry for registry in self._tree() if registry.scope == scope), None)

    def _tree(self) -> "Iterator[Registry]":
        """Yields this registry and all its descendants."""
        yield self
        for child in self.children.values():
            yield from child._tree()

    def _import_path(self, path: str, *, trusted: bool) -> Entry | None:
        module = path.rpartition(".")[0]
        if not module or not all(part.isidentifier() for part in path.split(".")):
            return None
        if find_spec(module.partition(".")[0]) is None:
            return None
        entries = [entry for registry in self.root._tree() for entry in registry._entries.values()]
        entry = import_class(path, self.root.name, entries, self.noun, trusted=trusted)
        if entry is not None and entry not in entries:
            if self._base is None and not trusted:
                message = f"the registry '{self.name}' accepts only registered classes, except from a .py config"
                raise BuildError(message, found=path)
            self._check_base(entry, dotted=True)
        return entry  # type: ignore[no-any-return]

    def _check_base(self, entry: Any, *, dotted: bool) -> None:
        if self._base is None or not (self._strict or dotted):
            return
        if self._base == f"{getattr(entry, '__module__', '')}:{getattr(entry, '__qualname__', '')}":
            return  # the base class itself is being decorated, so it is not in its module yet
        checked = entry if inspect.isclass(entry) or self._strict else _returned_class(entry)
        if not (inspect.isclass(checked) and issubclass(checked, resolve_name(self._base))):
            raise wrong_base_error(entry, self.name, self._base, allows_functions=not self._strict)


def import_lazy(value: Any) -> Any:
    """Replaces lazily imported names in a config value with the imported objects.

    Values without such names are returned as is, without copying.
    """
    if hasattr(type(value), "dotted_path"):  # a LazyObject
        return value.build()
    if isinstance(value, dict):
        changed = {}
        for key, old in dict.items(value):
            with at_key(str(key)):
                if (new := import_lazy(old)) is not old:
                    changed[key] = new
        copied = copy.copy(value) if changed else value
        dict.update(copied, changed)
        return copied
    if type(value) in (list, tuple, set, frozenset):
        items = [import_lazy(item) for item in value]
        return value if all(map(operator.is_, items, value)) else type(value)(items)
    return value


def _returned_class(function: Any) -> Any:
    """Returns the class in a function's return annotation, or None if it is unknown."""
    try:
        return get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):
        return None


@cache
def _built_in_names() -> dict[str, list[str]]:
    """Returns the names of the built-in entries of each registry, which `scripts/public_api.py` lists in a file.

    The file is kept, because a class is registered before the built-in classes are imported.
    """
    return json.loads(Path(__file__).with_name("built_in_names.json").read_bytes())  # type: ignore[no-any-return]


def is_built_in(entry: Any) -> bool:
    """Checks whether an entry belongs to footplate or torch, and not to a code base or the user."""
    module = getattr(entry, "__module__", None) or ""
    return is_own_module(module) or module.partition(".")[0] == "torch"
