"""`footplate init` writes configs that train on the folders of users and labelling tools."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from footplate.config import Config
from footplate.data.transforms import LoadAnnotations
from footplate.engine import Runner
from tests.docs.pages import blocks_of
from tests.footplate.cli.conftest import Command
from tests.footplate_vision.guides import ONE_EPOCH, guide, trained

LABELS = np.kron(np.arange(4).reshape(2, 2) % 3, np.ones((24, 32))).astype(np.uint8)  # (48, 64)
BOX = [8, 12, 24, 24]


def _image(path: Path, number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 60, (48, 64, 3)) + 60 * LABELS[..., None]
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _class_folders(root: Path, *splits: str) -> None:
    for split in splits or ("",):
        for number in range(12):
            _image(root / split / ("stop sign", "Give_way")[number % 2] / f"IMG {number}.JPG", number)


def _masks(
    root: Path, images: str, masks: str, suffix: str = ".png", values: np.ndarray = LABELS, first: int = 0
) -> None:
    for number in range(first, first + 10):
        _image(root / images / f"{number}.jpg", number)
        path = root / masks / f"{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)


def _coco(root: Path, images: str, file: str, prefix: str = "", id_of: Callable[[int], object] = int) -> None:
    entries, boxes = [], []
    for number in range(10):
        _image(root / images / f"{number}.jpg", number)
        entries.append({"id": number, "file_name": f"{prefix}{number}.jpg", "width": 64, "height": 48})
        boxes.append(
            {"id": number, "image_id": id_of(number), "category_id": 1 + number % 2, "bbox": BOX, "iscrowd": 0}
        )
    roots = [{"id": number, "name": name, "supercategory": "parts"} for number, name in ((1, "bolt"), (2, "nut"))]
    categories = [{"id": 0, "name": "parts", "supercategory": "none"}, *roots]  # as Roboflow writes them
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": entries, "annotations": boxes, "categories": categories}))


def _yolo(root: Path, images: str, labels: str) -> None:
    for number in range(10):
        _image(root / images / f"{number}.jpg", number)
        path = root / labels / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number % 2} 0.3 0.5 0.4 0.5\n")


def _made(*parts: Callable[[Path], None]) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for part in parts:
            part(root)

    return make


def _names(file: str, text: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        (root / file).write_text(text)

    return make


def _parts(make: Callable[[Path, str], None], *names: str) -> list[Callable[[Path], None]]:
    return [partial(_part, make, name) for name in names]


def _part(make: Callable[[Path, str], None], name: str, root: Path) -> None:
    make(root, name)


def _mac(root: Path) -> None:
    (root / "__MACOSX" / "cat").mkdir(parents=True)
    (root / "__MACOSX" / "cat" / "0.jpg").write_bytes(b"x")


FOLDERS: dict[str, tuple[str, Callable[[Path], None], tuple[int, int]]] = {
    "class folders": ("classification", _class_folders, (10, 2)),
    "divided class folders": ("classification", lambda root: _class_folders(root, "train", "valid"), (12, 12)),
    "class folders and those of a Mac": ("classification", _made(_class_folders, _mac), (10, 2)),
    "masks with a suffix": ("segmentation", lambda root: _masks(root, "images", "masks", "_mask.png"), (8, 2)),
    "masks beside the images": ("segmentation", lambda root: _masks(root, ".", ".", "_seg.png"), (8, 2)),
    "divided masks": (
        "segmentation",
        _made(*_parts(lambda root, s: _masks(root, f"JPEGImages/{s}", f"labels/{s}"), "train", "val")),
        (10, 10),
    ),
    "masks below the parts": (
        "segmentation",
        _made(*_parts(lambda root, s: _masks(root, f"{s}/img", f"{s}/mask"), "train", "test")),
        (10, 10),
    ),
    "masks of images with numbers of different length": (
        "segmentation",
        lambda root: _masks(root, "images", "masks", "_mask.png", first=1),
        (8, 2),
    ),
    "Roboflow": (
        "detection",
        _made(*_parts(lambda root, s: _coco(root, s, f"{s}/_annotations.coco.json"), "train", "valid")),
        (10, 10),
    ),
    "COCO files of equal names": (
        "detection",
        _made(*_parts(lambda root, s: _coco(root, f"images/{s}", f"annotations/instances_{s}.json"), "train", "val")),
        (10, 10),
    ),
    "COCO file of valves and a hidden one": (
        "detection",
        _made(
            lambda root: _coco(root, "images", "pumps/valves.json"),
            lambda root: _coco(root, "images", ".ipynb_checkpoints/train.json"),
            lambda root: _coco(root, "images", "__MACOSX/val.json"),
        ),
        (8, 2),
    ),
    "masks of two of three parts": (
        "segmentation",
        _made(
            *_parts(lambda root, s: _masks(root, f"images/{s}", f"masks/{s}"), "train", "test"),
            lambda root: _image(root / "images/val/0.jpg"),
        ),
        (10, 10),
    ),
    "CVAT": ("detection", lambda root: _coco(root, "images/default", "annotations/instances_default.json"), (8, 2)),
    "VGG Image Annotator": ("detection", lambda root: _coco(root, ".", "via_coco.json", id_of=str), (8, 2)),
    "Label Studio": ("detection", lambda root: _coco(root, "images", "result.json", "images/"), (8, 2)),
    "Label Studio with paths of its server": (
        "detection",
        lambda root: _coco(root, "images", "result.json", "../../label-studio/data/media/upload/1/"),
        (8, 2),
    ),
    "Label Studio on Windows, divided": (
        "detection",
        _made(*_parts(lambda root, s: _coco(root, f"{s}/images", f"{s}/result.json", "images\\"), "train", "val")),
        (10, 10),
    ),
    "YOLO of Roboflow": (
        "detection",
        _made(
            *_parts(lambda root, s: _yolo(root, f"{s}/images", f"{s}/labels"), "train", "valid"),
            _names("data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['bolt', 'nut']"),
        ),
        (10, 10),
    ),
    "YOLO of CVAT": (
        "detection",
        _made(
            lambda root: _yolo(root, "obj_train_data", "obj_train_data"),
            _names("obj.names", "bolt\nnut\n"),
            _names("train.txt", "data/obj_train_data/0.jpg\n"),
            _names("obj.data", "classes = 2\n"),
        ),
        (8, 2),
    ),
    "YOLO": (
        "detection",
        _made(
            *_parts(lambda root, s: _yolo(root, f"images/{s}", f"labels/{s}"), "train", "val"),
            _names("data.yaml", "names: {1: nut, 0: bolt}"),
        ),
        (10, 10),
    ),
    "YOLO in one folder": (
        "detection",
        _made(lambda root: _yolo(root, ".", "."), _names("classes.txt", "bolt\nnut")),
        (8, 2),
    ),
}
CLASSES = {"classification": ["Give_way", "stop sign"], "segmentation": ["class 0", "class 1", "class 2"]}


@pytest.mark.parametrize("name", FOLDERS)
def test_config_reads_the_images_and_classes_of_a_folder(current_folder: Path, footplate: Command, name: str) -> None:
    task, make, lengths = FOLDERS[name]
    make(current_folder / "data")
    code, said, _ = footplate("init", task, "data")
    assert code == 0
    assert f"images      {lengths[0]} to train on, {lengths[1]} to validate on\n" in said
    runner = Runner.from_cfg(Config.fromfile(f"my_{task}.py"), work_dir="out")
    datasets: list[Any] = [runner.train_dataloader.dataset, runner.val_dataloader.dataset]
    assert tuple(map(len, datasets)) == lengths
    assert {tuple(dataset.metainfo["classes"]) for dataset in datasets} == {tuple(CLASSES.get(task, ["bolt", "nut"]))}
    paths = [{each["img_path"] for each in map(dataset.get_data_info, range(len(dataset)))} for dataset in datasets]
    assert not paths[0] & paths[1]
    if task == "detection":
        assert all(dataset.get_data_info(0)["instances"] for dataset in datasets)


@pytest.mark.parametrize("name", ["class folders", "masks with a suffix", "CVAT", "YOLO in one folder"])
def test_written_config_trains(current_folder: Path, footplate: Command, name: str) -> None:
    task, make, _ = FOLDERS[name]
    make(current_folder / "data")
    footplate("init", task, "data", "-o", "a.py")
    runner = trained("a.py", ONE_EPOCH)
    assert runner.iter == len(runner.train_dataloader)
    assert list(Path("out").glob("best_*"))


@pytest.mark.parametrize(
    ("values", "names", "classes", "codes"),
    [
        ((LABELS > 0).astype(np.uint8) * 255, "", ["background", "foreground"], [0, 255]),
        ((LABELS > 0).astype(np.uint8) * 255, "crack", ["background", "crack"], [0, 255]),
        ((LABELS > 0).astype(np.uint8) * 255, "skin\ncrack", ["skin", "crack"], [0, 255]),
        ((LABELS > 0).astype(np.uint8) * 128, "", ["value 0", "value 128"], [0, 128]),
        (np.where(np.arange(64) < 4, 255, LABELS * 100).astype(np.uint8), "a\nb\nc", ["a", "b", "c"], [0, 100, 200]),
    ],
)
def test_values_of_label_maps_that_are_no_indices_are_written_into_the_config(
    current_folder: Path, footplate: Command, values: np.ndarray, names: str, classes: list[str], codes: list[int]
) -> None:
    root = current_folder / "data"
    _masks(root, "images", "masks", values=values)
    if names:
        (root / "classes.txt").write_text(names)
    code, said, _ = footplate("init", "segmentation", "data", "-o", "a.py")
    meaning = ", ".join(f"{value} is {name}" for value, name in zip(codes, classes, strict=True))
    assert code == 0
    assert meaning in said.replace("\n            ", " ")
    assert ("value 255 are ignored" in said) == (255 in values and 255 not in codes)
    runner = trained("a.py", ONE_EPOCH)
    dataset = runner.train_dataloader.dataset
    assert dataset.metainfo["classes"] == classes
    record = dataset.get_data_info(0)
    truth = LoadAnnotations(with_seg=True)(record)["gt_seg_map"]
    expected = np.full(values.shape, 255)
    for index, value in enumerate(codes):
        expected[values == value] = index
    np.testing.assert_array_equal(truth, expected)


@pytest.mark.parametrize(
    ("task", "make"),
    [
        ("detection", lambda root: _yolo(root, "images", "labels")),
        ("segmentation", lambda root: _masks(root, "images", "masks")),
    ],
)
def test_names_that_change_their_order_after_init_are_reported(
    current_folder: Path, footplate: Command, caplog: pytest.LogCaptureFixture, task: str, make: Callable[[Path], None]
) -> None:
    make(current_folder / "data")
    names = current_folder / "data" / "classes.txt"
    names.write_text("bolt\nnut\nscrew")
    footplate("init", task, "data", "-o", "a.py")
    names.write_text("nut\nbolt\nscrew\nwasher")
    trained("a.py", ONE_EPOCH)
    expected = "Classes of the config have other indices in 'data/classes.txt': bolt is 0, there 1, nut is 1, there 0."
    assert expected in caplog.text


def _copies(content: bytes, folder: str, first: int, count: int, suffix: str) -> None:
    Path(folder).mkdir(parents=True)
    for number in range(first, first + count):
        Path(folder, f"{number:04d}.{suffix}").write_bytes(content)


def _encoded(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def _example_of_segmentation() -> None:
    image, labels = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.uint8)
    labels[:20, :30] = np.repeat([0, 1, 2], 10)
    labels[-1] = 255
    for split, first, count in (("train", 1, 160), ("val", 161, 40)):
        _copies(_encoded(image), f"data/images/{split}", first, count, "jpg")
        _copies(_encoded(labels), f"data/masks/{split}", first, count, "png")
    Path("data/classes.txt").write_text("road\ncar\ntree\n")


def _example_of_detection() -> None:
    categories = [{"id": number, "name": name} for number, name in ((1, "bolt"), (2, "nut"))]
    Path("data/annotations").mkdir(parents=True)
    for split, first, count in (("train", 1, 160), ("val", 161, 40)):
        _copies(_encoded(np.zeros((600, 800), np.uint8)), f"data/{split}", first, count, "jpg")
        images = [
            {"id": number, "file_name": f"{number:04d}.jpg", "width": 800, "height": 600}
            for number in range(first, first + count)
        ]
        boxes = [{"image_id": image["id"], "category_id": 1, "bbox": BOX, "iscrowd": 0} for image in images]
        content = {"images": images, "annotations": boxes, "categories": categories}
        Path(f"data/annotations/{split}.json").write_text(json.dumps(content))


def _example_of_classification() -> None:
    image = _encoded(np.zeros((64, 80), np.uint8))
    for name, first, train, last, val in (
        ("boot", 1, 600, 814, 60),
        ("sandal", 601, 300, 901, 30),
        ("sneaker", 901, 100, 1001, 10),
    ):
        _copies(image, f"data/train/{name}", first, train, "jpg")
        _copies(image, f"data/val/{name}", last, val, "jpg")


@pytest.mark.parametrize(
    ("task", "make"),
    [
        ("segmentation", _example_of_segmentation),
        ("detection", _example_of_detection),
        ("classification", _example_of_classification),
    ],
)
def test_page_shows_what_the_command_prints_and_writes(
    current_folder: Path, footplate: Command, task: str, make: Callable[[], None]
) -> None:
    make()
    _, said, _ = footplate("init", task, "data")
    blocks = blocks_of(guide(task))
    assert said in [block.text for block in blocks]
    (shown,) = [block.text for block in blocks if block.title == f"my_{task}.py"]
    assert Path(f"my_{task}.py").read_text() == shown


@pytest.mark.parametrize(
    ("task", "make", "message"),
    [
        ("detection", lambda root: _yolo(root, "images", "labels"), "the names of the classes of 'data' are unknown"),
        ("detection", _class_folders, "there are neither COCO files nor YOLO labels in 'data'"),
        (
            "detection",
            _made(_class_folders, _names("a.json", '{"shapes": []}')),
            "Export these annotations as COCO or YOLO: data/a.json.",
        ),
        (
            "detection",
            _made(lambda root: _coco(root, "images", "val.json", "a"), _names("train.json", '{"images": [] "a": 1}')),
            "the annotation file 'data/train.json' cannot be parsed: Expecting ',' delimiter: line 1 column 15",
        ),
        (
            "segmentation",
            lambda root: _masks(
                root, "images", "masks", values=(np.arange(LABELS.size).reshape(LABELS.shape) % 85 * 3).astype("u1")
            ),
            "most values up to 252 are not in the label maps",
        ),
        (
            "segmentation",
            _made(lambda root: _masks(root, "images", "masks"), _names("classes.txt", "bolt\nnut")),
            "the label maps contain class 2, but only 2 classes are named",
        ),
        ("detection", lambda root: _coco(root, "images", "a.json", "b"), "no image of 'data/a.json' is in 'data'"),
        ("segmentation", lambda root: _masks(root, "images", "masks/of"), "no label map in 'data/masks'"),
        ("segmentation", _class_folders, "no label map in 'data'"),
        (
            "detection",
            _made(lambda root: _yolo(root, "images", "labels"), _names("data.yaml", "names: {1: bolt, 2: nut}")),
            "'names' in 'data/data.yaml' must be a list, or a dict with the keys 0, 1, 2, ...",
        ),
        (
            "detection",
            _made(*_parts(lambda root, s: _coco(root, "images", f"{s}.json"), "train", "val")),
            "'data/train.json' and 'data/val.json' list the same images",
        ),
        (
            "detection",
            _made(*_parts(lambda root, s: _coco(root, "images", f"{s}.json"), "part1", "part2")),
            "several COCO files in 'data' may describe the same images",
        ),
        (
            "detection",
            _made(*_parts(lambda root, s: _coco(root, f"images/{s}", "a.json"), "x", "y")),
            "the images of 'data/a.json' may be in several folders",
        ),
        (
            "detection",
            _made(lambda root: _yolo(root, "ds/images/train", "ds/labels/train"), _names("classes.txt", "bolt\nnut")),
            "no image in 'data' has an object",
        ),
        (
            "segmentation",
            lambda root: _masks(root, "images", "masks", values=LABELS * 0),
            "the label maps contain only 0, so no image has an object",
        ),
        ("classification", lambda root: _class_folders(root, "x"), "'data' has a single class folder"),
        ("classification", lambda root: _class_folders(root, "ds/train", "ds/val"), "such as 'data/ds'"),
        (
            "classification",
            lambda root: _masks(root, "images", "masks"),
            "the folders of 'data' seem to contain images and their labels: images, masks",
        ),
        (
            "classification",
            lambda root: _yolo(root, "images/train", "labels/train"),
            "Call `footplate init detection data` or `footplate init segmentation data`",
        ),
        (
            "classification",
            lambda root: _class_folders(root, "train", "more"),
            "class folders of 'data' are no classes",
        ),
        ("poses", _class_folders, "TASK must be"),
        ("classification", lambda root: None, "there is no folder 'data'"),
    ],
)
def test_what_a_folder_lacks_is_said(
    current_folder: Path, footplate: Command, task: str, make: Callable[[Path], None], message: str
) -> None:
    make(current_folder / "data")
    code, _, errors = footplate("init", task, "data")
    assert code == 2
    assert message in errors
    assert not list(current_folder.glob("*.py"))


def test_different_names_of_the_classes_are_noted(current_folder: Path, footplate: Command) -> None:
    _yolo(current_folder / "data", "images", "labels")
    Path("data/data.yaml").write_text("names: [bolt, nut]")
    Path("data/labels/classes.txt").write_text("nut\nbolt\n")
    _, said, _ = footplate("init", "detection", "data")
    assert "the classes are those of 'data/data.yaml'; 'data/labels/classes.txt' has others: nut, bolt\n" in said
    assert Config.fromfile("my_detection.py").classes == ["bolt", "nut"]


def test_existing_file_is_kept(current_folder: Path, footplate: Command) -> None:
    _class_folders(current_folder / "data")
    Path("my_classification.py").write_text("mine")
    code, _, errors = footplate("init", "classification", "data")
    assert (code, "the file 'my_classification.py' exists" in errors) == (2, True)
    assert Path("my_classification.py").read_text() == "mine"
    assert not list(current_folder.glob("*.txt"))


@pytest.mark.parametrize(
    ("file", "text", "names"),
    [
        ("classes.txt", "\ufeff#1: a\nb:c\n", ["#1: a", "b:c"]),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbolt:1,2,3::\nnut:::\n", ["bolt", "nut"]),
        ("classes.txt", "\n".join([f"traffic-light of kind-{n}" for n in range(30)] + ["x " * 60 + "x"]), None),
        ("classes.txt", '{{ fileDirname }}\n{{$HOME:x}}\n{{{ _base_.model }}}\n\'"""+print(1)+"""\\U', None),
    ],
)
@pytest.mark.parametrize("folder", ["data", '"""+print(1)+"""\'\\Users{{$HOME}}'])
def test_names_are_written_as_they_are(
    current_folder: Path, footplate: Command, folder: str, file: str, text: str, names: list[str] | None
) -> None:
    _yolo(current_folder / folder, "images/'\\N{{ fileDirname }}", "labels/'\\N{{ fileDirname }}")
    Path(folder, file).write_text(text, "utf-8")
    assert footplate("init", "detection", folder)[0] == 0
    assert max(map(len, Path("my_detection.py").read_text().splitlines())) <= 130
    cfg = Config.fromfile("my_detection.py")
    assert cfg.classes == (names or text.splitlines())
    assert cfg.train_data.data_prefix.img == f"{folder}/images"


@pytest.mark.parametrize(
    ("task", "make"),
    [
        ("classification", lambda root: _class_folders(root, "train", "test")),
        ("segmentation", FOLDERS["masks below the parts"][1]),
        ("detection", _made(*_parts(lambda root, s: _coco(root, s, f"{s}/a.json"), "train", "test"))),
    ],
)
def test_test_data_that_validate_are_noted(
    current_folder: Path, footplate: Command, task: str, make: Callable[[Path], None]
) -> None:
    make(current_folder / "data")
    note = "note        there are no validation data, so the test data are used to validate on\n"
    assert note in footplate("init", task, "data")[1]


def test_unnamed_classes_are_those_of_all_label_maps(current_folder: Path, footplate: Command) -> None:
    for split in ("train", "val"):
        _masks(current_folder / "data", f"images/{split}", f"masks/{split}")
    Image.fromarray(LABELS + 1).save("data/masks/val/9.png")
    _, said, _ = footplate("init", "segmentation", "data")
    assert "classes     4: class 0, class 1, class 2, class 3\n" in said


DETECTOR = """
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackDetInputs')]
stage2 = [dict(type='LoadImageFromFile')]
model = dict(
    type='Net',
    backbone=dict(type='Own', frozen_stages=1, init_cfg=dict(type='Pretrained', checkpoint='https://a.org/own.pth')),
    rpn_head=dict(num_classes=1),
    bbox_head=[dict(type='Head', num_classes=80), dict(type='Head', num_classes=80)],
    panoptic_head=dict(num_things_classes=80, loss_cls=dict(class_weight=[1.0] * 80 + [0.1])))
