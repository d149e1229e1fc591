"""Configs that ship, their sample data, and the data sets that compose it."""

from typing import TYPE_CHECKING, Any

from footplate.recipes.catalog import Recipe, find_config, recipes

if TYPE_CHECKING:
    from footplate.recipes.fashion_scenes import FashionScenes as FashionScenes

__all__ = ["FashionScenes", "Recipe", "find_config", "recipes"]


def __getattr__(name: str) -> Any:
    # A list of recipes needs no numpy: the data set is imported when it is asked for.
    if name == "FashionScenes":
        from footplate.recipes.fashion_scenes import FashionScenes

        return FashionScenes
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
