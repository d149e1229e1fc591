"""The recipes, which are configs that ship with footplate, and their datasets."""

from typing import TYPE_CHECKING, Any

from footplate.tasks.recipes.catalog import Recipe, find_config, recipes

if TYPE_CHECKING:
    from footplate.tasks.recipes.fashion_scenes import FashionScenes as FashionScenes

__all__ = ["FashionScenes", "Recipe", "find_config", "recipes"]


def __getattr__(name: str) -> Any:
    # Listing recipes must not import numpy, so the dataset is imported on first access.
    if name == "FashionScenes":
        from footplate.tasks.recipes.fashion_scenes import FashionScenes

        return FashionScenes
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
