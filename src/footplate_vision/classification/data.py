"""Defines the dataset, the data sample, the packing transform and the data preprocessor for image classification."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from footplate.data import BaseDataset
from footplate.data.annotations import read_lines
from footplate.data.data_element import BaseDataElement
from footplate.data.label_warnings import warn_about_missing_classes
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate.models import ImgDataPreprocessor
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate.storage import join
from footplate_vision.classification.batch_augment import RandomBatchAugment
from footplate_vision.classification.class_folders import match_folders, warn_about_order
from footplate_vision.image_files import (
    IMAGE_SUFFIXES,
    check_images,
    contains_one_of,
    find_images,
    has_suffix,
    is_folder,
    list_folder,
)
from footplate_vision.task_base import PackSamples, check_classes, image_name, to_labels


@DATASETS.register_module()
class CustomDataset(BaseDataset):
    """A dataset of images that are sorted into class folders (with any subfolders) or listed in a text file.

    Without `ann_file`, the folders in `data_prefix` are the classes, sorted by name. With `ann_file`, each line of this
    file contains a path under `data_prefix` and a class index: `shoes/01.png 4`. Samples have `img_path` and
    `gt_label`.

    Args:
        data_root: The root folder for relative paths.
        data_prefix: The image folder under `data_root`, or a dict with this folder as `img_path`.
        ann_file: The text file under `data_root`; empty if the folders define the classes.
        with_label: Whether images have labels. If False, samples have only `img_path`. The lines of `ann_file` then
            contain only paths; without `ann_file`, all images in the folder and its subfolders are used.
        metainfo: A dict with `classes`, a list of names or the path of a text file with names. Folders and classes are
            matched by name, regardless of case, spaces, "_" and "-", if all folders are classes, or all classes have a
            folder (other folders are ignored with a warning). Otherwise, they are matched by order, with a warning.
        classes: An alternative to `metainfo["classes"]`, which it overrides.
        settings: Arguments for `BaseDataset`, such as `pipeline`, `indices`, `test_mode`, `lazy_init` and `on_error`.

    Raises:
        DataError: A folder is missing, there are no images, a line is malformed, a label is out of range, or classes
            and folders do not match.
    """

    classes_are_folders = False
    """Whether the classes are the names of the folders. A missing folder then shifts the labels."""

    def __init__(
        self,
        data_root: str | None = "",
        data_prefix: str | Mapping[str, str | None] = "",
        ann_file: str | None = "",
        with_label: bool = True,
        metainfo: Mapping[str, Any] | None = None,
        *,
        classes: Sequence[str] | str | None = None,
        **settings: Any,
    ) -> None:
        self.with_label = with_label
        super().__init__(
            ann_file=ann_file,
            metainfo=metainfo if classes is None else {**(metainfo or {}), "classes": classes},
            data_root=data_root,
            data_prefix={"img_path": data_prefix} if isinstance(data_prefix, str) else data_prefix,
            **settings,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns a record for each image, with `img_path` and, unless `with_label` is False, `gt_label`."""
        folder = self.data_prefix.get("img_path") or "."
        if self.ann_file:
            with at_key("ann_file"):
                lines = read_lines(self.ann_file)
                records = [self._record(folder, line, number) for number, line in enumerate(lines, 1) if line.strip()]
        elif not self.with_label:
            records = [{"img_path": join(folder, path)} for path in find_images(folder, IMAGE_SUFFIXES)]
        else:
            labels = self._labels(folder)
            records = [
                {"img_path": join(folder, path), "gt_label": labels[path.partition("/")[0]]}
                for path in find_images(folder, IMAGE_SUFFIXES, labels)
            ]
        check_images(records, self.ann_file, folder, IMAGE_SUFFIXES)
        if self.with_label:
            present = {record["gt_label"] for record in records}
            warn_about_missing_classes(self._metainfo.get("classes"), present, self.ann_file or folder)
        return records

    def _record(self, folder: str, line: str, number: int) -> dict[str, Any]:
        if not self.with_label:
            return {"img_path": join(folder, line.strip())}
        path, _, label = line.strip().rpartition(" ")
        classes = self._metainfo.get("classes")
        if not path or not label.isdecimal() or (classes and int(label) >= len(classes)):
            below = f" below {len(classes)}" if classes else ""
            reason = f"line {number} of '{self.ann_file}' must be an image path followed by one class index{below}"
            raise DataError(reason, found=line)
        return {"img_path": join(folder, path.strip()), "gt_label": int(label)}

    def _labels(self, folder: str) -> dict[str, int]:
        """Maps folder names to labels, and sets the classes in the metainfo."""
        names = [name for name in list_folder(folder) if not has_suffix(name, IMAGE_SUFFIXES)]
        folders = [name for name in names if is_folder(join(folder, name))]
        folders = [name for name in folders if not contains_one_of([folder], join(folder, name))]
        if not folders:
            notes = ["Sort the images into one folder per class, or set ann_file or with_label=False."]
            raise DataError(f"there are no class folders in '{folder}'", key="data_prefix", notes=notes)
        self.classes_are_folders = not self._metainfo.get("classes")
        if self.classes_are_folders:
            self._metainfo["classes"] = tuple(folders)
            if all(name.isdecimal() for name in folders):
                warn_about_order(folders, [f"label {label}" for label in range(len(folders))], folder)
        return match_folders(folders, self._metainfo["classes"], folder)


