"""The COCO dataset, the data sample for detection, and the transform and the preprocessor that fill it."""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from footplate.checks import check_keys
from footplate.data import BaseDataset, BaseTransform
from footplate.data.annotations import check_segmentation, join_root, load_data_file
from footplate.data.structures import BaseDataElement, InstanceData
from footplate.error_context import at_key
from footplate.errors import DataError
from footplate.messages import nearest, pluralize
from footplate.models import ImgDataPreprocessor
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate.tasks.task_base import data_field, image_to_tensor, loaded_image, select_keys

_logger = logging.getLogger("footplate.tasks")
_LONGEST_SIDE = 1_000_000  # pixels
_LARGEST_NUMBER = 1e12  # the limit of box coordinates
_FILTERS = {"filter_empty_gt": False, "min_size": 0}


@DATASETS.register_module()
class CocoDataset(BaseDataset):
    """A dataset of the images and instances of a COCO file.

    A record has `img_path`, `img_id`, `width`, `height` and `instances`. Each instance is a dict with `bbox` (x1 y1 x2
    y2, clipped to the image), `bbox_label` (an index into the classes), `ignore_flag` (1 for crowds) and `mask` (the
    segmentation as in the file). `LoadAnnotations` converts them to arrays.

    Boxes without area or entirely outside their image are skipped; one warning reports their number.

    Accepts the arguments of `BaseDataset`, with these meanings:

    - `ann_file`: The COCO JSON file.
    - `data_prefix`: `dict(img=...)`, the folder that `file_name` is relative to.
    - `metainfo`: `dict(classes=[...])` selects and orders the categories of the file; by default, all in the order of
      the file.
    - `filter_cfg`: `filter_empty_gt=True` removes images without instances, and `min_size=32` removes images whose
      shorter side has fewer pixels. Ignored in `test_mode`.
    - `test_mode`: Whether to keep all images, and to accept a file without annotations.

    Raises:
        DataError: The file is not in COCO format, an annotation refers to an unknown image or category, a class is not
            a category of the file, or no image remains after filtering.
        ArgumentError: `filter_cfg` has an unknown key.
    """

    def load_data_list(self) -> list[Any]:
        """Returns a record for each image of the file."""
        if not self.ann_file:
            raise DataError(f"the dataset '{type(self).__name__}' has no ann_file", key="ann_file")
        with at_key("ann_file"):
            content = load_data_file(self.ann_file)
            if self.test_mode and isinstance(content, Mapping):
                content = {"annotations": [], **content}
            _check_sections(content, self.ann_file)
        labels = self._labels(content["categories"])
        _check_annotations(content, self.ann_file)
        annotations: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
        for annotation in content["annotations"]:
            if annotation["category_id"] in labels:
                annotations[annotation["image_id"]].append(annotation)
        prefix = self.data_prefix.get("img", self.data_prefix.get("img_path", self.data_root))
        skipped: list[str] = []
        records = []
        for image in content["images"]:
            instances = []
            for annotation in annotations.get(image["id"], ()):
                x, y, width, height = annotation["bbox"]
                box = [max(x, 0.0), max(y, 0.0), min(x + width, image["width"]), min(y + height, image["height"])]
                if box[2] <= box[0] or box[3] <= box[1]:
                    why = "has no area" if width <= 0 or height <= 0 else "lies outside the image"
                    skipped.append(f"annotation {annotation.get('id', '?')} of '{image['file_name']}', which {why}")
                    continue
                label, is_crowd = labels[annotation["category_id"]], bool(annotation.get("iscrowd", 0))
                instances.append({"bbox": box, "bbox_label": label, "ignore_flag": int(is_crowd)})
                if annotation.get("segmentation"):
                    check_mask(annotation, image, self.ann_file)
                    instances[-1]["mask"] = annotation["segmentation"]
            size = {"width": int(image["width"]), "height": int(image["height"])}
            path = join_root(prefix, image["file_name"])
            records.append({"img_path": path, "img_id": image["id"], **size, "instances": instances})
        if skipped:
            count = pluralize(len(skipped), "annotation")
            _logger.warning("Skipped %s in '%s'. The first one is %s.", count, self.ann_file, skipped[0])
        return records

    def filter_data(self) -> list[Any]:
        """Returns the records that pass `filter_cfg`."""
        check_keys("filter_cfg", self.filter_cfg or {}, _FILTERS)
        chosen = {**_FILTERS, **(self.filter_cfg or {})}
        large = records = list(self.data_list)
        if not self.test_mode:
            large = [each for each in records if min(each["width"], each["height"]) >= chosen["min_size"]]
            records = [each for each in large if each["instances"] or not chosen["filter_empty_gt"]]
        if not records:
            count, small = len(self.data_list), len(self.data_list) - len(large)
            if not count:
                raise DataError(f"the dataset is empty: the file '{self.ann_file}' has no images", key="ann_file")
            raise DataError(
                f"the dataset is empty: filter_cfg removed all {count} images of '{self.ann_file}'",
                key="filter_cfg",
                notes=[
                    f"{small} are smaller than min_size, and {len(large)} contain no instance of the selected classes"
                ],
            )
        return records

    def get_cat_ids(self, idx: int) -> list[int]:
        """Returns the class indices of the instances of an image."""
        return [each["bbox_label"] for each in self.get_data_info(idx)["instances"]]

    def _labels(self, categories: Sequence[Mapping[str, Any]]) -> dict[Any, int]:
        """Maps the ids of the selected categories to class indices."""
        classes = self._metainfo.setdefault("classes", tuple(dict.fromkeys(str(each["name"]) for each in categories)))
        found = category_ids(classes, categories, self.ann_file, key="metainfo.classes")
        return {number: position for position, number in enumerate(found)}


