"""Predicts on images, folders and videos.

Writes a JSON line per image, and images with the predictions drawn on them.
"""

import contextlib
import glob
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from footplate.errors import ArgumentError, DataError
from footplate.storage import missing_path_notes
from footplate.tools.json_values import as_json
from footplate.visualization import as_array, skipping_failed_image
from footplate_vision.detection.coco_format import encode_mask
from footplate_vision.detection.data import above_score
from footplate_vision.inference.predictor import DEFAULT_SCORE, Predictor, in_chunks, restored_image
from footplate_vision.inference.tiling import TiledMasks
from footplate_vision.inference.trained_model import Pixels
from footplate_vision.visualization import unique_name

LINES, FEATURES = "predictions.jsonl", "features.npy"
_PARTIAL = f"{LINES}.partial"
_PICTURES, _LABELS = "pictures", "labels"
_IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
_VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_TOP = 5  # the number of classes to list for a classified image without a minimum score
_MAX_DRAWN = 2**27  # pixels of an image that is drawn
_DIGITS = 6
_plain = partial(as_json, digits=_DIGITS)
_KNOWN_FIELDS = {"pred_sem_seg", "pred_instances", "pred_score", "pred_label", "seg_logits"}
_COLUMNS = {"bboxes": "box", "scores": "score", "labels": "label"}  # of instances
_COMPLETE = 0.9  # the minimum fraction of the declared frames in a complete video
_NamedPath = tuple[str, str]  # a unique name for output files, and the path of the input


class ImageFile(NamedTuple):
    """An image file, or a frame of a video file.

    Attributes:
        name: A unique name for output files, without a suffix. It may contain folders.
        path: The path of the file.
        frame: The index of the frame, or None for an image file.
        pixels: The frame as a uint8 RGB array ``(H, W, 3)``. None for an image file, which is read later.
    """

    name: str
    path: str
    frame: int | None = None
    pixels: Pixels | None = None

    @property
    def image(self) -> str | Pixels:
        """The path of the image file, or the pixels of the frame."""
        return self.path if self.pixels is None else self.pixels


class Failure(NamedTuple):
    """An input that could not be read or preprocessed, with its error message."""

    input: str
    error: str


class Summary(NamedTuple):
    """The result of `predict_files`."""

    images: int  # the number of images
    seconds: float  # the time for all images
    path: str  # the file with the predictions
    failures: Sequence[Failure] = ()  # the inputs that could not be read
    instances: int | None = None  # the number that reach the minimum score; None if the model predicts no instances
    replaces: bool = False  # whether the folder contained the predictions of an earlier call


def predict_files(
    predictor: Predictor, paths: Sequence[str], out: str, *, score: float | None = None, draw: bool = True
) -> Summary:
    """Predicts on images, folders, patterns and videos, and writes the results to a folder.

    The folder contains `predictions.jsonl`, the drawn images in `pictures` and, for segmentation, the predicted label
    maps in `labels`. Feature vectors are written to `features.npy` instead, one row for each line. The lines are first
    written to `predictions.jsonl.partial`, which replaces `predictions.jsonl` at the end. Inputs that cannot be read
    are skipped and listed in the result. If a prediction cannot be drawn, its line does not contain the key `picture`.
    For models that only compute features, nothing is drawn.

    Args:
        predictor: The predictor.
        paths: The paths of images, folders and videos, and patterns such as `images/*.png`.
        out: The folder to write to.
        score: The minimum score for instances and classes. By default, instances with a score of at least 0.3 and the
            five most probable classes are listed.
        draw: Whether to write images with the predictions drawn on them.

    Raises:
        ArgumentError: A path matches no images or videos, or the output folder contains `pictures`, `labels` or
            `features.npy` but no predictions.
        DataError: None of the images and videos can be read.
        MissingExtraError: There are masks but neither faster-coco-eval nor pycocotools is installed.
    """
    written = [os.path.join(out, name) for name in (_PICTURES, _LABELS, FEATURES)]
    path, unfinished = os.path.join(out, LINES), os.path.join(out, _PARTIAL)
    if not os.path.exists(path) and not os.path.exists(unfinished):  # an earlier prediction did not write these folders
        for other in filter(os.path.exists, written):
            raise ArgumentError(f"predictions might overwrite '{other}'", notes=["Choose another output folder."])
    replaces = os.path.exists(path)
    files = find_files(paths, skipped=written)
    begin, count = time.perf_counter(), 0
    failures: list[Failure] = []
    features: list[NDArray[Any]] = []
    instances: int | None = None
    os.makedirs(out, exist_ok=True)
    with open(unfinished, "w", encoding="utf-8") as lines:
        predicted = track(
            _predicted(predictor, files, failures),
            "predict",
            total=None if any(is_video(file) for _, file in files) else len(files),
            console=Console(stderr=True),
            transient=True,
            disable=predictor.tile is not None or not sys.stderr.isatty(),
        )
        for source, prediction in predicted:
            line = describe_prediction(prediction, predictor.metainfo, score=score)
            if "instances" in line:
                instances = (instances or 0) + len(line["instances"])
            if "labels" in line:
                line["labels"] = _save_image(out, f"{_LABELS}/{source.name}.png", line["labels"])
            vector: Any = line.get("features")
            if np.ndim(vector) == 1:
                features.append(as_array(prediction.features))
                del line["features"]
            is_small = line.get("height", 0) * line.get("width", 0) <= _MAX_DRAWN
            if draw and is_small and (vector is None or line.keys() - {"height", "width"}):
                drawn = None
                with skipping_failed_image(source.name):
                    drawn = predictor.draw(source.image, prediction, score=DEFAULT_SCORE if score is None else score)
                if drawn is not None:
                    line = {"picture": _save_image(out, f"{_PICTURES}/{source.name}.png", drawn), **line}
            frame = {} if source.frame is None else {"frame": source.frame}
            lines.write(json.dumps({"input": source.path, **frame, **line}) + "\n")
            count += 1
    if not count:
        os.unlink(unfinished)
        if len(failures) == 1:
            raise DataError(failures[0].error)
        raise DataError(f"prediction failed for all {len(failures)} inputs", notes=[each.error for each in failures])
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(out, FEATURES))  # of an earlier prediction
    if features:
        np.save(os.path.join(out, FEATURES), np.stack(features))
    os.replace(unfinished, path)
    return Summary(count, time.perf_counter() - begin, path, failures, instances, replaces)


