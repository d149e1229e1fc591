"""The data set of composed scenes for detection."""

from typing import Any

from footplate.recipes.fashion_scenes import FashionScenes
from footplate.recipes.items import CLASSES
from footplate.registry import DATASETS


@DATASETS.register_module()
class FashionInstances(FashionScenes):
    """The scenes of `FashionScenes` for tasks that tell items apart: the ground is no class.

    Takes the arguments of `FashionScenes`; samples hold `img_id` besides.

    Example:
        >>> FashionInstances("test").metainfo["classes"][:2]
        ('T-shirt/top', 'trouser')
    """

    @property
    def metainfo(self) -> dict[str, Any]:
        """Classes and palette of the items."""
        return {"classes": CLASSES, "palette": super().metainfo["palette"][1:]}

    def sample(self, index: int) -> dict[str, Any]:
        """Returns the scene under the names that transforms know."""
        return {**super().sample(index), "img_id": index}
