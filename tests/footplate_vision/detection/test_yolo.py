"""YOLO labels of any kind become exactly their boxes, or a finding with the file and the line."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.errors import DataError
from footplate_vision.detection import YoloDataset

_NUMBERS = "lines must contain numbers"
_COUNT = "lines must have 5 numbers (class, x, y, width, height), or a class and the corners of a polygon"
_CLASS = "classes must be integers from 0 to 2"
_INSIDE = "coordinates must be fractions of the size of the image, from 0 to 1"
_INVALID = {
    "0 0.5 0.5 0.2": _COUNT,
    "0 0.5 0.5 0.2 0.2 0.9": _COUNT,  # a confidence
    "0 0.1 0.1 0.2 0.1 0.2 0.2 0.3": _COUNT,
    "1": _COUNT,
    "0, 0.5, 0.5, 0.2, 0.2": _NUMBERS,
    "bolt 0.5 0.5 0.2 0.2": _NUMBERS,
    "nan 0.5 0.5 0.2 0.2": _CLASS,
    "0 0.5 nan 0.2 0.2": _INSIDE,
    "0 0.5 0.5 inf 0.2": _INSIDE,
    "3 0.5 0.5 0.2 0.2": _CLASS,
    "-1 0.5 0.5 0.2 0.2": _CLASS,
    "0.5 0.5 0.5 0.2 0.2": _CLASS,
    "0 32 24 12 8": _INSIDE,
    "0 0.5 0.5 -0.2 0.2": _INSIDE,
    "0 0.5 -0.5 0.2 0.2": _INSIDE,
    "0 0.1 0.1 0.2 0.1 1.2 0.2": _INSIDE,
}
_LEFT_OUT = {"0 0.5 0.5 0 0.2": "boxes without an area in the image are left out"}
_SUFFIXES = (".jpg", ".JPG", ".jpeg", ".png", ".webp", ".bmp")


def dataset(root: Path, **settings: Any) -> YoloDataset:
    folders = {"img": "images", "labels": "labels"}
    return YoloDataset(data_root=str(root), data_prefix=folders, metainfo={"classes": ["a", "b", "c"]}, **settings)


def write_image(path: Path, size: tuple[int, int], orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)


def write_labels(path: Path, lines: list[str], rng: np.random.Generator) -> None:
    """Writes lines as different editors do: with a byte order mark, CRLF, tabs, and with or without a last newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end, space = str(rng.choice(("\n", "\r\n"))), str(rng.choice((" ", "\t", "  ")))
    text = end.join(line.replace(" ", space) + " " * int(rng.integers(2)) for line in lines)
    path.write_bytes((text + end * int(rng.integers(3))).encode(str(rng.choice(("utf-8", "utf-8-sig")))))


def valid_line(rng: np.random.Generator, size: tuple[int, int]) -> tuple[str, int, Any, Any]:
    """Returns a line, its class, its box in pixels, and its polygon, if it has one."""
    label, (width, height) = int(rng.integers(3)), size
    box: Any
    mask: Any
    numbers: Any
    start = str(rng.choice((f"{label}", f"{label}.0", f"{label}e0")))
    if rng.random() < 0.7:
        x, y, w, h = (round(float(at), 6) for at in rng.uniform((0, 0, 0.05, 0.05), (1, 1, 1, 1)))
        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        mask, numbers = None, (x, y, w, h)
    else:
        points = rng.uniform(-0.005, 1.005, (int(rng.integers(3, 7)), 2)).round(6)  # annotation tools round
        box = [*points.min(0), *points.max(0)]
        mask, numbers = [(points.clip(0, 1) * size).ravel().tolist()], points.ravel().tolist()
    box = (np.clip(box, 0, 1) * [width, height, width, height]).tolist()
    return f"{start} {' '.join(f'{number:.6f}' for number in numbers)}", label, box, mask


