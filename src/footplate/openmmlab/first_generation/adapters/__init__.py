"""Base classes and adapters that run first-generation code on the engine."""

from footplate.openmmlab.first_generation.adapters.hook import Hook

__all__ = ["Hook"]
