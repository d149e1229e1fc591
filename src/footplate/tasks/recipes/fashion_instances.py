"""The dataset of composed scenes for detection."""

from typing import Any

from footplate.registry import DATASETS
from footplate.tasks.recipes.fashion_scenes import FashionScenes
from footplate.tasks.recipes.items import CLASSES


@DATASETS.register_module()
class FashionInstances(FashionScenes):
    """The scenes of `FashionScenes` for detection: the background is not a class.

    Takes the arguments of `FashionScenes`. Samples also contain `img_id`.

    Example:
        >>> FashionInstances("test").metainfo["classes"][:2]
        ('T-shirt/top', 'trouser')
    """

    @property
    def metainfo(self) -> dict[str, Any]:
        """The classes and the palette, without the background."""
        return {"classes": CLASSES, "palette": super().metainfo["palette"][1:]}

    def sample(self, index: int) -> dict[str, Any]:
        """Returns the sample of a scene, before the pipeline."""
        return {**super().sample(index), "img_id": index}
