"""Counts the labels of the samples that `check` inspects, and warns about labels that do not match the classes."""

import logging
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from footplate.data.data_element import BaseDataElement
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.data.label_warnings import warn_about_ignored_pixels, warn_about_missing_classes
from footplate.data.loader_attributes import metainfo_in
from footplate.evaluation.evaluation_sets import classes_in
from footplate.messages import list_names, pluralize

_logger = logging.getLogger("footplate.tools")
_MAPS = ("gt_seg_map", "gt_semantic_seg")  # of the second and the first generation
# Maps the keys of labels in a pipeline to their names in packed samples.
_LABELS = {
    "gt_seg_map": "gt_sem_seg",
    "gt_bboxes_labels": "gt_instances",
    "gt_label": "gt_label",
    "gt_semantic_seg": "gt_semantic_seg",
    "gt_labels": "gt_labels",
}
_PATHS = ("seg_map_path", "img_path", "filename")
_LAST = re.compile("Crop|Pack|Format|Collect|ToTensor")  # transforms that remove or convert labels
_MAX_NAMES = 12  # classes or labels in a line
_MAX_FILES = 3  # for each label


class _Sample(NamedTuple):
    file: str
    amounts: dict[int, int]  # the numbers of pixels or boxes with each label; 1 for the label of an image


class Labels(NamedTuple):
    """The labels of the inspected samples.

    Attributes:
        dataset: The innermost dataset.
        classes: The class names.
        samples: The file and the labels of each sample.
        are_maps: Whether the labels belong to pixels.
        are_complete: Whether all samples of the dataset were inspected.
    """

    dataset: Any
    classes: Sequence[str]
    samples: Sequence[_Sample]
    are_maps: bool
    are_complete: bool

    @property
    def ignored(self) -> int | None:
        """The label of ignored pixels, or None if the labels do not belong to pixels."""
        return getattr(self.dataset, "ignore_index", 255) if self.are_maps else None

    def __str__(self) -> str:
        names = dict[int | None, str](enumerate(self.classes))
        amounts = Counter[int | None](dict.fromkeys(names, 0))
        for sample in self.samples:
            amounts.update(sample.amounts)
        total, ignored = amounts.total() or 1, amounts.pop(self.ignored, 0)
        shares = [
            f"{names.get(label, f'label {label}')} {_percent(amount / total)}"
            for label, amount in amounts.most_common()
        ]
        return list_names(shares, _MAX_NAMES) + (f", ignored {_percent(ignored / total)}" if ignored else "")

    def warn_about_invalid(self) -> None:
        """Warns about labels outside the classes."""
        valid = {*range(len(self.classes)), self.ignored}
        files = defaultdict[int, dict[str, None]](dict)
        for sample in self.samples:
            for label in sample.amounts:
                if label not in valid:
                    files[label][f"'{sample.file}'"] = None
        if files:
            invalid = [f"label {label} in {list_names(names, _MAX_FILES)}" for label, names in sorted(files.items())]
            _logger.warning(
                "Some labels are not between 0 and %d%s: %s.",
                len(self.classes) - 1,
                f" (pixels with label {self.ignored} are ignored)" if self.are_maps else "",
                list_names(invalid, _MAX_NAMES),
            )

    def warn(self) -> None:
        """Warns about labels outside the classes, and about classes that do not occur."""
        self.warn_about_invalid()
        num_classes = len(self.classes)
        counts = Counter(label for sample in self.samples for label in sample.amounts)
        missing = [label for label in range(num_classes) if label not in counts]
        if not missing:
            return
        dataset = self.dataset
        prefix = getattr(dataset, "data_prefix", None)
        folders = prefix if isinstance(prefix, Mapping) else {}
        paths = (folders.get("seg_map_path"), getattr(dataset, "ann_file", None), folders.get("img_path"))
        where = next(filter(None, paths), type(dataset).__name__)
        present = [label for label in range(num_classes) if label in counts and label != self.ignored]
        selects_classes = getattr(dataset, "label_map", None) is not None  # and ignores the others on purpose
        if self.are_maps and self.ignored in counts and len(present) < 2 and not selects_classes:
            if not hasattr(dataset, "warn_about_labels"):  # otherwise, the preflight check has warned
                warn_about_ignored_pixels(present, len(self.samples), where, num_classes)
        elif self.are_complete:
            warn_about_missing_classes(self.classes, counts, where)
        # If a class occurs in only one sample, classes are rare, and others are probably missing by chance.
        elif self.are_maps and all(counts[label] > 1 for label in present):
            names = list_names([self.classes[label] for label in missing], _MAX_NAMES)
            _logger.warning(
                "These classes do not occur in any of the %s of '%s': %s.",
                pluralize(len(self.samples), "inspected label map"),
                where,
                names,
            )
        else:
            return
        if self.are_maps and getattr(dataset, "reduce_zero_label", False) and num_classes - 1 in missing:
            _logger.warning(
                "reduce_zero_label=True ignores label 0 and reduces the other labels by one. If label 0 is a class, "
                "set reduce_zero_label=False in the dataset and in LoadAnnotations."
            )


