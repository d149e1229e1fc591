"""Translates first-generation configs into second-generation configs."""

from footplate_openmmlab.first_generation.translation.translate import translate

__all__ = ["translate"]
