"""Parses and applies command-line overrides such as `key=value` and `+new.key=value`."""

import argparse
import logging
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from footplate.config.config_dict import ConfigDict
from footplate.config.formats import write_value
from footplate.config.key_paths import find_value, join_path, merge_options, split_path
from footplate.config.origins import Place
from footplate.error_context import origin_of
from footplate.errors import ConfigError, ConfigKeyError, Origin, OverrideError
from footplate.messages import nearest

if TYPE_CHECKING:
    from footplate.config.config import Config

AcceptedKeys = Callable[[ConfigDict, Sequence[str]], Collection[str]]  # returns the keys accepted by a section
_logger = logging.getLogger("footplate.config")
_SWITCHES = {"yes": True, "on": True, "no": False, "off": False}
_CONSTANTS = {
    **dict.fromkeys(("None", "null", "~")),
    **dict.fromkeys(("True", "true", "TRUE"), True),
    **dict.fromkeys(("False", "false", "FALSE"), False),
}
_INTEGER = re.compile(r"[+-]?\d+(?:_\d+)*")
_FLOAT = re.compile(r"[+-]?(?:\d+(?:_\d+)*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?\.?(?:inf|nan)")
_CLOSERS = {"[": "]", "(": ")", "{": "}"}
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_ESCAPE = re.compile(r"\\([ntr'\"\\])")  # other backslashes are kept, as regular expressions need them
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}
_SPACE = re.compile(r"\s*")


class Override(NamedTuple):
    """An override: a key path, its value, and whether it may add a key or change the type."""

    path: str
    value: Any
    is_forced: bool


def apply_overrides(
    cfg: "Config | ConfigDict",
    overrides: Iterable[str],
    strict: bool = True,
    accepted: AcceptedKeys = lambda mapping, parts: (),
) -> None:
    """Applies overrides to a config, in order.

    Args:
        cfg: The config, changed in place.
        overrides: Strings such as `key=value`.
        strict: Whether to raise an error for an unknown key, or a value of a different type, unless the key starts
            with `+`. If False, a warning is logged and the value is merged, as the OpenMMLab tools do.
        accepted: Returns the keys that the section at a key path accepts. They may be added without `+`.

    Raises:
        OverrideError: An override is rejected or cannot be parsed.
    """
    mapping = cfg if isinstance(cfg, ConfigDict) else cfg._cfg_dict
    origin: Origin = Place("--set" if strict else "--cfg-options", 0)
    for text in overrides:
        override = parse_override(text)
        try:
            value = (
                override.value if override.is_forced else _checked_value(mapping, override, strict, origin, accepted)
            )
            merge_options(mapping, {override.path: value}, origin=origin)
        except ConfigError as error:
            notes = list(error.notes)
            if isinstance(error, ConfigKeyError):
                notes = [*notes[:1], f"Write +{override.path}=... to add the key."]
            raise OverrideError(
                f"cannot set '{override.path}': {error.message}",
                origin=error.origin,
                key=error.key,
                found=error.found,
                suggestion=error.suggestion,
                notes=notes,
            ) from error


def _checked_value(
    mapping: ConfigDict, override: Override, strict: bool, origin: Origin, accepted: AcceptedKeys
) -> Any:
    """Returns the value of an override, converted to the type of the current value.

    An unknown key or a wrong type raises an error if `strict` is set, and otherwise logs a warning.
    """
    place = origin
    try:
        try:
            holder, key, present = find_value(mapping, override.path)
        except ConfigKeyError as error:
            if _is_accepted(mapping, override.path, accepted, error):
                return override.value
            raise
        place = origin_of(holder, key) or origin
        return convert_type(present, override.value, override.path)
    except ConfigError as error:
        if strict:
            error.origin = error.origin or place
            raise
        advice = f"; did you mean '{error.suggestion}'?" if error.suggestion else ""
        _logger.warning("--cfg-options %s: %s%s", override.path, error.message, advice)
        return override.value


