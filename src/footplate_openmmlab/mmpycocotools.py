"""The API of mmpycocotools, a fork of pycocotools that MMDetection 2.3 to 2.10 imports."""

from typing import Any

from pycocotools.coco import COCO as _COCO  # type: ignore[import-untyped,unused-ignore]

__version__ = "12.0.2"


class COCO(_COCO):  # type: ignore[misc,unused-ignore]
    """COCO annotations, with snake_case aliases for the methods of pycocotools.

    Args:
        annotation_file: The path of the annotation file.
    """

    load_anns, load_cats, load_imgs = _COCO.loadAnns, _COCO.loadCats, _COCO.loadImgs

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__(annotation_file)
        self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_ann_ids(self, img_ids: Any = (), cat_ids: Any = (), area_rng: Any = (), iscrowd: Any = None) -> Any:
        """Returns annotation ids; see `getAnnIds` in pycocotools."""
        return self.getAnnIds(img_ids, cat_ids, area_rng, iscrowd)

    def get_cat_ids(self, cat_names: Any = (), sup_names: Any = (), cat_ids: Any = ()) -> Any:
        """Returns category ids; see `getCatIds` in pycocotools."""
        return self.getCatIds(cat_names, sup_names, cat_ids)

    def get_img_ids(self, img_ids: Any = (), cat_ids: Any = ()) -> Any:
        """Returns image ids; see `getImgIds` in pycocotools."""
        return self.getImgIds(img_ids, cat_ids)
