"""Finds the pictures and videos that match the paths on a command line, and reads them one by one."""

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from typing import NamedTuple

from footplate.data.transforms import LoadImageFromFile
from footplate.errors import ArgumentError, DataError, import_optional
from footplate.inference.preprocessing import Pixels
from footplate.storage import missing_path_notes

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
_COMPLETE = 0.9  # the minimum fraction of the declared frames in a complete video
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_import_cv2 = partial(import_optional, "cv2", extra="video", why="reading videos")


class ImageFile(NamedTuple):
    """A picture file, or a frame of a video file.

    Attributes:
        name: A unique name for output files, without a suffix. It may contain folders.
        path: The path of the file.
        frame: The index of the frame, or None for a picture.
        pixels: The frame as a uint8 RGB array ``(H, W, 3)``. None for a picture, because its file is read later.
    """

    name: str
    path: str
    frame: int | None = None
    pixels: Pixels | None = None

    @property
    def image(self) -> str | Pixels:
        """The path of the picture, or the pixels of the frame."""
        return self.path if self.pixels is None else self.pixels


class Failure(NamedTuple):
    """An input that could not be read, with its error message."""

    input: str
    error: str


def find_files(paths: Iterable[str], *, skipped: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Returns the name and the path of each picture and video that matches the paths.

    Args:
        paths: Files, folders (searched at any depth) and patterns such as `images/*.png`.
        skipped: Folders whose files are ignored, because the predictions are written to them.

    Raises:
        ArgumentError: A path does not exist or is in a skipped folder, a pattern matches nothing, or a folder contains
            no pictures.
    """
    found: list[tuple[str, str]] = []
    skipped = {os.path.realpath(each) for each in skipped}
    for path in paths:
        if _is_inside(path, skipped):
            raise ArgumentError(
                f"the input '{path}' is in a folder to which predictions are written",
                notes=["Choose another output folder."],
            )
        if os.path.isdir(path):
            inside = [(os.path.relpath(each, path), each) for each in _walk(path, skipped)]
            if not inside:
                notes = [f"Pictures and videos are files that end in {', '.join((*PICTURES, *VIDEOS))}."]
                raise ArgumentError(f"the folder '{path}' contains no pictures", notes=notes)
            found += inside
        elif os.path.isfile(path):
            found.append((os.path.basename(path), path))
        elif glob.has_magic(path):
            matching = [
                each
                for each in sorted(glob.glob(path, recursive=True))
                if os.path.isfile(each) and not _is_inside(each, skipped)
            ]
            if not matching:
                raise ArgumentError(f"no file matches '{path}'")
            found += [(os.path.basename(each), each) for each in matching]
        else:
            raise ArgumentError(f"the file '{path}' does not exist", notes=missing_path_notes(path))
    stems = [os.path.splitext(name)[0] for name, _ in found]
    folders = {os.path.dirname(stem) for stem in stems}  # the frames of a video get their own folder
    names: set[str] = set()
    unique: list[tuple[str, str]] = []
    for stem, (_, path) in zip(stems, found, strict=True):
        taken = names | folders if is_video(path) else names
        name = next(each for each in chain([stem], (f"{stem}_{number}" for number in count(2))) if each not in taken)
        names.add(name)
        unique.append((name, path))
    return unique


def read_files(files: Sequence[tuple[str, str]], failures: list[Failure]) -> Iterator[ImageFile]:
    """Yields pictures and the frames of videos. Appends videos that cannot be read to `failures`.

    Raises:
        MissingExtraError: There is a video, and OpenCV is not installed.
    """
    if any(is_video(path) for _, path in files):
        _import_cv2()  # before the first image is read
    for name, path in files:
        if not is_video(path):
            yield ImageFile(name, path)
            continue
        try:
            for index, pixels in enumerate(_frames(path)):
                yield ImageFile(f"{name}/{index:06d}", path, index, pixels)
        except DataError as error:
            failures.append(Failure(path, str(error)))


def load_rgb(path: str) -> Pixels:
    """Returns the pixels of a picture for drawing, as a uint8 RGB array ``(H, W, 3)``."""
    loader = LoadImageFromFile(channel_order="rgb")
    pixels: Pixels = loader({"img_path": path})["img"]
    return pixels


def _frames(path: str) -> Iterator[Pixels]:
    """Yields the frames of a video.

    Raises:
        DataError: The video has no frames that OpenCV can decode, or far fewer than it declares.
    """
    cv2 = _import_cv2()
    video, number = cv2.VideoCapture(path), 0
    try:
        declared = video.get(cv2.CAP_PROP_FRAME_COUNT)  # an estimate for some formats, and 0 or less if unknown
        while (found := video.read())[0]:
            number += 1
            yield cv2.cvtColor(found[1], cv2.COLOR_BGR2RGB)
        if not number:
            raise DataError(f"the video '{path}' cannot be read, because OpenCV cannot decode any frame")
        if number < _COMPLETE * declared:
            raise DataError(f"the video '{path}' ends early: OpenCV can decode only {number} of {declared:.0f} frames")
    finally:
        video.release()


def is_video(path: str) -> bool:
    """Checks whether a path has the suffix of a video file."""
    return path.lower().endswith(VIDEOS)


def _is_inside(path: str, folders: Collection[str]) -> bool:
    """Checks whether a path is one of the given canonical folders or inside one of them."""
    resolved = os.path.realpath(path)
    return any(resolved == each or resolved.startswith(each + os.sep) for each in folders)


def _walk(folder: str, skipped: Collection[str]) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(
            each for each in folders if not each.startswith(".") and not _is_inside(f"{parent}/{each}", skipped)
        )
        for name in sorted(names):
            if name.lower().endswith((*PICTURES, *VIDEOS)) and not name.startswith("."):
                yield os.path.join(parent, name)