def _is_accepted(mapping: ConfigDict, path: str, accepted: AcceptedKeys, error: ConfigKeyError) -> bool:
    """Checks whether the sections accept all missing keys of a path. If not, improves the suggestion in the error."""
    parts = split_path(path)
    for end in range(1, len(parts) + 1):
        try:
            find_value(mapping, join_path(parts[:end]))
        except ConfigError:
            keys = accepted(mapping, parts[: end - 1])
            if parts[end - 1] in keys:
                continue
            near = nearest(parts[end - 1], keys)
            if near and (error.suggestion is None or split_path(error.suggestion)[-1] != parts[end - 1]):
                error.suggestion, error.notes = join_path([*parts[: end - 1], near]), ()
            return False
    return True


def parse_override(text: str) -> Override:
    """Parses `key=value` or `+key=value`.

    Raises:
        OverrideError: The `=` or the key is missing, or the value is invalid.

    Example:
        >>> parse_override("optim_wrapper.optimizer.betas=(0.9,0.95)")
        Override(path='optim_wrapper.optimizer.betas', value=(0.9, 0.95), is_forced=False)
    """
    left, mark, right = text.partition("=")
    path = left.strip()
    if not mark or not path.strip("+"):
        raise OverrideError(f"'{text}' is not an override: expected key=value")
    try:
        value = parse_value(right.strip())
    except OverrideError as error:
        error.key = path
        raise
    return Override(path.lstrip("+").strip(), value, path.startswith("+"))


def convert_type(present: Any, value: Any, path: str) -> Any:
    """Converts `value` to the type of `present`, the current value that it will replace.

    Integers and floats are treated as the same type, and so are lists and tuples. None can replace any value, and any
    value can replace None.

    Raises:
        OverrideError: The types differ.

    Example:
        >>> convert_type(100, 1e3, "train_cfg.max_iters"), convert_type((0.9, 0.999), [0.9, 0.95], "optimizer.betas")
        (1000, (0.9, 0.95))
    """
    if present is None or value is None:
        return value
    if isinstance(present, bool) and isinstance(value, str) and value.casefold() in _SWITCHES:
        return _SWITCHES[value.casefold()]
    kind = _kind(present)
    if kind != _kind(value):
        advice = "The new value has the wrong type."
        if kind == "a string" and not isinstance(value, (dict, list, tuple)):
            advice = f"Quote it if it is a string: \"'{value}'\"."
        raise OverrideError(f"'{path}' must be {kind}, not {value!r}", key=path, found=present, notes=[advice])
    if type(present) is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "a list":
        return tuple(value) if isinstance(present, tuple) else list(value)
    if isinstance(present, ConfigDict) and not value.get("_delete_"):
        return {
            key: convert_type(find_value(present, f"'{key}'")[2], item, f"{path}.{key}") for key, item in value.items()
        }
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "a dict" if isinstance(value, dict) else "a string"


def parse_value(text: str) -> Any:
    """Parses numbers, booleans, None, strings, lists, tuples and dicts. Any other text is a string.

    Raises:
        OverrideError: Brackets or quotes are not closed.

    Example:
        >>> parse_value("[1, (a, 2e-3), {x: null, 'y': True}]")
        [1, ('a', 0.002), {'x': None, 'y': True}]
        >>> parse_value("0.9,0.999")
        [0.9, 0.999]
    """
    try:
        items, has_comma = _ValueParser(text).items("")
    except RecursionError as error:
        raise OverrideError("cannot read the value: it is nested too deeply", found=text) from error
    if not items:
        return ""
    return items if has_comma else items[0]