def check_yolo(root: Path, seed: int, caplog: Any) -> None:
    rng = np.random.default_rng(seed)
    skips, names = bool(rng.random() < 0.5), []
    expected: list[Any] = []
    findings: list[tuple[str, str]] = []
    for number in range(int(rng.integers(1, 4))):
        name = f"{rng.choice(('', 'deep/er/'))}{rng.choice(('a', 'B b', 'c.d'))}{number}"
        orientation, shape = int(rng.integers(1, 9)), (int(rng.integers(8, 70)), int(rng.integers(8, 70)))
        path = root / "images" / (name + str(rng.choice(_SUFFIXES)))
        write_image(path, shape, orientation if path.suffix != ".bmp" else 1)
        size = shape[::-1] if orientation > 4 and path.suffix != ".bmp" else shape
        objects: list[Any] = []
        lines: list[str] = []
        is_valid = True
        for _ in range(int(rng.integers(0, 6))):
            kind = rng.random()
            where = f"{name}.txt:{len(lines) + 1}"
            if kind < 0.6:
                line, *found = valid_line(rng, size)
                objects.append(found)
            elif kind < 0.7 and objects:
                line = next(line for line in reversed(lines) if line.strip())
                if line not in _INVALID and line not in _LEFT_OUT:
                    findings.append(("repeated lines are left out", where))
            elif kind < 0.8:
                line = str(rng.choice(("", " ")))
            elif kind < 0.88:
                line = str(rng.choice(list(_LEFT_OUT)))
            else:
                line = str(rng.choice(list(_INVALID)))
            if line in _INVALID:
                is_valid = False
                problem = _INVALID[line]
                findings.append((problem, where))
            elif line in _LEFT_OUT:
                findings.append((_LEFT_OUT[line], where))
            lines.append(line)
        if lines or number == 0 or rng.random() < 0.5:
            write_labels(root / "labels" / f"{name}.txt", lines, rng)
        if is_valid:
            expected.append((str(path), size, objects))
        names.append(name)
    caplog.clear()
    stops = not skips and any(problem in _INVALID.values() for problem, _ in findings)
    text = ""
    if stops:
        with pytest.raises(DataError) as caught:
            dataset(root)
        text = str(caught.value)
    elif not expected:
        with pytest.raises(DataError, match="is empty"):
            dataset(root, on_error="skip")
    else:
        labels = dataset(root, on_error="skip" if skips else "stop")
        records = {record["img_path"]: record for record in map(labels.get_data_info, range(len(labels)))}
        assert len(records) == len(expected)
        for path, size, objects in expected:
            record = records[path]
            assert (record["width"], record["height"]) == size
            assert [each["bbox_label"] for each in record["instances"]] == [label for label, *_ in objects]
            for each, (_, box, mask) in zip(record["instances"], objects, strict=True):
                np.testing.assert_allclose(each["bbox"], box, atol=1e-9)
                assert ("mask" in each) == (mask is not None)
                if mask is not None:
                    np.testing.assert_allclose(each["mask"], mask, atol=1e-9)
    text += caplog.text
    for problem, _ in findings:
        assert problem in text, (problem, text)
        assert any(place in text for other, place in findings if other == problem), (findings, text)
    silent = ("These classes have no samples", "Without a label file")
    others = [each for each in caplog.records if each.levelno > logging.INFO and not each.message.startswith(silent)]
    assert bool(findings) == (bool(others) or stops)


def test_labels_are_exact_or_reported_with_file_and_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(60):
        check_yolo(tmp_path / str(seed), seed, caplog)


def test_images_and_label_files_without_a_partner_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a.jpg", "b.png", "b.tif", "c.png", "c.webp"):
        write_image(tmp_path / "images" / name, (8, 6))
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match="there are no label files in '.*labels'"):
        dataset(tmp_path)
    assert not any(record["instances"] for record in map(dataset(tmp_path, test_mode=True).get_data_info, range(5)))
    caplog.clear()
    for name in ("c", "d", "classes"):
        (tmp_path / f"labels/{name}.txt").write_text("0 0.5 0.5 0.5 0.5")
    counts = [len(record["instances"]) for record in map(dataset(tmp_path).get_data_info, range(5))]
    assert counts == [0, 0, 0, 1, 1]
    assert caplog.messages == [
        f"In '{tmp_path}/labels', images that differ only in their suffix have the same label file: b.tif and 1 more.",
        f"In '{tmp_path}/labels', label files have no image in '{tmp_path}/images': d.txt.",
        f"Without a label file, and so without objects: 3 of 5 images in '{tmp_path}/images'.",
        f"These classes have no samples in '{tmp_path}/labels': b, c.",
    ]


@pytest.mark.parametrize("content", [b"", b"no image", "Ä 0.5".encode("utf-16")])
def test_an_unreadable_file_is_an_error_or_leaves_out_its_image(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    for name in ("a", "b"):
        write_image(tmp_path / "images" / f"{name}.png", (8, 6))
        write_labels(tmp_path / "labels" / f"{name}.txt", ["0 0.5 0.5 0.5 0.5"], np.random.default_rng(0))
    file = "labels/b.txt" if content.startswith(b"\xff") else "images/b.png"
    (tmp_path / file).write_bytes(content)
    problem = "images or labels cannot be read"
    with pytest.raises(DataError, match=rf"in '{tmp_path}/labels', {problem}: b.png\n.*{tmp_path}/{file}'"):
        dataset(tmp_path, on_error="skip", test_mode=True)
    assert len(dataset(tmp_path, on_error="skip")) == 1
    assert f"In '{tmp_path}/labels', {problem}, so their images are skipped: b.png (the " in caplog.text


def test_class_names_are_required(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs the names of the classes"):
        YoloDataset(data_root=str(tmp_path))
