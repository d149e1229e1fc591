"""Restores the results of Shapely 1's `STRtree`. Imported only by code that uses it."""

from typing import Any

from shapely.strtree import STRtree as _Tree  # type: ignore[import-untyped,import-not-found,unused-ignore]


class STRtree(_Tree):  # type: ignore[misc]
    """A tree whose `query` returns geometries, as in Shapely 1. In Shapely 2, it returns their indices."""

    def query(self, geometry: Any, *args: Any, **kwargs: Any) -> Any:
        """Returns the geometries that may intersect another one.

        With arguments or arrays that Shapely 1 does not accept, returns indices.
        """
        found = super().query(geometry, *args, **kwargs)
        is_old = not args and not kwargs and not hasattr(geometry, "__len__")
        return [self.geometries[index] for index in found] if is_old else found
