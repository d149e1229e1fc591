"""Translates first-generation configs into second-generation configs."""

from footplate.first_generation.translation.draft import Kind, Note
from footplate.first_generation.translation.rules import RULES, Rule
from footplate.first_generation.translation.translate import (
    FIRST_GENERATION_KEYS,
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
