"""Translates first-generation configs into second-generation ones, as data."""

from footplate.migration.generations import FIRST_GENERATION_KEYS, is_first_generation, warn_about_leftovers
from footplate.migration.notes import Kind, Note
from footplate.migration.rules import RULES, Rule
from footplate.migration.translation import Translation, with_sections, translate, translate_sections

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
