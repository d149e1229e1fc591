"""Base classes and adapters for running first-generation code on footplate's engine."""

from footplate_openmmlab.first_generation.adapters.hook import Hook

__all__ = ["Hook"]
