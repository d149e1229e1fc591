"""Translates first-generation configs into second-generation configs."""

from footplate.openmmlab.first_generation.translation.draft import Kind, Note, Rule
from footplate.openmmlab.first_generation.translation.translate import (
    FIRST_GENERATION_KEYS,
    RULES,
    is_first_generation,
    translate,
    translate_sections,
    warn_about_leftovers,
)

__all__ = [
    "FIRST_GENERATION_KEYS",
    "Kind",
    "Note",
    "RULES",
    "Rule",
    "is_first_generation",
    "translate",
    "translate_sections",
    "warn_about_leftovers",
]
