"""Translates first-generation configs into second-generation configs."""

from footplate.openmmlab.first_generation.translation.draft import Kind, Note, Rule
from footplate.openmmlab.first_generation.translation.translate import (
    FIRST_GENERATION_KEYS,
    RULES,
    Translation,
    is_first_generation,
    translate,
    translate_sections,
    warn_about_leftovers,
    with_sections,
)

__all__ = [
    "FIRST_GENERATION_KEYS",
    "Kind",
    "Note",
    "RULES",
    "Rule",
    "Translation",
    "with_sections",
    "is_first_generation",
    "translate",
    "translate_sections",
    "warn_about_leftovers",
]
