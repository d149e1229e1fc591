"""Writes a short config for a folder with images and labels: the command `footplate init`."""

import json
import os
import random
import re
import sys
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import track

from footplate.config import Config
from footplate.data.annotations import load_data_file
from footplate.data.findings import Findings
from footplate.errors import ArgumentError, ConfigError, DataError, shown_path
from footplate.messages import list_names, pluralize
from footplate.registry import DATASETS, TRANSFORMS
from footplate_vision.class_names import NAME_FILES, read_names
from footplate_vision.detection.coco_format import load_coco_file
from footplate_vision.image_files import IMAGE_SUFFIXES, find_images
from footplate_vision.published_config import find_weights, predicts_masks, published_batch_size, write_overrides

_SPLITS = {"train": ("train", "training", "train2017"), "val": ("val", "valid", "validation", "val2017", "test")}
_ROLES = {  # words in the names of COCO files and of the folders of their images
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    "test": "test",
}
_NOTE_OF_TEST = "there are no validation data, so the test data are used to validate on"
_IMAGES = ("images", "image", "imgs", "img", "img_dir", "jpegimages", "leftimg8bit")
_MASKS = ("masks", "mask", "labels", "label", "annotations", "ann_dir", "segmentationclass", "gtfine")
_MAX_SPARSE = 16  # values of label maps that are not consecutive; more come from lossy compression
_INSPECTED = 200  # images and label maps
_VAL_SHARE = 0.2
_SMALL = 128  # pixels; for such images, a narrow network learns faster and as much
_WIDTH = 88  # columns of the config
_Values = Sequence[tuple[str, Any, str]]  # names, values and remarks at the top of a config


@dataclass
class _Data:
    """What a folder contains, as arguments of the datasets.

    Attributes:
        classes: The names of the classes.
        train: The arguments of the training dataset, without classes and pipeline.
        val: The arguments of the validation dataset.
        lengths: The numbers of images to train and to validate on.
        sizes: The widths and heights of some images, in pixels.
        files: The contents of the files that describe the split, by name, if the folder has none.
        notes: What to tell the user.
        has_masks: Whether objects have masks.
    """

    classes: list[str]
    train: dict[str, Any]
    val: dict[str, Any]
    lengths: tuple[int, int]
    sizes: list[tuple[int, int]]
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    has_masks: bool = False


def write_config(
    task: str, folder: str, file: str, base: str | None = None, *, from_scratch: bool = False
) -> dict[str, Any]:
    """Writes a config that trains on a folder, and returns what was found.

    Args:
        task: "classification", "segmentation" or "detection".
        folder: The folder with images and labels.
        file: The file to write. Lists of a new split are written next to it.
        base: A published config to inherit from, such as `mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py`.
        from_scratch: Whether not to start from the weights of `base`.

    Returns:
        A dict with `files` (the written ones, the config first), `classes`, `train` and `val` (numbers of images), and
        `notes`, a list of sentences.

    Raises:
        ArgumentError: The file exists.
        DataError: The folder does not contain data for the task, or the labels are invalid.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"there is no folder '{folder}'")
    find, write = TASKS[task]
    data = find(root, os.path.splitext(file)[0])
    if base:
        values, rest = _published(task, base, data, from_scratch=from_scratch)
    else:
        values, rest = write(data)
        rest = textwrap.dedent(rest) + _REST
    written = {file: _head(task, data, values, base or f"footplate::tasks/{task}.py") + rest, **data.files}
    compile(written[file], file, "exec")  # an invalid config is not written
    for path in written:
        if os.path.exists(path):
            raise ArgumentError(f"the file '{path}' exists", notes=["Remove it, or choose another one with --output."])
    for path, text in written.items():
        Path(path).write_text(text, encoding="utf-8")
    train, val = data.lengths
    return {"files": list(written), "classes": data.classes, "train": train, "val": val, "notes": data.notes}


def _path(path: Path) -> str:
    return shown_path(str(path))


def _subfolder(root: Path, names: Collection[str]) -> Path | None:
    """Returns the first subfolder with one of the names, in their order, regardless of case."""
    found = {each.name.lower(): each for each in sorted(root.iterdir()) if each.is_dir()}
    return next((found[name] for name in names if name in found), None)


def _split_of(notes: list[str], *roots: Path) -> list[tuple[Path, ...]]:
    """Returns the subfolders for training and for validation, or [] if not all roots have both, with the same name."""
    found = [{each.name.lower(): each for each in sorted(root.iterdir()) if each.is_dir()} for root in roots]
    names = [next((name for name in names if all(name in each for each in found)), "") for names in _SPLITS.values()]
    if not all(names):
        return []
    notes += [_NOTE_OF_TEST] if names[1] == "test" else []
    return [tuple(each[name] for each in found) for name in names]


def _places(root: Path, images: Collection[str], labels: Collection[str], notes: list[str]) -> list[tuple[Path, ...]]:
    """Returns the folders of images and their labels: for training and for validation, or one pair for both."""
    image, label = _subfolder(root, images), _subfolder(root, labels)
    if image and label:
        return _split_of(notes, image, label) or [(image, label)]
    if split := _split_of(notes, root):
        return [(_subfolder(part, images) or part, _subfolder(part, labels) or part) for (part,) in split]
    return [(root, root)]


def _divide(items: Sequence[Any], groups: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Divides items at random, with the seed 0: about a fifth of each group, if it has two or more, is to validate on.

    Raises:
        DataError: There are fewer than two items.
    """
    members = defaultdict[Any, list[int]](list)
    for index, group in enumerate(groups):
        members[group].append(index)
    chosen = set[int]()
    for indices in members.values():
        random.Random(0).shuffle(indices)
        chosen.update(indices[: max(1, round(_VAL_SHARE * len(indices))) if len(indices) > 1 else 0])
    if not chosen:
        raise DataError("a single image cannot be divided into training and validation data")
    parts: tuple[list[Any], list[Any]] = ([], [])
    for index, item in enumerate(items):
        parts[index in chosen].append(item)
    return parts


