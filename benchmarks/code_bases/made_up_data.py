"""Made-up data in the layouts that code bases read, and the transforms of the driver."""

import json
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

# The parts of a whole body in COCO-WholeBody, with the indices of their keypoints.
WHOLE_BODY = (
    ("foot_kpts", 17, 23),
    ("face_kpts", 23, 91),
    ("lefthand_kpts", 91, 112),
    ("righthand_kpts", 112, 133),
    ("keypoints", 0, 17),
)


def write_scenes(root: Path, number: int = 8) -> None:
    """Writes images of 96x96 pixels with three rectangles of four classes each, in the layouts of all code bases."""
    rng = np.random.default_rng(0)
    for name in ("ade/images/training", "ade/annotations/training", "coco/training"):
        (root / name).mkdir(parents=True)
    found: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
    found["categories"] = [{"id": k, "name": f"c{k}"} for k in range(1, 5)]
    for index in range(number):
        image, mask = rng.integers(0, 60, (96, 96, 3)).astype(np.uint8), np.zeros((96, 96), np.uint8)
        name = f"{index:03}.png"
        found["images"].append({"id": index, "file_name": name, "width": 96, "height": 96})
        for _ in range(3):
            (width, height), kind = rng.integers(20, 45, 2).tolist(), int(rng.integers(1, 5))
            x, y = int(rng.integers(0, 96 - width)), int(rng.integers(0, 96 - height))
            image[y : y + height, x : x + width] = (40 * kind, 255 - 45 * kind, 90 + 30 * (kind % 3))
            mask[y : y + height, x : x + width] = kind
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            found["annotations"].append(
                {"id": len(found["annotations"]) + 1, "image_id": index, "category_id": kind, "iscrowd": 0}
                | {"bbox": [x, y, width, height], "area": width * height, "segmentation": [corners]}
            )
        folder = root / "folders" / "training" / f"c{index % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        for path in (root / "ade/images/training" / name, root / "coco/training" / name, folder / name):
            Image.fromarray(image).save(path)
        Image.fromarray(mask).save(root / "ade/annotations/training" / name)
    (root / "coco" / "training.json").write_text(json.dumps(found))


def made_up_proposals(data: Path) -> None:
    """Writes 20 proposals for each image of the training set, near its boxes."""
    found = json.loads((data / "coco" / "training.json").read_text())
    several = []
    for image in found["images"]:
        boxes = np.array([each["bbox"] for each in found["annotations"] if each["image_id"] == image["id"]], float)
        boxes[:, 2:] += boxes[:, :2]
        near = np.resize(boxes, (20, 4)) + np.random.default_rng(0).normal(0, 2, (20, 4))
        several.append(np.concatenate([near, np.ones((20, 1))], 1).astype(np.float32))
    (data / "coco" / "proposals.pkl").write_bytes(pickle.dumps(several))