data = dict(type='Coco', data_root='data/coco/', ann_file='a.json', pipeline=train_pipeline)
train_dataloader = dict(batch_size=32, num_workers=10, dataset=dict(type='Mix', dataset=data))
val_dataloader = dict(batch_size=5, num_workers=10, dataset=dict(**data, test_mode=True))
test_dataloader = val_dataloader
val_evaluator = dict(type='Metric', metric='bbox', ann_file='data/coco/a.json', proposal_nums=(1, 10))
test_evaluator = val_evaluator
train_cfg = dict(max_epochs=300, val_interval=10, dynamic_intervals=[(280, 1)])
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.004))
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, begin=0, end=1000),
    dict(type='CosineAnnealingLR', eta_min=0.0002, begin=150, end=300, T_max=150),
    dict(type='MultiStepLR', milestones=[240, 270], end=300)]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=10))
custom_hooks = [dict(type='EMAHook'), dict(type='PipelineSwitchHook', switch_epoch=280, switch_pipeline=stage2)]
"""
SEGMENTOR = """
pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True)]
head = dict(num_classes=150, loss_decode=dict(class_weight=[1.0] * 150))
model = dict(pretrained='https://a.org/own.pth', decode_head=head, auxiliary_head=[head])
train_dataloader = dict(batch_size=2, dataset=dict(type='ADE', data_root='data/ade', pipeline=pipeline))
val_dataloader = train_dataloader
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric')
test_evaluator = val_evaluator
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.00006))
param_scheduler = [
    dict(type='LinearLR', by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', by_epoch=False, begin=1500, end=160000)]
"""
METAFILE = """
Models:
  - {Name: other, Config: configs/net/other_det_8xb32.py, Weights: https://a.org/other.pth}
  - {Name: det, Config: configs/net/det_8xb32.py, Weights: https://a.org/det.pth}
"""


@pytest.fixture
def code_base(current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with published configs."""
    folder = current_folder / "packages/fp_net/.mim/configs/net"
    folder.mkdir(parents=True)
    (current_folder / "packages/fp_net/__init__.py").touch()
    (folder / "det_8xb32.py").write_text(DETECTOR)
    (folder / "masks.py").write_text(DETECTOR.replace("metric='bbox'", "metric=['bbox', 'segm']"))
    (folder / "two.py").write_text(DETECTOR.replace("dict(type='Mix', dataset=data)", "dict(datasets=[data, data])"))
    (folder / "seg_8xb2.py").write_text(SEGMENTOR)
    (folder / "metafile.yml").write_text(METAFILE)
    monkeypatch.syspath_prepend(str(current_folder / "packages"))


@pytest.mark.usefixtures("code_base")
def test_published_detector_is_adapted_to_the_data(current_folder: Path, footplate: Command) -> None:
    _coco(current_folder / "data", "images", "all.json")
    assert footplate("init", "detection", "data", "--from", "fp_net::net/det_8xb32.py")[0] == 0
    cfg = Config.fromfile("my_detection.py").to_dict()
    assert cfg["load_from"] == "https://a.org/det.pth"
    model = cfg["model"]
    assert model["panoptic_head"] == {"num_things_classes": 2, "loss_cls": {"class_weight": [1.0, 1.0, 0.1]}}
    assert (model["backbone"]["init_cfg"], model["backbone"]["frozen_stages"]) == (None, 1)
    assert [head["num_classes"] for head in (model["rpn_head"], *model["bbox_head"])] == [1, 2, 2]
    train, val = cfg["train_dataloader"], cfg["val_dataloader"]
    assert (train["batch_size"], val["batch_size"]) == (4, 5)
    assert train["dataset"]["type"] == "Mix"
    assert [each["type"] for each in train["dataset"]["dataset"].pop("pipeline")][2] == "PackDetInputs"
    assert train["dataset"]["dataset"] == {
        "type": "footplate.CocoDataset",
        "ann_file": "my_detection-train.json",
        "data_prefix": {"img": "data/images"},
        "metainfo": {"classes": ["bolt", "nut"]},
    }
    assert val["dataset"]["test_mode"]
    assert cfg["test_dataloader"]["dataset"]["ann_file"] == "my_detection-val.json"
    assert cfg["test_evaluator"] == {"type": "footplate.CocoMetric", "classwise": True}
    assert cfg["optim_wrapper"]["optimizer"]["lr"] == 0.004 * 4 / 256
    assert cfg["train_cfg"] == {"max_epochs": 100, "val_interval": 10, "dynamic_intervals": None}
    warm_up, cosine, steps = cfg["param_scheduler"]
    assert warm_up["end"] == 100
    assert {key: cosine[key] for key in ("begin", "end", "T_max")} == {"begin": 50, "end": 100, "T_max": 50}
    assert cosine["eta_min"] == pytest.approx(0.004 * 4 / 256 / 20)
    assert (steps["milestones"], steps["end"]) == ([80, 90], 100)
    assert cfg["custom_hooks"][1]["switch_epoch"] == 93
    assert cfg["custom_hooks"][1]["switch_pipeline"][0]["type"] == "LoadImageFromFile"


@pytest.mark.usefixtures("code_base")
def test_published_segmentor_is_adapted_to_the_data(current_folder: Path, footplate: Command) -> None:
    _masks(current_folder / "data", "images", "masks")
    words = ["init", "segmentation", "data", "--from", "fp_net::net/seg_8xb2.py"]
    _, said, _ = footplate(*words)
    assert "no weights are published with this config" in said
    assert Config.fromfile("my_segmentation.py").model.pretrained == "https://a.org/own.pth"
    assert footplate(*words, "--from-scratch", "-o", "a.py")[0] == 0
    cfg = Config.fromfile("a.py").to_dict()
    model = cfg["model"]
    assert model["pretrained"] is None
    assert [head["num_classes"] for head in (model["decode_head"], *model["auxiliary_head"])] == [3, 3]
    assert not cfg["val_dataloader"]["dataset"]["pipeline"][1]["reduce_zero_label"]
    assert cfg["train_cfg"]["max_iters"] == 4000
    assert [part["end"] for part in cfg["param_scheduler"]] == [400, 4000]
    assert cfg["param_scheduler"][1]["begin"] == 400


@pytest.mark.usefixtures("code_base")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("masks.py", "predicts masks, but the data have only boxes"),
        ("two.py", "does not train and validate on one dataset each"),
        ("none.py", "the package 'fp_net' has no config 'net/none.py'"),
    ],
)
def test_published_config_that_does_not_fit_is_reported(
    current_folder: Path, footplate: Command, name: str, message: str
) -> None:
    _coco(current_folder / "data", "images", "all.json")
    code, _, errors = footplate("init", "detection", "data", "--from", f"fp_net::net/{name}")
    assert code == 2
    assert message in errors
    assert not list(current_folder.glob("*.py"))
