"""Translates a first-generation config into a second-generation one."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from footplate.config import Config, ConfigDict, KeyOrigin
from footplate.error_context import origin_at
from footplate.errors import ConfigError, FootplateError
from footplate.migration.draft import Draft
from footplate.migration.generations import AnyConfig, is_first_generation
from footplate.migration.key_map import Path
from footplate.migration.notes import Note
from footplate.migration.rules import RULES, Rule

_Config = TypeVar("_Config", bound="Config | Mapping[str, Any]")


class Translation(NamedTuple):
    """A translated config.

    Attributes:
        sections: The second-generation config.
        notes: What there is to say about the keys that were read.
        sources: For each path that was written, the first-generation key that it comes from.
        taken: The keys of the old config that are no longer what they were.
    """

    sections: ConfigDict
    notes: tuple[Note, ...]
    sources: Mapping[Path, str]
    taken: frozenset[str]


def translate(cfg: _Config) -> _Config:
    """Returns an equivalent second-generation config; a second-generation one is returned unchanged.

    Args:
        cfg: A config, or its mapping; it is left as it is.

    Raises:
        ConfigError: A key cannot be understood, or two contradict each other.

    Example:
        >>> cfg = translate(dict(optimizer=dict(type="SGD", lr=0.1), lr_config=dict(policy="fixed"), total_epochs=2))
        >>> cfg["train_cfg"], cfg["optim_wrapper"]["optimizer"]["lr"]
        ({'type': 'EpochBasedTrainLoop', 'max_epochs': 2}, 0.1)
    """
    if not is_first_generation(cfg):
        return cfg
    return in_place_of(cfg, translate_sections(cfg).sections)


def in_place_of(cfg: _Config, sections: ConfigDict) -> _Config:
    """Returns a config like `cfg` with other sections; a plain mapping becomes one that knows its origins."""
    if isinstance(cfg, Config):
        return Config(sections, cfg.text, cfg.filename, cfg.env_variables)  # type: ignore[return-value]
    return sections  # type: ignore[return-value]


def translate_sections(
    cfg: AnyConfig,
    *,
    device: str | None = None,
    knows_hook: Callable[[str], bool] | None = None,
) -> Translation:
    """Translates a first-generation config, or a part of one.

    Args:
        cfg: The config; it is left as it is.
        device: The type of device that the run will have, "cpu" or "cuda", None where nobody knows.
        knows_hook: Tells whether a hook of some name is registered; None where nobody knows.

    Raises:
        ConfigError: A key cannot be understood, or two contradict each other.
    """
    given = ConfigDict(cfg._cfg_dict if isinstance(cfg, Config) else cfg)
    draft = Draft(given, device=device, knows_hook=knows_hook)
    _ = draft.length  # refused first where it is none, since schedules reckon with it
    for rule in RULES:
        if rule.acts_on(draft):
            _apply(rule, draft)
    sections = _joined(given, draft)
    return Translation(sections, tuple(draft.notes), draft.sources, frozenset(set(given) - set(draft.rest)))


def _apply(rule: Rule, draft: Draft) -> None:
    try:
        rule.apply(draft)
    except FootplateError as error:
        error.origin = error.origin or origin_at(draft.given, error.key)
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # A rule stumbles over a value of the wrong kind, most often a number or a word where a dict is due.
        key = next((each for each in rule.keys or () if each in draft.given), "")
        raise ConfigError(
            f"'{key or rule.id}' of the first generation cannot be understood: {type(error).__name__}: {error}",
            key=key,
            found=draft.given.get(key),
            origin=draft.origin(key) if key else None,
            notes=["--debug shows where"],
        ) from error


def _joined(given: ConfigDict, draft: Draft) -> ConfigDict:
    """Joins the translated and the remaining sections; existing sections win."""
    sections = ConfigDict(draft.rest)
    sections._origins.update({key: origin for key, origin in given._origins.items() if key in draft.rest})
    for key, value in draft.made.items():
        held = sections.get(key)
        if isinstance(held, ConfigDict) and isinstance(value, Mapping):
            merged = ConfigDict(value)
            merged.merge(held)
            dict.__setitem__(sections, key, merged)
        elif key not in sections or held is None:
            dict.__setitem__(sections, key, ConfigDict({key: value})[key])
            _place(sections, key, draft)
    return sections


def _place(sections: ConfigDict, key: str, draft: Draft) -> None:
    """Sets the origin of a translated section to that of the key that it comes from."""
    for path, source in draft.sources.items():
        origin = draft.origin(source)
        if path[0] != key or origin is None:
            continue
        place = KeyOrigin(*origin)
        holder: Any = sections
        for part in path:
            if isinstance(holder, list):
                holder = holder[int(part)]
            else:
                holder._origins.setdefault(part, place)
                holder = holder[part]
        if isinstance(holder, ConfigDict):
            holder._origins.setdefault(None, place)