def category_ids(
    classes: Sequence[str], categories: Sequence[Mapping[str, Any]], ann_file: str, *, key: str
) -> list[Any]:
    """Returns the category id of each class.

    Raises:
        DataError: The file lacks a category, or two categories have the same name or the same id. `key` is the key of
            the classes in the config.
    """
    ids: dict[str, Any] = {}
    names: dict[Any, str] = {}
    for each in categories:
        name, number = str(each["name"]), each["id"]
        if ids.setdefault(name, number) != number:
            raise DataError(f"the file '{ann_file}' has two categories named '{name}'", found=[ids[name], number])
        if names.setdefault(number, name) != name:
            raise DataError(
                f"the file '{ann_file}' has two categories with the id {number}", found=[names[number], name]
            )
    for name in classes:
        if name not in ids:
            raise DataError(
                f"the file '{ann_file}' has no category '{name}'",
                key=key,
                suggestion=nearest(name, ids),
                notes=["categories: " + ", ".join(ids)],
            )
    return [ids[name] for name in classes]


def check_mask(annotation: Mapping[str, Any], image: Mapping[str, Any], ann_file: str) -> None:
    """Raises a DataError if the mask of an annotation is malformed, or takes far more memory than its image."""
    where = f"the mask of annotation {annotation.get('id', '?')} of '{ann_file}' cannot be used"
    try:
        check_segmentation(annotation["segmentation"], (image["height"], image["width"]))
    except DataError as error:
        raise DataError(f"{where}: {error.message}", key="segmentation") from error
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        reason = f"{where}: it is neither a list of polygons nor run lengths"
        raise DataError(reason, key="segmentation", found=str(annotation["segmentation"])[:60]) from error


def _is_side(value: Any) -> bool:
    """Checks whether a value is a valid number of pixels; some files write integers as floats."""
    return isinstance(value, (int, float)) and 1 <= value <= _LONGEST_SIDE and value == int(value)