def _save_image(out: str, name: str, pixels: NDArray[Any]) -> str:
    """Writes a PNG file to `out` quickly: with little compression and without fsync, since it can be recreated.

    Returns `name`, the path relative to `out`.
    """
    path = os.path.join(out, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)
    return name


def describe_prediction(prediction: Any, metainfo: Mapping[str, Any], *, score: float | None = None) -> dict[str, Any]:
    """Converts a prediction to a dict of JSON-serializable values, except for a label map: `labels` is an array.

    Args:
        prediction: A data element of any task, a tensor, or a dict or a list of these.
        metainfo: A dict with the class names as `classes`.
        score: The minimum score for instances and classes; see `predict_files`.

    Raises:
        MissingExtraError: There are masks but neither faster-coco-eval nor pycocotools is installed.
    """
    if not hasattr(prediction, "metainfo"):
        return {"prediction": _plain(prediction)}
    classes = metainfo.get("classes") or ()
    line: dict[str, Any] = {}
    if "ori_shape" in prediction:
        line["height"], line["width"] = map(int, prediction.get("ori_shape")[:2])
    if "pred_sem_seg" in prediction:
        labels = as_array(prediction.get("pred_sem_seg").data)
        labels = labels[0] if labels.ndim == 3 else labels
        # Row by row, because counting all pixels of a large image at once takes many times its memory.
        totals = Counter[int]()
        for row in labels:
            totals.update(dict(zip(*map(np.ndarray.tolist, np.unique(row, return_counts=True)), strict=True)))
        values, counts = (np.array(column) for column in (sorted(totals), [totals[value] for value in sorted(totals)]))
        order = np.argsort(-counts, kind="stable")  # the fractions of pixels, largest first
        shares = {_name(int(values[at]), classes): round(int(counts[at]) / labels.size, _DIGITS) for at in order}
        line |= {
            "classes": shares,
            "labels": labels.astype(np.uint8 if values.max(initial=0) < 256 else np.uint16, copy=False),
        }
    if "pred_instances" in prediction:
        instances = above_score(prediction, DEFAULT_SCORE if score is None else score).pred_instances
        columns: dict[str, Any] = {
            _COLUMNS.get(key, key): as_array(value) for key, value in instances.items() if key != "masks"
        }
        if "label" in columns:
            columns["class"] = [_name(int(label), classes) for label in columns["label"]]
        if "masks" in instances:
            masks = instances.masks if isinstance(instances.masks, TiledMasks) else as_array(instances.masks)
            columns["segmentation"] = [encode_mask(masks[index]) for index in range(len(masks))]
        line["instances"] = [
            {key: _plain(column[row]) for key, column in columns.items()} for row in range(len(instances))
        ]
    if "pred_score" in prediction:
        scores = as_array(prediction.get("pred_score"))
        order = np.argsort(-scores, kind="stable")[: _TOP if score is None else None]
        label = int(order[0])
        top = {_name(int(at), classes): _plain(scores[at]) for at in order if score is None or scores[at] >= score}
        line |= {"label": label, "class": _name(label, classes), "score": _plain(scores[label]), "scores": top}
    known = _KNOWN_FIELDS if restored_image(prediction) is None else {*_KNOWN_FIELDS, "input", "output"}
    for key in sorted(set(prediction.keys()) - known):
        if not key.startswith(("gt_", "ignored_")):
            line[key] = _plain(prediction.get(key))
    return line


