"""Restores the results of Shapely 1's `STRtree`."""

from typing import Any


def STRtree(*args: Any, **kwargs: Any) -> Any:  # noqa: N802 - the name of the class that it replaces
    """Returns a tree whose `query` returns geometries, as in Shapely 1. In Shapely 2, it returns their indices.

    With arguments or arrays that Shapely 1 does not accept, `query` returns indices.
    """
    from shapely.strtree import STRtree as Tree  # type: ignore[import-untyped,import-not-found,unused-ignore]

    class OldTree(Tree):  # type: ignore[misc]
        def query(self, geometry: Any, *args: Any, **kwargs: Any) -> Any:
            found = super().query(geometry, *args, **kwargs)
            is_old = not args and not kwargs and not hasattr(geometry, "__len__")
            return [self.geometries[index] for index in found] if is_old else found

    return OldTree(*args, **kwargs)