def made_up_track(data: Path) -> None:
    """Writes the images of the training set as four videos of two frames."""
    found = json.loads((data / "coco" / "training.json").read_text())
    found["videos"] = [{"id": k, "name": f"v{k}"} for k in range(1, 5)]
    found["categories"] = found["categories"][:4]
    found["annotations"] = []
    for index, image in enumerate(found["images"]):
        image.update(video_id=1 + index // 2, frame_id=index % 2)
        for k in range(3):
            x, y, side = 10 + 2 * (index % 2) + 20 * k, 30 - 5 * k, 30
            corners = [x, y, x + side, y, x + side, y + side, x, y + side]
            found["annotations"].append(
                {
                    "id": 3 * index + k + 1,
                    "image_id": image["id"],
                    "video_id": image["video_id"],
                    "category_id": 1,
                    "instance_id": k + 1,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                    "segmentation": [corners],
                }
            )
    (data / "coco" / "track.json").write_text(json.dumps(found))


def made_up_oriented_boxes(data: Path) -> None:
    """Writes the boxes of the training set in the layout of DOTA, each turned by ten degrees or more."""
    folder = data / "coco" / "oriented"
    folder.mkdir(exist_ok=True)
    found = json.loads((data / "coco" / "training.json").read_text())
    lines: dict[str, list[str]] = {image["file_name"]: [] for image in found["images"]}
    for each in found["annotations"]:
        corners, angle = np.array(each["segmentation"][0], float).reshape(4, 2), np.deg2rad(10 + each["id"])
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = (corners - corners.mean(0)) @ turn + corners.mean(0)
        numbers = " ".join(f"{value:.1f}" for value in corners.ravel())
        lines[found["images"][each["image_id"]]["file_name"]].append(f"{numbers} c{each['category_id']} 0\n")
    for name, texts in lines.items():
        (folder / Path(name).with_suffix(".txt")).write_text("".join(texts))


def made_up_texts(data: Path) -> None:
    """Writes the boxes of the training set as texts, as single words and as receipts, in the layouts of MMOCR."""
    found = json.loads((data / "coco" / "training.json").read_text())
    texts: list[dict[str, Any]] = []
    receipts = []
    for image in found["images"]:
        instances, boxes = [], []
        for each in found["annotations"]:
            if each["image_id"] == image["id"]:
                x, y, width, height = each["bbox"]
                own, corners = {"text": f"word{each['id']}"}, each["segmentation"][0]
                boxes.append({"box": corners, "label": each["category_id"], **own})
                box = [x, y, x + width, y + height]
                instances.append({"polygon": corners, "bbox": box, "bbox_label": 0, "ignore": False, **own})
        size = {"height": image["height"], "width": image["width"]}
        texts.append({"img_path": image["file_name"], **size, "instances": instances})
        receipts.append({"file_name": image["file_name"], **size, "annotations": boxes})
    words = [{**each, "instances": each["instances"][:1]} for each in texts]
    for name, several in (("texts", texts), ("words", words)):
        meta = {"dataset_type": "TextDetDataset", "task_name": "textdet", "category": [{"id": 0, "name": "text"}]}
        (data / "coco" / f"{name}.json").write_text(json.dumps({"metainfo": meta, "data_list": several}))
    (data / "coco" / "receipts.txt").write_text("\n".join(json.dumps(each) for each in receipts))
    (data / "coco" / "receipt_classes.txt").write_text("\n".join(f"{k} c{k}" for k in range(26)))


def small_bert(data: Path) -> str:
    """Writes a BERT of one layer with a vocabulary of characters; returns its folder."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = data / "bert"
    if not folder.exists():
        folder.mkdir()
        characters = "abcdefghijklmnopqrstuvwxyz0123456789.?,"
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{each}" for each in characters)]
        (folder / "vocab.txt").write_text("\n".join(words))
        BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
        BertModel(BertConfig(vocab_size=len(words), num_hidden_layers=1)).save_pretrained(folder)
    return str(folder)


def made_up_motion(path: Path, frames: int = 500) -> None:
    """Writes two sequences of poses in the layout of Human3.6M."""
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 1, (frames, 17, 4)).cumsum(0).astype(np.float32)
    half = frames // 2
    np.savez(
        path,
        imgname=np.array([f"S1_Walk{k // half}.54138969_{k % half:06}.jpg" for k in range(frames)]),
        S=steps / 100,
        part=np.concatenate([500 + steps[..., :2], np.ones((frames, 17, 1), np.float32)], 2),
        center=np.full((frames, 2), 500, np.float32),
        scale=np.full(frames, 3, np.float32),
    )


def made_up_cameras(path: Path) -> None:
    """Writes the parameters of the camera of `made_up_motion`, in the layout of Human3.6M."""
    camera = {"R": np.eye(3), "T": np.zeros((3, 1)), "c": np.full((2, 1), 500.0), "f": np.full((2, 1), 1000.0)}
    camera |= {"K": np.array([[1000.0, 0, 500], [0, 1000, 500]]), "k": np.zeros((3, 1)), "p": np.zeros((2, 1))}
    path.write_bytes(pickle.dumps({("S1", "54138969"): {**camera, "w": 1000, "h": 1000}}))


def made_up_gestures(folder: Path) -> None:
    """Writes four videos of 16 frames in the layout of NVGesture."""
    import cv2  # a package of code bases

    lines, boxes = [], {}
    for index in range(4):
        (folder / f"v{index}").mkdir(parents=True, exist_ok=True)
        path = str(folder / f"v{index}" / "sk_color.avi")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 15, (320, 240))
        for step in range(16):
            writer.write(np.full((240, 320, 3), 10 * step + 20 * index, np.uint8))
        writer.release()
        streams = " ".join(f"{each}:sk_{each}:0:16" for each in ("color", "depth", "duo_left"))
        lines.append(f"path:./v{index} {streams} label:{index + 1}")
        boxes[f"v{index}"] = [[{"bbox": [100, 60, 220, 180]}]] * 16
    (folder / "videos.lst").write_text("\n".join(lines))
    (folder / "bboxes.json").write_text(json.dumps(boxes))


def made_up_hands(data: Path) -> None:
    """Writes pairs of hands in the layout of InterHand2.6M."""
    rng = np.random.default_rng(0)
    found = json.loads((data / "coco" / "training.json").read_text())
    found["annotations"] = [
        dict(each, hand_type="interacting", hand_type_valid=1, joint_valid=[[1]] * 42, category_id=1)
        for each in found["annotations"]
    ]
    for image in found["images"]:
        image.update(capture=0, camera="c", frame_idx=image["id"])
    camera = {"campos": [0, 0, 0], "camrot": np.eye(3).tolist(), "focal": [500, 500], "princpt": [48, 48]}
    joints = rng.normal(0, 50, (len(found["images"]), 42, 3)) + [0, 0, 1000]
    (data / "hands.json").write_text(json.dumps(found))
    (data / "hand_cameras.json").write_text(json.dumps({"0": {key: {"c": value} for key, value in camera.items()}}))
    frames = {
        str(image["id"]): {"world_coord": each.tolist()} for image, each in zip(found["images"], joints, strict=True)
    }
    (data / "hand_joints.json").write_text(json.dumps({"0": frames}))


def made_up_keypoints(boxes: Path, number: int) -> dict[str, Any]:
    """Returns annotations with `number` keypoints in each box of a file in the layout of COCO."""
    rng = np.random.default_rng(0)
    found = json.loads(boxes.read_text())
    for each in found["annotations"]:
        x, y, width, height = each["bbox"]
        points = np.stack([x + rng.random(number) * width, y + rng.random(number) * height, np.full(number, 2)], 1)
        each.update(keypoints=points.round(2).ravel().tolist(), num_keypoints=number, category_id=1)
    found["categories"] = [{"id": 1, "name": "person", "keypoints": [f"k{k}" for k in range(number)], "skeleton": []}]
    return dict(found)


def write_keypoints(path: Path, boxes: Path, number: int) -> None:
    """Writes one annotation per image with what the first-generation datasets of people, hands and faces read."""
    found = made_up_keypoints(boxes, number)
    found["annotations"] = found["annotations"][::3]
    for each in found["annotations"]:
        x, y, width, height = each["bbox"]
        each.update(center=[x + width / 2, y + height / 2], scale=max(width, height) / 200)
        if number == 133:  # whole bodies
            points = each["keypoints"]
            for name, begin, end in WHOLE_BODY:
                each[name] = points[3 * begin : 3 * end]
    for image in found["images"]:
        image.update(nframes=1, frame_id=0, vid_id="0")
    path.write_text(json.dumps(found))


def register_transforms() -> None:
    """Registers the transforms of this script for every code base."""
    from mmcv.transforms import TRANSFORMS, BaseTransform

    @TRANSFORMS.register_module()
    class SeedBySample(BaseTransform):  # type: ignore[misc,unused-ignore]
        """Sets all random states by the index of the sample."""

        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            seed_all(int(results.get("sample_idx", 0)))
            return results

    @TRANSFORMS.register_module()
    class LabelAsList(BaseTransform):  # type: ignore[misc,unused-ignore]
        """Makes the label of an image a list of labels."""

        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            return dict(results, gt_label=[int(results["gt_label"])])

    @TRANSFORMS.register_module()
    class MadeUpProposals(BaseTransform):  # type: ignore[misc,unused-ignore]
        """Adds 20 proposals near the boxes."""

        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            boxes = results["gt_bboxes"].tensor.numpy()
            near = np.resize(boxes, (20, 4)) + np.random.default_rng(0).normal(0, 2, (20, 4))
            return dict(results, proposals=near.astype(np.float32), proposals_scores=np.ones(20, np.float32))

    @TRANSFORMS.register_module()
    class MadeUpSemanticMap(BaseTransform):  # type: ignore[misc,unused-ignore]
        """Adds a map with the classes of the boxes, and the next two classes elsewhere."""

        def transform(self, results: dict[str, Any]) -> dict[str, Any]:
            height, width = results["img_shape"]
            found = np.full((height, width), 4, np.uint8)
            found[height // 2 :] = 5
            boxes = results["gt_bboxes"]
            for box, label in zip(getattr(boxes, "tensor", boxes), results["gt_bboxes_labels"], strict=True):
                x1, y1, x2, y2 = (int(value) for value in box)
                found[y1:y2, x1:x2] = label
            return dict(results, gt_seg_map=found)


def seed_all(seed: int) -> None:
    """Seeds all random generators."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
