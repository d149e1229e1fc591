"""Translates first-generation configs into second-generation configs."""

from footplate.first_generation.translation.generations import (
    FIRST_GENERATION_KEYS,
    is_first_generation,
    warn_about_leftovers,
)
from footplate.first_generation.translation.notes import Kind, Note
from footplate.first_generation.translation.rules import RULES, Rule
from footplate.first_generation.translation.translate import Translation, translate, translate_sections, with_sections

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