class LabelCounter:
    """A transform that records the labels of each sample, and returns the sample unchanged."""

    def __init__(self) -> None:
        self._samples = defaultdict[str, list[_Sample]](list)

    def __call__(self, results: Any) -> Any:
        """Records the labels in the results of a pipeline."""
        for key in _LABELS if isinstance(results, Mapping) else ():
            values = results.get(key)
            if isinstance(values, (int, np.integer)):
                values = np.array(values)
            is_integer = isinstance(values, np.ndarray) and values.dtype.kind in "iu"
            if is_integer and (key not in _MAPS or values.ndim == 2):
                crowds = np.asarray(results.get("gt_ignore_flags", ()), dtype=bool)  # not used in training
                if key == "gt_bboxes_labels" and crowds.shape == values.shape:
                    values = values[~crowds]
                labels, amounts = np.unique(values.astype(np.int64), return_counts=True)  # faster than uint8
                file = next((str(results[name]) for name in _PATHS if results.get(name)), "?")
                self._samples[key].append(_Sample(file, dict(zip(labels.tolist(), amounts.tolist(), strict=True))))
        return results

    def labels_of(self, dataset: Any, packed: Any, *, are_complete: bool) -> Labels | None:
        """Returns the recorded labels, or None if there are no class names, no labels, or several kinds of labels.

        Args:
            dataset: The dataset, possibly with wrappers.
            packed: A sample after the whole pipeline, which contains only the labels that the task uses. None if no
                sample could be read.
            are_complete: Whether all samples were read.
        """
        classes = classes_in(metainfo_in(dataset))
        content = packed.get("data_samples", packed) if isinstance(packed, Mapping) else None
        content = content if isinstance(content, (Mapping, BaseDataElement)) else {}
        keys = [key for key, name in _LABELS.items() if self._samples[key] and (packed is None or name in content)]
        if not classes or len(keys) != 1:
            return None
        return Labels(innermost_datasets(dataset)[0], classes, self._samples[keys[0]], keys[0] in _MAPS, are_complete)


@contextmanager
def counting_labels(dataset: Any) -> Iterator[LabelCounter]:
    """Counts the labels that the dataset's pipelines load in this process inside the `with` block.

    Label maps are counted before they are cropped, because cropping may remove labels.
    """
    counter = LabelCounter()
    pipelines = [getattr(getattr(leaf, "pipeline", None), "transforms", None) for leaf in innermost_datasets(dataset)]
    lists = [transforms for transforms in pipelines if isinstance(transforms, list)]
    for transforms in lists:
        names = [type(transform).__name__ for transform in transforms]
        transforms.insert(next((at for at, name in enumerate(names) if _LAST.search(name)), len(names)), counter)
    try:
        yield counter
    finally:
        for transforms in lists:
            transforms.remove(counter)


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"
