"""Images in class folders get exactly their labels, or a warning or an error names the folders and files."""

import logging
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from footplate.errors import DataError
from footplate_vision.classification.data import CustomDataset

_NAMES = ("stop sign", "Yield", "no-entry", "Äpfel", "10", "2", "dog_house 2", "dog_house 10", "x-ray", "Ⅳ", "straße")
_SUFFIXES = (".jpg", ".JPG", ".Jpeg", ".png", ".tiff", ".webp")
_OTHERS = (".gif", ".heic", ".jfif", ".npy", "")
_SILENT = (".txt", ".json", ".db")  # documents and files of the system


def varied(name: str, rng: np.random.Generator) -> str:
    """Returns a class name as people write it as the name of a folder."""
    name = "".join(str(rng.choice(("_", "-", " ", ""))) if letter in "_- " else letter for letter in name)
    name = str(rng.choice((name, name.upper(), name.lower())))
    return unicodedata.normalize("NFC" if rng.random() < 0.5 else "NFD", name)


def write_images(folder: Path, rng: np.random.Generator) -> tuple[list[Path], list[Path]]:
    """Writes files to a class folder and its subfolders. Returns the images and the other files."""
    images: list[Path] = []
    others: list[Path] = []
    for number in range(int(rng.integers(1, 4))):
        place = folder / str(rng.choice(("", "deep", "deep/er")))
        place.mkdir(parents=True, exist_ok=True)
        suffix = str(rng.choice(_SUFFIXES if rng.random() < 0.7 else _OTHERS + _SILENT))
        path = place / f"{number}{suffix}"
        path.touch()
        (place / f".hidden{number}.jpg").touch()
        if suffix in _SUFFIXES:
            images.append(path)
        elif suffix not in _SILENT:
            others.append(path)
    return images, others


def check_folders(root: Path, seed: int, caplog: Any) -> None:
    rng = np.random.default_rng(seed)
    classes = [str(name) for name in rng.choice(_NAMES, int(rng.integers(2, 6)), replace=False)]
    kind = str(rng.choice(("equal", "varied", "no classes", "extra", "missing", "renamed", "ambiguous", "unequal")))
    folders = {name if kind in ("equal", "no classes") else varied(name, rng): name for name in classes}
    if kind == "extra":
        folders["unknown"] = ""
    elif kind == "missing":
        folders.pop(next(iter(folders)))
    elif kind == "renamed":
        folders = {f"n{rng.integers(1000)}": name for name in classes}
    elif kind == "ambiguous":
        folders["Stop_Sign"] = folders["STOP-SIGN"] = "stop sign"
    elif kind == "unequal":
        folders |= {"n1": "", "n2": ""}
        folders.pop(next(iter(folders)))
    expected: dict[Path, str] = {}
    others: list[Path] = []
    for folder, name in folders.items():
        images, left_out = write_images(root / folder, rng)
        expected |= dict.fromkeys(images, name)
        others += left_out
    links: list[Path] = []
    for _ in range(int(rng.integers(3))):
        link = root / str(rng.choice(["", *folders])) / f"link{len(links)}"
        link.symlink_to(rng.choice((str(root), str(link.parent), "..", ".")))
        links.append(link)
    if rng.random() < 0.3:
        (root / "loose.png").touch()
    caplog.clear()
    error = None
    try:
        found = CustomDataset(data_prefix=str(root), classes=None if kind == "no classes" else classes)
    except DataError as caught:
        error = caught
    if error is not None:
        is_empty = not any(expected.values())
        assert kind in ("ambiguous", "unequal", "renamed") or is_empty or len(folders) < len(classes), (kind, error)
        return
    assert kind != "unequal"
    assert kind != "no classes" or found.metainfo["classes"] == tuple(sorted(folders))
    records = [found.get_data_info(index) for index in range(len(found))]
    text = "\n".join(record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING)
    labels = {Path(record["img_path"]): found.metainfo["classes"][record["gt_label"]] for record in records}
    assert len(labels) == len(records)
    ignored = text.partition("that are not classes: ")[2].partition("\n")[0].split(", ")
    assert labels.keys() == {path for path in expected if path.relative_to(root).parts[0] not in ignored}
    for path, name in labels.items():
        folder = path.relative_to(root).parts[0]
        assert name == expected[path] or f"'{folder}' is '{name}'" in text, (kind, path, name, text)
    if kind in ("equal", "varied", "extra", "missing", "no classes"):
        assert all(name == expected[path] for path, name in labels.items())
        assert "are classes in their order" not in text
    assert set(ignored) <= {"", "unknown", "Stop_Sign", "STOP-SIGN"}
    others = [path for path in others if path.relative_to(root).parts[0] not in ignored]
    for suffix, count in Counter(path.suffix for path in others).items():
        more = f" and {count - 1} more" if count > 1 else ""
        names = [str(path.relative_to(root)) for path in others if path.suffix == suffix]
        problem = f"that end in '{suffix}' are left out" if suffix else "without a suffix are left out"
        assert any(f"{problem}: {name}{more}." in text for name in names), text
    if (root / "loose.png").exists():
        assert "images that are in no class folder are left out: loose.png." in text
    places = [str(link.relative_to(root)) for link in links if link.parent.name not in ignored]
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    assert ("contains them" in text) == bool(places)
    assert not places or any(f"contains them are left out: {place}{more}." in text for place in places)


def test_labels_are_exact_or_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(80):
        folder = tmp_path / str(seed)
        folder.mkdir()
        check_folders(folder, seed, caplog)
