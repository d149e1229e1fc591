"""Generates COCO files as labelling tools write them, and files with one or two fields changed.

Imports nothing of footplate, so that other readers of COCO files can be given the same files.
"""

import copy
import random
from typing import Any

HEIGHT, WIDTH = 24, 32
_WRONG: tuple[Any, ...] = (
    None,
    "text",
    "1",
    "",
    -3,
    0,
    1,
    2,
    1.5,
    1e12,
    10**400,
    float("nan"),
    float("inf"),
    True,
    [],
    [1],
    {},
    [[1]],
)
_ABSENT = object()
SQUARE = [4, 4, 14, 4, 14, 14, 4, 14]


def compress(counts: list[int]) -> str:
    """Compresses run lengths as COCO does: differences from the second last, 5 bits for each character."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            is_last = value == (-1 if bits & 16 else 0)
            text += chr((bits if is_last else bits | 32) + 48)
            if is_last:
                break
    return text


def runs(left: int, top: int, width: int, height: int, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> list[int]:
    """Returns the run lengths of a rectangle, column by column."""
    first = left * shape[0] + top
    counts = [first, *[height, shape[0] - height] * (width - 1), height]
    return [*counts, shape[0] * shape[1] - sum(counts)]


def segmentations(rng: random.Random) -> list[Any]:
    """Returns segmentations of every kind, most of which are not valid."""
    right, other = runs(4, 4, 10, 10), runs(4, 4, 10, 10, (HEIGHT + 1, WIDTH))
    text = compress(right)
    place = rng.randrange(len(text))
    damaged = text[:place] + chr(rng.choice([0, 35, 48, 79, 80, 111, 112, 200, 0x4E00])) + text[place + 1 :]
    size = [HEIGHT, WIDTH]
    return [
        [SQUARE],
        [SQUARE, [20, 4, 30, 4, 30, 14]],
        [SQUARE, [1, 1, 2, 2]],
        [[value + 0.25 for value in SQUARE]],
        [[value + 100 for value in SQUARE]],
        SQUARE,
        [SQUARE[:-1]],
        [SQUARE[:4]],
        [SQUARE, SQUARE[:5]],
        [[SQUARE]],
        list(zip(SQUARE[::2], SQUARE[1::2], strict=True)),
        [[list(pair) for pair in zip(SQUARE[::2], SQUARE[1::2], strict=True)]],
        [{"x": 1, "y": 2}],
        [[*SQUARE[:-1], rng.choice(_WRONG)]],
        [rng.choice(_WRONG), SQUARE],
        {"size": size, "counts": right},
        {"size": size, "counts": text},
        {"size": size, "counts": damaged},
        {"size": size, "counts": text[:place]},
        {"size": size, "counts": [right[0] + 1, *right[1:]]},
        {"size": size, "counts": [-1, *right[1:]]},
        {"size": size, "counts": rng.choice(_WRONG)},
        {"size": [HEIGHT + 1, WIDTH], "counts": other},
        {"size": size[::-1], "counts": right},
        {"size": rng.choice(_WRONG), "counts": right},
        {"counts": text},
        *_WRONG,
    ]


def valid_file(rng: random.Random) -> dict[str, Any]:
    """Returns a valid COCO file with three images, the last one without annotations, and three categories."""
    ids = rng.sample(range(90), 3)
    images = [{"id": number, "file_name": f"{n}.png", "width": WIDTH, "height": HEIGHT} for n, number in enumerate(ids)]
    categories = [{"id": 3 * n + rng.choice([0, 1]), "name": name, "supercategory": ""} for n, name in enumerate("abc")]
    annotations = []
    for number in range(6):
        left, top = rng.randrange(20), rng.randrange(12)
        width, height = rng.randrange(2, 12), rng.randrange(2, 12)
        counts = runs(left, top, width, height)
        right, bottom = left + width, top + height
        polygon = [left, top, right, top, right, bottom, left, bottom]
        masks: list[Any] = [[], [polygon], {"size": [HEIGHT, WIDTH], "counts": counts}, None]
        masks += [{"size": [HEIGHT, WIDTH], "counts": compress(counts)}]
        annotations.append(
            {
                "id": number,
                "image_id": ids[number % 2],
                "category_id": categories[number % 3]["id"],
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
                "segmentation": rng.choice(masks),
            }
        )
    return {"images": images, "annotations": annotations, "categories": categories}


def changed_file(rng: random.Random) -> tuple[dict[str, Any], str]:
    """Returns a file in which one or two fields or entries are changed, and a description of the changes."""
    content, changes = valid_file(rng), []
    for _ in range(rng.choice([1, 1, 1, 2])):
        section = rng.choice(["images", "categories", *["annotations"] * 4])
        entries = content[section]
        kind = rng.choice([*["field"] * 8, "entry", "duplicate", "order", "section", "supercategory"])
        entry = rng.choice(entries) if isinstance(entries, list) and entries else None
        if kind == "field" and isinstance(entry, dict):
            key = rng.choice(
                [*entry, "ignore", *(["segmentation", "segmentation", "bbox"] if section == "annotations" else [])]
            )
            value = rng.choice([*_WRONG, _ABSENT, 1e3, 2.0])
            if key == "segmentation" and rng.random() < 0.9:
                value = rng.choice(segmentations(rng))
            if key == "bbox" and rng.random() < 0.6:
                value = [rng.choice([*_WRONG, 3, 5, 9, 40, -4, 0.5]) if rng.random() < 0.4 else 5 for _ in range(4)]
            if value is _ABSENT:
                entry.pop(key, None)
            else:
                entry[key] = value
            changes.append(f"{section}.{key}={'absent' if value is _ABSENT else repr(value)[:60]}")
        elif kind == "entry" and isinstance(entries, list):
            entries.insert(0, rng.choice(_WRONG))
            changes.append(f"an entry of {section}: {entries[0]!r:.40}")
        elif kind == "duplicate" and isinstance(entry, dict):
            entries.append(copy.deepcopy(entry))
            changes.append(f"{section}: an entry twice")
        elif kind == "order" and isinstance(entries, list):
            rng.shuffle(entries)
            changes.append(f"{section}: another order")
        elif kind == "section":
            content[section] = rng.choice(_WRONG)
            changes.append(f"{section}={content[section]!r:.40}")
        elif kind == "supercategory":
            root = {
                "id": rng.choice([50, 0]),
                "name": rng.choice(["a", "root", "_background_"]),
                "supercategory": "none",
            }
            if isinstance(content["categories"], list):
                for category in content["categories"]:
                    if isinstance(category, dict):
                        category["supercategory"] = root["name"]
                content["categories"].insert(0, root)
                changes.append(f"the root {root}")
    return content, "; ".join(changes)


def exports() -> dict[str, dict[str, Any]]:
    """Returns files as five tools write them: two images with a box of "bolt" and one of "nut"."""

    def images(start: int, folder: str = "", **more: Any) -> list[dict[str, Any]]:
        files = [f"{folder}{n}.png" for n in range(2)]
        return [
            {"id": n + start, "file_name": file, "width": WIDTH, "height": HEIGHT, **more}
            for n, file in enumerate(files)
        ]

    def annotations(start: int, category: int, segmentation: Any, **more: Any) -> list[dict[str, Any]]:
        common = {"bbox": [4.0, 4.0, 10.0, 10.0], "area": 100.0, "iscrowd": 0, "segmentation": segmentation, **more}
        return [{"id": n + start, "image_id": n + start, "category_id": n + category, **common} for n in range(2)]

    def categories(start: int, parent: Any) -> list[dict[str, Any]]:
        return [{"id": n + start, "name": name, "supercategory": parent} for n, name in enumerate(("bolt", "nut"))]

    info = {"year": 2026, "version": "1.0", "description": "", "contributor": "", "url": "", "date_created": ""}
    licenses = [{"id": 0, "name": "", "url": ""}]
    cvat: dict[str, Any] = {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
    roboflow: dict[str, Any] = {"license": 1, "date_captured": "2026-11-30T00:00:00+00:00"}
    return {
        "CVAT": {
            "licenses": licenses,
            "info": info,
            "categories": categories(1, ""),
            "images": images(1, **cvat),
            "annotations": annotations(1, 1, [], attributes={"occluded": False, "rotation": 0.0}),
        },
        "Label Studio": {
            "images": images(0),
            "categories": [{"id": n, "name": name} for n, name in enumerate(("bolt", "nut"))],
            "annotations": annotations(0, 0, [], ignore=0),
            "info": info,
        },
        "LabelMe": {
            "info": info,
            "licenses": [{"url": None, "id": 0, "name": None}],
            "images": images(0, license=0, url=None, date_captured="2026-11-30 12:00:00.000000"),
            "type": "instances",
            "annotations": annotations(0, 1, [[float(value) for value in SQUARE]]),
            "categories": [{"supercategory": None, "id": 0, "name": "_background_"}, *categories(1, None)],
        },
        "Roboflow": {
            "info": info,
            "licenses": licenses,
            "categories": [{"id": 0, "name": "parts", "supercategory": "none"}, *categories(1, "parts")],
            "images": images(0, **roboflow),
            "annotations": annotations(0, 1, []),
        },
        "Roboflow, where the project has the name of a class": {
            "info": info,
            "licenses": licenses,
            "categories": [{"id": 0, "name": "bolt", "supercategory": "none"}, *categories(1, "bolt")],
            "images": images(0, **roboflow),
            "annotations": annotations(0, 1, []),
        },
        "VGG Image Annotator": {
            "info": info,
            "images": images(1, license=0, flickr_url="", coco_url="", date_captured=""),
            "annotations": [{**each, "image_id": str(each["image_id"])} for each in annotations(1, 1, SQUARE)],
            "licenses": licenses,
            "categories": categories(1, "type"),
        },
    }
