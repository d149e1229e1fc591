"""Short first-generation configs, and helpers that translate them."""

from typing import Any

from footplate_openmmlab.first_generation.translation.config_translation import translate_sections
from footplate_openmmlab.first_generation.translation.draft import Kind, Note

EPOCHS = {"runner": {"type": "EpochBasedRunner", "max_epochs": 12}}

ITERS = {"runner": {"type": "IterBasedRunner", "max_iters": 100}}

DATA = {"data": {"samples_per_gpu": 2, "train": {"type": "A"}, "val": {"type": "B"}, "test": {"type": "C"}}}


def sections(cfg: dict[str, Any], **options: Any) -> dict[str, Any]:
    return dict(translate_sections(cfg, **options).sections.to_dict())


def notes(cfg: dict[str, Any], kind: Kind, **options: Any) -> list[str]:
    found: tuple[Note, ...] = translate_sections(cfg, **options).notes
    return [f"{note.key}: {note.text}" for note in found if note.kind is kind]