# For each key of an entry: the check of its value, and a description of valid values.
_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (lambda value: isinstance(value, (int, float, str)), "a number or a string"),
    "image_id": (lambda value: isinstance(value, (int, float, str)), "a number or a string"),
    "category_id": (lambda value: isinstance(value, (int, float, str)), "a number or a string"),
    "file_name": (lambda value: isinstance(value, str), "a string"),
    "name": (lambda value: isinstance(value, (int, str)), "a string"),
    "width": (_is_side, f"an integer from 1 to {_LONGEST_SIDE}"),
    "height": (_is_side, f"an integer from 1 to {_LONGEST_SIDE}"),
    "bbox": (
        lambda value: (
            isinstance(value, list)
            and len(value) == 4
            and all(isinstance(each, (int, float)) and abs(each) <= _LARGEST_NUMBER for each in value)
        ),
        "four numbers: x, y, width, height",
    ),
}
_SECTIONS = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name"), "annotations": ()}


def _check_sections(content: Any, ann_file: str) -> None:
    """Checks the sections of a COCO file, and the entries of `images` and `categories`."""
    if not isinstance(content, Mapping) or not _SECTIONS.keys() <= content.keys():
        found = sorted(content) if isinstance(content, Mapping) else type(content)
        reason = f"the file '{ann_file}' is not a COCO file: it must have the keys {', '.join(_SECTIONS)}"
        raise DataError(reason, found=found)
    for section, keys in _SECTIONS.items():
        if not isinstance(content[section], list):
            raise DataError(f"'{section}' of the file '{ann_file}' is not a list", found=type(content[section]))
        for position, entry in enumerate(content[section]):
            where = f"entry {position} of '{section}' in '{ann_file}'"
            if not isinstance(entry, Mapping):
                raise DataError(f"{where} is not a dict", found=entry)
            if not set(keys) <= entry.keys():
                raise DataError(f"{where} must have the keys {', '.join(keys)}", found=sorted(entry))
            for key in keys:
                is_valid, wanted = _KEYS[key]
                if not is_valid(entry[key]):
                    raise DataError(f"the '{key}' of {where} must be {wanted}", found=entry[key])


def _check_annotations(content: Mapping[str, Any], ann_file: str) -> None:
    """Checks that image ids are unique, and that annotations are complete and refer to existing entries."""
    images = Counter(each["id"] for each in content["images"])
    if len(images) < len(content["images"]):
        raise DataError(f"the file '{ann_file}' has two images with the id {images.most_common(1)[0][0]}")
    categories = {each["id"] for each in content["categories"]}
    for annotation in content["annotations"]:
        where = f"annotation {annotation.get('id', '?')} of '{ann_file}'"
        for key in ("image_id", "category_id", "bbox"):
            if key not in annotation:
                raise DataError(f"{where} has no '{key}'", found=sorted(annotation))
            is_valid, wanted = _KEYS[key]
            if not is_valid(annotation[key]):
                raise DataError(f"the '{key}' of {where} must be {wanted}", key=key, found=annotation[key])
        if annotation["image_id"] not in images:
            raise DataError(f"{where} refers to an unknown image", key="image_id", found=annotation["image_id"])
        if annotation["category_id"] not in categories:
            known = ", ".join(map(str, sorted(categories)[:20]))
            raise DataError(
                f"{where} has an unknown category",
                key="category_id",
                found=annotation["category_id"],
                notes=[f"categories: {known}"],
            )


_META_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "pad_shape", "scale_factor", "flip", "flip_direction")


class DetDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_id`, `img_path`, `img_shape` etc. are metainfo.

    Attributes:
        gt_instances: The ground-truth instances: `bboxes` ``(N, 4)``, float32, x1 y1 x2 y2 in pixels of the model
            input, `labels` ``(N,)``, int64, and optionally `masks` ``(N, H, W)``, bool.
        ignored_instances: Instances that are ignored in the evaluation, such as crowds, with the same fields.
        pred_instances: The predicted instances, best first: `bboxes` in pixels of the original image, `labels` and
            `scores` ``(N,)``, and for some models `masks`.

    Example:
        >>> import torch
        >>> from footplate.data.structures import InstanceData
        >>> sample = DetDataSample(metainfo=dict(img_path="a.png"))
        >>> sample.gt_instances = InstanceData(bboxes=torch.zeros(2, 4), labels=torch.tensor([1, 0]))
        >>> sample.img_path, len(sample.gt_instances)
        ('a.png', 2)
    """

    gt_instances = data_field("gt_instances", InstanceData)
    ignored_instances = data_field("ignored_instances", InstanceData)
    pred_instances = data_field("pred_instances", InstanceData)


@TRANSFORMS.register_module()
class PackDetInputs(BaseTransform):
    """Packs the results of a pipeline into the inputs of detection models.

    The results contain `img` of shape ``(H, W, 3)`` or ``(H, W)``. If the ground truth is known, they also contain
    `gt_bboxes` ``(N, 4)``,
    `gt_bboxes_labels` ``(N,)``, `gt_ignore_flags` ``(N,)`` for crowds, and `gt_masks` ``(N, H, W)``.

    Args:
        meta_keys: The keys to store as metainfo, if present.
        with_masks: Whether to pack masks; no built-in model uses them.

    Raises:
        DataError: There is no image, or the numbers of boxes and labels differ.
    """

    fixed: ClassVar[bool] = True

    def __init__(self, meta_keys: Sequence[str] = _META_KEYS, *, with_masks: bool = True) -> None:
        self.meta_keys = tuple(meta_keys)
        self.with_masks = with_masks

    def transform(self, results: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `inputs` (a tensor ``(C, H, W)`` of the image's dtype) and `data_samples` (a DetDataSample)."""
        image = np.asarray(loaded_image(results))
        sample = DetDataSample(metainfo={"img_shape": image.shape[:2], **select_keys(results, self.meta_keys)})
        if "gt_bboxes" in results:
            instances, ignored = self._instances(results)
            sample.gt_instances = instances[~ignored]
            sample.ignored_instances = instances[ignored]
        return {"inputs": image_to_tensor(image), "data_samples": sample}

    def _instances(self, results: Mapping[str, Any]) -> tuple[InstanceData, npt.NDArray[np.bool_]]:
        boxes = np.asarray(results["gt_bboxes"], dtype=np.float32).reshape(-1, 4)
        labels = np.asarray(results.get("gt_bboxes_labels", ()), dtype=np.int64)
        if len(labels) != len(boxes):
            where = results.get("img_path", "")
            raise DataError(f"the image '{where}' has {len(boxes)} boxes but {len(labels)} labels")
        instances = InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels))
        if self.with_masks and "gt_masks" in results:
            instances.masks = torch.from_numpy(np.asarray(results["gt_masks"], dtype=bool))
        ignored = np.asarray(results.get("gt_ignore_flags", np.zeros(len(boxes))), dtype=bool)
        return instances, ignored


@MODELS.register_module()
class DetDataPreprocessor(ImgDataPreprocessor):
    """Normalizes images and pads them to the same size on the right and at the bottom, so that boxes stay valid.

    Sets `batch_input_shape` (the padded size of the batch) and `pad_shape` in each sample.

    Args:
        mean: The value to subtract from each channel.
        std: The value to divide each channel by.
        pad_size_divisor: Height and width are padded to multiples of this number.
        pad_value: The padding value of images, applied after normalization.
        pad_mask: Whether to pad the ground-truth masks to the size of the images.
        mask_pad_value: The padding value of masks.
        settings: Additional arguments for `ImgDataPreprocessor`.
    """

    def __init__(
        self,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        pad_size_divisor: int = 1,
        pad_value: float = 0,
        *,
        pad_mask: bool = False,
        mask_pad_value: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(mean, std, pad_size_divisor, pad_value, **settings)
        self.pad_mask = pad_mask
        self.mask_pad_value = mask_pad_value

    def fit_samples(self, batch: dict[str, Any], training: bool) -> None:
        """Sets the size of the batch in each sample, and pads masks to it."""
        shape = tuple(batch["inputs"].shape[-2:])
        for sample in batch["data_samples"] or ():
            sample.set_metainfo({"batch_input_shape": shape, "pad_shape": shape})
            instances = sample.get("gt_instances") if self.pad_mask else None
            if instances is not None and "masks" in instances:
                bottom, right = shape[0] - instances.masks.shape[-2], shape[1] - instances.masks.shape[-1]
                instances.masks = F.pad(instances.masks, (0, right, 0, bottom), value=self.mask_pad_value)