def _note_of_split(lengths: Sequence[int]) -> str:
    chosen = "1 image was" if lengths[1] == 1 else f"{lengths[1]} images were"
    return f"the folder has no split, so {chosen} chosen at random (seed 0) to validate on"


def _sizes(paths: Sequence[str]) -> list[tuple[int, int]]:
    sizes = []
    for path in paths[:: max(1, len(paths) // _INSPECTED)]:
        try:
            with Image.open(path) as image:
                sizes.append(image.size)
        except OSError:  # training reports or skips it
            continue
    return sizes


def _names_in(folders: Sequence[Path], notes: list[str]) -> list[str]:
    """Returns the class names from the first file that lists them, or [] if there is no such file.

    Adds a note for each other file with different names.
    """
    files = [path for folder in folders for name in NAME_FILES if (path := folder / name).is_file()]
    lists = {path: names for path in files if (names := read_names(path))}
    first = next(iter(lists), Path())
    for path, names in lists.items():
        if names != lists[first]:
            notes.append(f"the classes are those of '{first}'; '{path}' has others: {list_names(names, 8)}")
    return lists.get(first, [])


# Classification


def _find_classes(root: Path, stem: str) -> _Data:
    notes = list[str]()
    roles = [path.name for path in sorted(root.iterdir()) if path.is_dir() and path.name.lower() in (*_IMAGES, *_MASKS)]
    if _subfolder(root, _IMAGES) and _subfolder(root, _MASKS):
        raise DataError(
            f"the folders of '{root}' seem to contain images and their labels: {list_names(roles, 4)}",
            notes=[
                f"Call `footplate init detection {root}` or `footplate init segmentation {root}`, or pass the folder "
                "that contains the class folders."
            ],
        )
    split = _split_of(notes, root)
    settings = [{"data_prefix": _path(place)} for (place,) in split or [(root,)]]
    train = DATASETS.build({"type": "CustomDataset", "pipeline": [], **settings[0]})
    classes = list(train.metainfo["classes"])
    records = [train.get_data_info(index) for index in range(len(train))]
    folder = settings[0]["data_prefix"]
    paths = [os.path.relpath(record["img_path"], folder) for record in records]
    is_split = any(len(Path(path).parts) > 2 and path.split(os.sep)[0].lower() in _ROLES for path in paths)
    if len(classes) == 1 or is_split:
        raise DataError(
            f"the class folders of '{folder}' are no classes" if is_split else f"'{folder}' has a single class folder",
            found=classes[:8],
            notes=[f"Call init with the folder that contains the class folders, such as '{root / classes[0]}'."],
        )
    sizes = _sizes([record["img_path"] for record in records])
    if split:
        val = DATASETS.build({"type": "CustomDataset", "pipeline": [], "classes": classes, **settings[1]})
        return _Data(classes, settings[0], settings[1], (len(train), len(val)), sizes, notes=notes)
    lines = [f"{path} {record['gt_label']}" for path, record in zip(paths, records, strict=True)]
    parts = _divide(lines, [record["gt_label"] for record in records])
    return _listed(parts, classes, settings[0], sizes, stem)


def _listed(
    parts: tuple[list[str], list[str]], classes: list[str], settings: dict[str, Any], sizes: Any, stem: str
) -> _Data:
    """Returns the data of a folder without a split, with the lines of the files that list the parts."""
    files = {f"{stem}-{name}.txt": "\n".join(lines) + "\n" for name, lines in zip(_SPLITS, parts, strict=True)}
    train, val = ({"ann_file": file, **settings} for file in files)
    lengths = len(parts[0]), len(parts[1])
    return _Data(classes, train, val, lengths, sizes, files, [_note_of_split(lengths)])


def _parted(
    settings: list[dict[str, Any]], parts: Sequence[Any], classes: list[str], sizes: Any, notes: list[str], stem: str
) -> _Data:
    """Returns the data of two parts, or of a folder without a split, whose records are `parts[0]`."""
    if len(settings) > 1:
        return _Data(classes, settings[0], settings[1], (len(parts[0]), len(parts[1])), sizes, notes=notes)
    folder = next(iter(settings[0]["data_prefix"].values()))
    names = [os.path.relpath(record["img_path"], folder) for record in parts[0]]
    data = _listed(_divide(names, [0] * len(names)), classes, settings[0], sizes, stem)
    data.notes += notes
    return data


# Segmentation


def _find_masks(root: Path, stem: str) -> _Data:
    notes = list[str]()
    pairs = _folders_of_masks(root, notes)
    datasets = [DATASETS.build({"type": "BaseSegDataset", "pipeline": [], **pair}) for pair in pairs]
    parts = [[dataset.get_data_info(index) for index in range(len(dataset))] for dataset in datasets]
    records, every = parts[0], sum(parts, [])
    classes = _names_in([root], notes)
    load = TRANSFORMS.build({"type": "LoadAnnotations"})
    values, step = set[int](), max(1, len(every) // _INSPECTED) if classes else 1
    console = Console(stderr=True)
    shown = track(every, "read label maps", console=console, transient=True, disable=not sys.stderr.isatty())
    for index, record in enumerate(shown):
        if index % step == 0 or not values - {0, 255}:
            values.update(np.unique(load(record)["gt_seg_map"]).tolist())
    if len(values) == 1 and values <= {0, 255}:
        raise DataError(f"the label maps contain only {min(values)}, so no image has an object")
    labels = sorted(values) if values <= {0, 255} else sorted(values - {255})
    if 255 in values and labels[-1] != 255:
        notes.append("pixels of the label maps with the value 255 are ignored")
    is_sparse = 2 * len(labels) < labels[-1]
    if is_sparse and len(labels) <= _MAX_SPARSE and len(classes) in (0, len(labels) - 1, len(labels)):
        if len(classes) < len(labels):  # a file may name only the foreground
            foreground = classes or ["foreground"] if labels == [0, 255] else [f"value {value}" for value in labels]
            classes = ["background", *foreground][-len(labels) :]
        for pair in pairs:
            pair["label_values"] = labels
        meaning = ", ".join(f"{value} is {name}" for value, name in zip(labels, classes, strict=True))
        notes.append(f"the values of the label maps are in label_values: {meaning}")
        values = {*range(len(labels))}
    elif classes and len(classes) <= labels[-1]:
        raise DataError(
            f"the label maps contain class {labels[-1]}, but only {len(classes)} classes are named",
            notes=[f"Write the names of labels 0 to {labels[-1]} to '{root / 'classes.txt'}', one per line."],
        )
    elif is_sparse and not classes:
        raise DataError(
            f"most values up to {labels[-1]} are not in the label maps, whose pixels must be class indices",
            found=labels[:8],
            notes=[
                "Convert the label maps, as docs/tasks/segmentation.md shows.",
                f"If the values are class indices, write the names of all classes to '{root / 'classes.txt'}'.",
            ],
        )
    elif not classes:
        classes = [f"class {label}" for label in range(labels[-1] + 1)]
        notes.append("the names of the classes are unknown: write them into the list at the top of the config")
    if missing := [name for label, name in enumerate(classes) if label not in values]:
        notes.append(f"no inspected pixel belongs to {list_names(missing, 8)}")
    sizes = _sizes([record["img_path"] for record in records])
    return _parted(pairs, parts, classes, sizes, notes, stem)


def _folders_of_masks(root: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Returns the settings of the datasets for training and validation, or of one for all images."""
    return [
        {"data_prefix": {"img_path": _path(image), "seg_map_path": _path(mask)}, **_suffixes(image, mask)}
        for image, mask in _places(root, _IMAGES, _MASKS, notes)
    ]


def _suffixes(images: Path, masks: Path) -> dict[str, str]:
    """Returns what follows the name of an image in the name of its label map, unless it is ".png"."""
    files = find_images(str(masks), IMAGE_SUFFIXES)
    stems = {os.path.splitext(name)[0] for name in find_images(str(images), IMAGE_SUFFIXES)}
    fits = Counter(file[end:] for file in files for end in range(1, len(file)) if file[:end] in stems)
    if images == masks:
        fits = Counter({suffix: count for suffix, count in fits.items() if suffix[0] != "."})
    if fits:
        suffix = max(fits, key=lambda suffix: (fits[suffix], -len(suffix)))
        return {} if suffix == ".png" else {"seg_map_suffix": suffix}
    raise DataError(
        f"no label map in '{masks}' has the name of an image in '{images}'",
        notes=[f"The folder of label maps contains {list_names(files, 3) or 'no images'}."],
    )


# Detection


def _find_boxes(root: Path, stem: str) -> _Data:
    files = _below(root, "*.json")
    if found := [path for path in files if _is_coco(path)]:
        return _find_coco(root, found, stem)
    if any(root.rglob("*.txt")):
        return _find_yolo(root, stem)
    raise DataError(
        f"there are neither COCO files nor YOLO labels in '{root}'",
        notes=[
            "A COCO file is a .json file with the lists images, annotations and categories.",
            *([f"Export these annotations as COCO or YOLO: {list_names(files, 3)}."] if files else []),
        ],
    )


def _below(root: Path, pattern: str) -> list[Path]:
    """Returns the matching paths below a folder, without hidden ones and those that a Mac adds to archives."""
    paths = ((path, path.relative_to(root).parts) for path in sorted(root.rglob(pattern)))
    return [path for path, parts in paths if not any(part[0] == "." or part == "__MACOSX" for part in parts)]


def _roles(text: str) -> set[str]:
    return {_ROLES[word] for word in re.split(r"[^a-z]+", text.lower()) if word in _ROLES}


def _is_coco(path: Path) -> bool:
    content = load_data_file(str(path))
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def _find_coco(root: Path, found: list[Path], stem: str) -> _Data:
    by_role = defaultdict[str, list[Path]](list)
    for path in found:
        roles = next(filter(None, map(_roles, reversed(path.relative_to(root).parts[-2:]))), {""})
        by_role[min(roles, key=["train", "val", "test", ""].index)].append(path)
    training = next(by_role[role] for role in ("train", "", "val", "test") if by_role[role])
    validation = by_role["val"] or by_role["test"] or training
    for paths in (training, validation):
        if len(paths) > 1:
            raise DataError(
                f"several COCO files in '{root}' may describe the same images",
                found=[str(path) for path in paths],
                notes=["Leave one file for training and one for validation, with train and val in their names."],
            )
    train, val = training[0], validation[0]
    contents = dict[Path, dict[str, Any]]()
    for path in (train, val):
        findings = Findings(str(path))
        contents[path] = contents.get(path) or load_coco_file(findings)
        findings.report()
    content = contents[train]
    if not content["annotations"]:
        raise DataError(f"no image of '{train}' has an object")
    classes = [category["name"] for category in content["categories"]]
    sizes = [(int(image["width"]), int(image["height"])) for image in content["images"]]
    notes = [_NOTE_OF_TEST] if val != train and not by_role["val"] else []
    if unused := [str(path) for path in found if path not in contents]:
        notes.append(f"these COCO files are not used: {list_names(unused, 4)}")
    parts = [(path, *_find_listed(root, path, contents[path]["images"])) for path in (train, val)]
    if val == train:
        divided = _divide(parts[0][2], [0] * len(parts[0][2]))
        parts = [(train, parts[0][1], images) for images in divided]
        notes.append(_note_of_split([len(images) for images in divided]))
    both = [{folder / image["file_name"] for image in images} for _, folder, images in parts]
    if common := sorted(map(str, both[0] & both[1])):
        raise DataError(
            f"'{train}' and '{val}' list the same images",
            found=common[:3],
            notes=["Images to validate on need other names or a folder with val in its name."],
        )
    files, settings = dict[str, str](), list[dict[str, Any]]()
    for name, (path, folder, images) in zip(_SPLITS, parts, strict=True):
        file = _path(path)
        if images != contents[path]["images"]:
            file, ids = f"{stem}-{name}.json", {image["id"] for image in images}
            annotations = [each for each in contents[path]["annotations"] if each["image_id"] in ids]
            files[file] = json.dumps({**contents[path], "images": images, "annotations": annotations})
        settings.append({"type": "CocoDataset", "ann_file": file, "data_prefix": {"img": _path(folder)}})
    has_masks = any(each.get("segmentation") for each in content["annotations"])
    lengths = (len(parts[0][2]), len(parts[1][2]))
    return _Data(classes, settings[0], settings[1], lengths, sizes, files, notes, has_masks)


def _find_listed(root: Path, file: Path, images: list[dict[str, Any]]) -> tuple[Path, list[dict[str, Any]]]:
    """Returns the folder that contains the images of a COCO file, and the images with names relative to it.

    Raises:
        DataError: The images are in none of the folders below `root`, or in several.
    """
    names = [image["file_name"] for image in images]
    short = [re.split(r"[\\/]", name)[-1] for name in names]  # Label Studio writes paths on its server
    folders = [root, *(path for path in _below(root, "*") if path.is_dir())]
    roles = _roles("/".join(file.relative_to(root).parts[-2:]))
    own = file.stem.rpartition("_")[2]  # as CVAT names the folder
    for paths in (names, short):
        fits = dict[Path, tuple[bool, int, bool]]()
        for folder in folders:
            if hits := sum((folder / name).is_file() for name in paths[:_INSPECTED]):
                fits[folder] = (
                    bool(roles & _roles(str(folder.relative_to(root)))),
                    hits,
                    folder == file.parent or folder.name == own,
                )
        best = [folder for folder in fits if fits[folder] == max(fits.values())]
        if len(best) > 1:
            raise DataError(f"the images of '{file}' may be in several folders", found=[str(each) for each in best])
        if best:
            return best[0], [{**image, "file_name": path} for image, path in zip(images, paths, strict=True)]
    raise DataError(f"no image of '{file}' is in '{root}'", found=names[:3])


def _find_yolo(root: Path, stem: str) -> _Data:
    notes = list[str]()
    pairs = _places(root, _IMAGES, ("labels",), notes)
    places = [{"data_prefix": {"img": _path(image), "labels": _path(label)}} for image, label in pairs]
    classes = _names_in([root, *(Path(place["data_prefix"]["labels"]) for place in places)], notes)
    if not classes:
        raise DataError(
            f"the names of the classes of '{root}' are unknown",
            notes=[f"Write them to '{root / 'classes.txt'}', one per line, in the order of their indices."],
        )
    datasets = [
        DATASETS.build({"type": "YoloDataset", "pipeline": [], "metainfo": {"classes": classes}, **place})
        for place in places
    ]
    records = [datasets[0].get_data_info(index) for index in range(len(datasets[0]))]
    if not any(record["instances"] for record in records):
        raise DataError(
            f"no image in '{pairs[0][0]}' has an object",
            notes=[f"The labels of images/a/1.jpg are in labels/a/1.txt. The labels were read from '{pairs[0][1]}'."],
        )
    sizes = [(record["width"], record["height"]) for record in records]
    settings = [dict[str, Any](type="YoloDataset", **place) for place in places]
    return _parted(settings, [records, *datasets[1:]], classes, sizes, notes, stem)


# Configs


def _to_multiple(value: float) -> int:
    """Rounds to a multiple of 32 pixels."""
    return 32 * max(1, round(value / 32))


def _scale(data: _Data, longest: int) -> tuple[int, int]:
    """Returns the longer and the shorter side to resize images to: the median size, at most `longest`."""
    long, short = (median(map(side, data.sizes or [(longest, longest)])) for side in (max, min))
    factor = min(1.0, longest / long)
    return _to_multiple(long * factor), _to_multiple(short * factor)


def _epochs(data: _Data, batch_size: int, iterations: int) -> int:
    """Returns the number of epochs for about so many iterations, which ten intervals divide."""
    return min(100, max(20, 10 * round(iterations * batch_size / data.lengths[0] / 10)))


def _head(task: str, data: _Data, values: _Values, base: str) -> str:
    lines = [
        f'"""{task.capitalize()}, written by `footplate init {task}`."""',
        "",
        f"_base_ = {base!r}",
        "",
        "# Change these values to your needs.",
        _assignment("classes", data.classes),
        _assignment("train_data", data.train, pluralize(data.lengths[0], "image")),
        _assignment("val_data", data.val, pluralize(data.lengths[1], "image")),
        *(_assignment(*value) for value in values),
        "",
        "# What follows from them.\n",
    ]
    return "\n".join(lines)


def _assignment(name: str, value: Any, remark: str = "") -> str:
    """Returns the line that sets a variable, or several lines if it is long, after its remark."""
    remark = f"  # {remark}" if remark else ""
    text = f"{name} = {_code(value)}{remark}"
    if len(text) <= _WIDTH or isinstance(value, str):
        return text
    if isinstance(value, dict):
        items = (f"\n    {key}={_code(item)}" for key, item in value.items())
        return f"{name} = dict({remark}{','.join(items)})"
    lines = [""]
    for item in map(_code, value):
        if lines[-1] and len(lines[-1]) + len(item) > _WIDTH - 6:
            lines.append("")
        lines[-1] += f"{' ' if lines[-1] else '    '}{item},"
    return "\n".join([f"{name} = [{remark}", *lines])[:-1] + "]"


def _code(value: Any) -> str:
    if isinstance(value, dict):
        return f"dict({', '.join(f'{key}={_code(item)}' for key, item in value.items())})"
    return repr(value).replace("{{", r"{\x7b")  # no placeholder


def _batch_size(data: _Data, most: int) -> int:
    """Returns a power of 2: at most `most`, and at most an eighth of the images, so that an epoch has some steps."""
    return min(most, max(4, 1 << (data.lengths[0] // 8).bit_length() >> 1))


_REST = """\
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(**train_data, metainfo=dict(classes=classes), pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(**val_data, metainfo=dict(classes=classes), pipeline=val_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_epochs=epochs, val_interval=interval)
optim_wrapper = dict(optimizer=dict(lr=lr))
default_hooks = dict(checkpoint=dict(interval=interval))
"""


def _schedule(data: _Data, batch_size: int, iterations: int, lr: float) -> list[tuple[str, Any, str]]:
    epochs = _epochs(data, batch_size, iterations)
    return [
        ("batch_size", batch_size, ""),
        ("lr", lr, "the highest learning rate"),
        ("epochs", epochs, "the length of training"),
        ("interval", epochs // 10, "epochs between two validations"),
    ]


def _segmentation(data: _Data) -> tuple[_Values, str]:
    scale = _scale(data, 512)
    side = min(scale[1], 256)
    small = scale[0] <= _SMALL
    ratios = (0.75, 1.5) if small else (0.5, 2.0)
    values = [
        ("size", scale, "the longer and the shorter side that images are resized to"),
        ("crop", (side, side), "the part of an image that training sees at a time"),
        ("widths", (16, 32, 64, 128) if small else (32, 64, 128, 192), "the channels of the stages of the model"),
        *(
            _schedule(data, _batch_size(data, 16), 1000, 0.005)
            if small
            else _schedule(data, _batch_size(data, 8), 2000, 0.001)
        ),
    ]
    return (
        values,
        f"""\
        train_pipeline = [
            dict(type='LoadImageFromFile', channel_order='rgb'),
            dict(type='LoadAnnotations'),
            dict(type='RandomResize', scale=size, ratio_range={ratios}, keep_ratio=True),
            dict(type='RandomCrop', crop_size=crop, cat_max_ratio=0.75),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackSegInputs')]
        val_pipeline = [
            dict(type='LoadImageFromFile', channel_order='rgb'),
            dict(type='Resize', scale=size, keep_ratio=True),
            dict(type='LoadAnnotations'),  # after Resize: compared at the original size
            dict(type='PackSegInputs')]
        model = dict(
            num_classes=len(classes), widths=widths, data_preprocessor=dict(size=crop))
    """,
    )


def _detection(data: _Data) -> tuple[_Values, str]:
    values = [
        ("size", _scale(data, 640), "the longer and the shorter side that images are resized to"),
        *_schedule(data, _batch_size(data, 8), 4000, 0.001),
    ]
    return (
        values,
        """\
        train_pipeline = [
            dict(type='LoadImageFromFile', channel_order='rgb'),
            dict(type='LoadAnnotations'),
            dict(type='Resize', scale=size, keep_ratio=True),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs')]
        val_pipeline = [
            dict(type='LoadImageFromFile', channel_order='rgb'),
            dict(type='LoadAnnotations'),
            dict(type='Resize', scale=size, keep_ratio=True),
            dict(type='PackDetInputs')]
        model = dict(num_classes=len(classes))
    """,
    )


def _classification(data: _Data) -> tuple[_Values, str]:
    side = min(128, _scale(data, 10**6)[1])
    values = [
        ("size", side, "the height and width of the model's input"),
        *_schedule(data, _batch_size(data, 32), 2000, 0.002),
    ]
    return (
        values,
        """\
        train_pipeline = [
            dict(type='LoadImageFromFile', channel_order='rgb'),
            dict(type='RandomResizedCrop', scale=size, crop_ratio_range=(0.5, 1.0)),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackInputs')]
        val_pipeline = [
            dict(type='LoadImageFromFile', channel_order='rgb'),
            dict(type='ResizeEdge', scale=size * 9 // 8, edge='short'),
            dict(type='CenterCrop', crop_size=size),
            dict(type='PackInputs')]
        model = dict(
            head=dict(num_classes=len(classes)),
            data_preprocessor=dict(num_classes=len(classes)))
    """,
    )


def _published(task: str, base: str, data: _Data, *, from_scratch: bool) -> tuple[_Values, str]:
    """Returns the values and the rest of a config that trains the model of a published config on the data.

    Raises:
        ConfigError: The published config does not train and validate a model, or on several datasets.
        DataError: The model predicts masks, but the data have none.
    """
    cfg = Config.fromfile(base)
    weights = None if from_scratch else find_weights(base)
    if not from_scratch and weights is None:
        data.notes.append("no weights are published with this config, so only those of its backbone are loaded")
    for settings in (data.train, data.val):
        kind = settings.get("type") or ("CustomDataset" if task == "classification" else "BaseSegDataset")
        settings["type"] = f"footplate.{kind}"
    batch_size = _batch_size(data, 32 if task == "classification" else 8)
    try:
        lr, published = cfg.optim_wrapper.optimizer.lr, published_batch_size(cfg, base)
        if predicts_masks(cfg) and not data.has_masks:
            raise DataError(f"the model of '{base}' predicts masks, but the data have only boxes")
        unit = "epochs" if "max_epochs" in cfg.train_cfg else "iterations"
        length = _epochs(data, batch_size, 4000) if unit == "epochs" else 4000
        drops_weights = from_scratch or weights is not None
        rest = write_overrides(task, cfg, unit, drops_weights=drops_weights, from_scratch=from_scratch)
    except (AttributeError, KeyError) as error:
        raise ConfigError(f"'{base}' does not train and validate on one dataset each", notes=[str(error)]) from error
    values = [
        ("batch_size", batch_size, ""),
        ("lr", float(f"{lr * batch_size / published:.3g}"), f"published: {lr} for {published} images per step"),
        (unit, length, "the length of training"),
        ("interval", length // 10, f"{unit} between two validations"),
        *([("load_from", weights, "")] if weights else []),
    ]
    return values, rest


TASKS: dict[str, tuple[Callable[[Path, str], _Data], Callable[[_Data], tuple[_Values, str]]]] = {
    "classification": (_find_classes, _classification),
    "segmentation": (_find_masks, _segmentation),
    "detection": (_find_boxes, _detection),
}
"""For each task, what reads a folder, and what writes the config."""