def format_value(value: Any) -> str:
    """Formats a value for `--set`. A string has quotes if `parse_value` would return another value without them.

    Example:
        >>> format_value("ResNet"), format_value("true"), format_value("x,y")
        ('ResNet', "'true'", "'x,y'")
    """
    if not isinstance(value, str):
        return write_value(value)
    try:
        is_plain = parse_value(value) == value
    except OverrideError:
        is_plain = False
    if is_plain:
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class _ValueParser:
    """Parses one value in Python or YAML notation."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def items(self, closer: str) -> tuple[list[Any], bool]:
        """Parses the items up to `closer`. Returns them, and whether a comma separates or follows them."""
        items: list[Any] = []
        has_comma = False
        while not self._ends(closer):
            items.append(self._item(closer))
            has_comma = self._skip_comma(closer) or has_comma
        return items, has_comma

    def _item(self, closers: str) -> Any:
        text, start = self.text, self.at
        quoted = _QUOTED.match(text, start)
        if quoted:
            rest = text[quoted.end() :].lstrip()
            if not rest or rest[0] == "," or rest[0] in closers:
                self.at = quoted.end()
                return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), quoted[0][1:-1])
        if text.startswith("dict(", start):
            self.at += len("dict(")
            return self._pairs(")", "=")
        if text[start] not in _CLOSERS:
            return self._scalar(closers)
        self.at += 1
        if text[start] == "{":
            return self._pairs("}", ":")
        items, has_comma = self.items(_CLOSERS[text[start]])
        if text[start] == "[":
            return items
        return tuple(items) if has_comma or not items else items[0]

    def _pairs(self, closer: str, mark: str) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        while not self._ends(closer):
            key = self._item(closer + mark)
            if self._next() != mark or isinstance(key, (dict, list)):
                raise self._error(f"expected `key{mark} value`")
            self.at += 1
            if self._next() in ("", ",", closer):
                raise self._error(f"expected a value after '{key}{mark}'")
            result[key] = self._item(closer)
            self._skip_comma(closer)
        return result

    def _scalar(self, closers: str) -> Any:
        """Parses a number, a boolean or None. Any other text up to a comma or one of `closers` is a string."""
        start, depth = self.at, 0
        while self.at < len(self.text):
            character = self.text[self.at]
            if depth == 0 and (character == "," or character in closers):
                break
            depth += (character in "([{") - (character in ")]}")
            self.at += 1
        if depth > 0:
            raise self._error("a bracket is not closed")
        if start == self.at:
            raise self._error("expected a value")
        word = self.text[start : self.at].strip()
        if word in _CONSTANTS:
            return _CONSTANTS[word]
        try:
            if _INTEGER.fullmatch(word):
                return int(word)
            if _FLOAT.fullmatch(word):
                return float(word.replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:  # more than 4,300 digits
            pass
        return word

    def _ends(self, closer: str) -> bool:
        """Checks whether `closer` is next, and skips it if so. An empty `closer` stands for the end of the text."""
        character = self._next()
        if closer and not character:
            raise self._error(f"'{closer}' is missing")
        if character != closer:
            return False
        self.at += 1
        return True

    def _skip_comma(self, closer: str) -> bool:
        character = self._next()
        if character == ",":
            self.at += 1
        elif character and character != closer:
            raise self._error("expected a comma")
        return character == ","

    def _next(self) -> str:
        """Skips spaces and returns the next character, or "" at the end."""
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.text[self.at : self.at + 1]

    def _error(self, reason: str) -> OverrideError:
        return OverrideError(f"cannot read the value: {reason}", found=self.text)


class DictAction(argparse.Action):
    """Collects `key=value` arguments into a dict for `Config.merge_from_dict`.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> action = parser.add_argument("--cfg-options", nargs="+", action=DictAction)
        >>> parser.parse_args(["--cfg-options", "optimizer.lr=0.1", "scale=1333,800"]).cfg_options
        {'optimizer.lr': 0.1, 'scale': [1333, 800]}
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Adds the pairs passed with one flag to those of earlier flags."""
        options = dict(getattr(namespace, self.dest, None) or {})
        for pair in [values] if isinstance(values, str) else values or []:
            key, mark, value = str(pair).partition("=")
            if not mark or not key:
                raise argparse.ArgumentError(self, f"expected key=value, got '{pair}'")
            try:
                options[key] = parse_value(value.strip())
            except OverrideError as error:
                raise argparse.ArgumentError(self, error.message) from error
        setattr(namespace, self.dest, options)