def _predicted(
    predictor: Predictor, files: Sequence[_NamedPath], failures: list[Failure]
) -> Iterator[tuple[ImageFile, Any]]:
    """Yields each image with its prediction. Appends images that cannot be read to `failures`."""

    def samples() -> Iterator[tuple[ImageFile, Any]]:
        for index, source in enumerate(read_files(files, failures)):
            try:
                yield source, predictor.preprocess(source.image, index)
            except DataError as error:
                failures.append(Failure(source.path, str(error)))

    if predictor.tile is not None:
        for source in read_files(files, failures):
            shown = partial(
                track,
                description=source.name,
                console=Console(stderr=True),
                transient=True,
                disable=not sys.stderr.isatty(),
            )
            try:
                yield source, predictor.predict_tiles(source.image, shown)
            except DataError as error:
                failures.append(Failure(source.path, str(error)))
        return
    for batch in in_chunks(samples(), predictor.batch_size):
        sources, inputs = zip(*batch, strict=True)
        yield from zip(sources, predictor.predict_batch(inputs), strict=True)


def _name(label: int, classes: Sequence[Any]) -> str:
    """Returns the name of a class. If several classes have this name, appends the label, as in "crane (134)"."""
    if not 0 <= label < len(classes):
        return f"class {label}"
    return f"{classes[label]} ({label})" if classes.count(classes[label]) > 1 else str(classes[label])


def find_files(paths: Iterable[str], *, skipped: Iterable[str] = ()) -> list[_NamedPath]:
    """Returns a unique name and the path for each image and video that matches `paths`.

    Args:
        paths: Files, folders (searched at any depth) and patterns such as `images/*.png`.
        skipped: The output folders, whose files are ignored.

    Raises:
        ArgumentError: A path does not exist, a folder contains no images or videos, or a pattern matches no files.
    """
    found: list[_NamedPath] = []
    outputs = {os.path.realpath(folder) for folder in skipped}
    for path in paths:
        if os.path.isdir(path):
            matches = [(os.path.relpath(file, path), file) for file in _walk(path, outputs)]
            problem = f"the folder '{path}' contains no images or videos"
        else:
            files = [path] if os.path.isfile(path) else sorted(glob.glob(path, recursive=True))
            files = [file for file in files if file == path or not _is_inside(file, outputs)]
            matches = [(os.path.basename(file), file) for file in files if os.path.isfile(file)]
            problem = f"no file matches '{path}'" if glob.has_magic(path) else f"the file '{path}' does not exist"
        if not matches:
            raise ArgumentError(problem, notes=missing_path_notes(path))
        found += matches
    folders = dict.fromkeys(os.path.dirname(name) for name, _ in found)  # the frames of a video get their own folder
    names: dict[str, str] = {}
    for name, path in found:
        taken = {**names, **folders} if is_video(path) else names
        names[unique_name(os.path.splitext(name)[0], taken)] = path
    return list(names.items())


def read_files(files: Sequence[_NamedPath], failures: list[Failure]) -> Iterator[ImageFile]:
    """Yields images and the frames of videos. Appends videos that cannot be read to `failures`."""
    for name, path in files:
        if not is_video(path):
            yield ImageFile(name, path)
            continue
        try:
            for index, pixels in enumerate(_frames(path)):
                yield ImageFile(f"{name}/{index:06d}", path, index, pixels)
        except DataError as error:
            failures.append(Failure(path, str(error)))


def _frames(path: str) -> Iterator[Pixels]:
    """Yields the frames of a video.

    Raises:
        DataError: OpenCV can decode no frames, or far fewer than the video declares.
    """
    video, count = cv2.VideoCapture(path), 0
    try:
        declared = video.get(cv2.CAP_PROP_FRAME_COUNT)  # an estimate for some formats, and 0 or less if unknown
        while (frame := video.read()[1]) is not None:
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
    if not count:
        raise DataError(f"OpenCV cannot decode any frame of the video '{path}'")
    if count < _COMPLETE * declared:
        raise DataError(f"the video '{path}' ends early: OpenCV can decode only {count} of {declared:.0f} frames")


def is_video(path: str) -> bool:
    """Checks whether a path has the suffix of a video file."""
    return path.lower().endswith(_VIDEOS)


def _is_inside(path: str, folders: Collection[str]) -> bool:
    """Checks whether a path is in one of the `folders` (canonical paths), or is one of them."""
    resolved = os.path.realpath(path) + os.sep
    return any(resolved.startswith(os.path.join(folder, "")) for folder in folders)


def _walk(folder: str, outputs: Collection[str]) -> Iterator[str]:
    """Yields the images and videos in a folder and in linked folders, each once.

    Does not follow links to a parent folder, because they lead out of the input.
    """
    visited = set[str]()  # canonical paths
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        leads_up = parent != folder and _is_inside(os.path.dirname(parent), [real])
        if real in visited or leads_up or _is_inside(parent, outputs):
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.lower().endswith((*_IMAGES, *_VIDEOS)) and not name.startswith("."):
                yield os.path.join(parent, name)