Labels = int | Sequence[int] | Tensor | NDArray[Any]
Scores = Sequence[float] | Tensor | NDArray[Any]


class ClsDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_path`, `img_shape` etc. are stored as metainfo.

    Attributes:
        gt_label: The true classes, ``(K,)``, int64; usually one.
        gt_score: The soft labels, ``(C,)``, float, for example for mixed images.
        pred_label: The predicted classes, ``(K,)``, int64.
        pred_score: The probability of each class, ``(C,)``, float.

    Example:
        >>> sample = ClsDataSample().set_gt_label(3).set_pred_score([0.1, 0.9])
        >>> sample.gt_label, sample.pred_score
        (tensor([3]), tensor([0.1000, 0.9000]))
    """

    def set_gt_label(self, value: Labels) -> Self:
        """Sets one or more true classes. Raises an ArgumentError if `value` contains anything but integers."""
        self.gt_label = to_labels(value)
        return self

    def set_gt_score(self, value: Scores) -> Self:
        """Sets the soft labels, one per class. Raises an ArgumentError if `value` is not one-dimensional."""
        self.gt_score = _to_scores(value)
        return self

    def set_pred_label(self, value: Labels) -> Self:
        """Sets one or more predicted classes; see `set_gt_label`."""
        self.pred_label = to_labels(value)
        return self

    def set_pred_score(self, value: Scores) -> Self:
        """Sets the probability of each class; see `set_gt_score`."""
        self.pred_score = _to_scores(value)
        return self


def _to_scores(value: Any) -> Tensor:
    scores = torch.as_tensor(value)
    if scores.dim() != 1:
        raise ArgumentError("scores must be a list of numbers, one per class", found=value)
    return scores if scores.is_floating_point() else scores.float()


def labels_of(sample: ClsDataSample, num_classes: int) -> Tensor:
    """Returns the true classes of a sample as an int64 tensor of shape ``(K,)``.

    Raises:
        DataError: The ground truth is missing, or a class is out of range. Only labels on the CPU are checked, to avoid
            synchronizing with an accelerator.
    """
    labels: Tensor | None = sample.get("gt_label")
    if labels is None:
        raise DataError("an image has no ground truth: 'gt_label' is missing from its data sample")
    # Each image has few labels, for which Python numbers are much faster than tensor operations.
    if labels.device.type == "cpu" and not all(0 <= label < num_classes for label in labels.tolist()):
        check_classes(f"ground truth of {image_name(sample)}", labels, num_classes)
    return labels


@TRANSFORMS.register_module(["PackInputs", "PackClsInputs"])
class PackInputs(PackSamples):
    """Packs the results of a pipeline into the inputs of classification models.

    The results contain an image of shape ``(H, W, C)`` or ``(H, W)``. If the ground truth is known, they also contain
    one or more classes as `gt_label`, or soft labels of shape ``(C,)`` as `gt_score`.

    Args:
        meta_keys: The keys to store as metainfo, if present.

    Raises:
        DataError: There is no image.
    """

    sample_type = ClsDataSample

    def annotate(self, sample: ClsDataSample, results: Mapping[str, Any]) -> None:
        """Adds the labels to a sample."""
        try:
            if "gt_label" in results:
                sample.set_gt_label(results["gt_label"])
            if "gt_score" in results:
                sample.set_gt_score(results["gt_score"])
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(f"the label of {image_name(results)} cannot be used: {error}") from error


@MODELS.register_module()
class ClsDataPreprocessor(ImgDataPreprocessor):
    """Normalizes images, pads them to the same size, and applies batch augmentations during training.

    Args:
        to_rgb: Whether to swap the first and third channels.
        bgr_to_rgb: An alias for `to_rgb`.
        to_onehot: Whether to set the `gt_score` of samples to one-hot labels.
        num_classes: The number of classes; required by `to_onehot` and `batch_augments`.
        batch_augments: Arguments for RandomBatchAugment, such as `dict(augments=[dict(type="Mixup", alpha=0.2)])`, or a
            list of augmentations.
        settings: Arguments for `ImgDataPreprocessor`, such as `mean` and `std`.

    Raises:
        ArgumentError: `num_classes` is required but not set.
        DataError: In `forward`, an image is mixed with others but has no valid ground truth.
    """

    def __init__(
        self,
        *,
        to_rgb: bool = False,
        bgr_to_rgb: bool = False,
        to_onehot: bool = False,
        num_classes: int | None = None,
        batch_augments: Mapping[str, Any] | Sequence[Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(bgr_to_rgb=to_rgb or bgr_to_rgb, **settings)
        self.to_onehot = to_onehot
        self.num_classes = num_classes
        with at_key("batch_augments"):
            several = batch_augments if isinstance(batch_augments, Mapping) else {"augments": batch_augments}
            self.mixing = RandomBatchAugment(**several) if batch_augments else None
        if (to_onehot or self.mixing is not None) and num_classes is None:
            raise ArgumentError("to_onehot and batch augmentation need num_classes", key="num_classes")

    def fit_samples(self, batch: dict[str, Any], training: bool) -> None:
        """Applies `batch_augments`, if set, to images and labels during training.

        Otherwise, if `to_onehot` is set and all samples have labels, sets their `gt_score`.
        """
        samples = batch["data_samples"]
        if training and self.mixing is not None:
            if samples is None:
                raise DataError("batch augmentation needs the ground truth, but the batch has no 'data_samples'")
            batch["inputs"], scores = self.mixing(batch["inputs"], self._scores(samples, batch["inputs"]))
        elif self.to_onehot and samples is not None and all("gt_label" in sample for sample in samples):
            scores = self._scores(samples, batch["inputs"])
        else:
            return
        for sample, row in zip(samples, scores, strict=True):
            sample.set_gt_score(row)

    def _scores(self, samples: Sequence[ClsDataSample], inputs: Tensor) -> Tensor:
        """Returns the soft or multi-hot labels of samples as a tensor of shape ``(N, num_classes)``."""
        scores = inputs.new_zeros(len(samples), self.num_classes or 0)
        with at_key("model.data_preprocessor.num_classes"):
            for row, sample in zip(scores, samples, strict=True):
                if "gt_score" in sample:
                    row += sample.gt_score
                else:
                    row[labels_of(sample, scores.shape[1])] = 1
        return scores
