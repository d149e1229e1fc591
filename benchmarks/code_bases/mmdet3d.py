"""Changes configs of MMDetection3D so that they train on made-up point clouds and images."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.code_bases.configs import loader, walk

SIZE = (384, 128)  # width and height of an image
CAMERA = np.array([[180.0, 0, 192, 0], [0, 180, 64, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
VIEWS = {
    "KittiDataset": ["CAM2"],
    "SUNRGBDDataset": ["CAM0"],
    "WaymoDataset": ["CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_SIDE_LEFT", "CAM_SIDE_RIGHT"],
}
LIDAR_TO_CAMERA = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])


def prepare(cfg: Any, data: str, size: int) -> None:
    """Trains with the dataset class and the pipeline of the config, on four scenes; makes grids and images smaller."""
    dataset = cfg.train_dataloader["dataset"]
    while "pipeline" not in dataset:  # CBGSDataset, ConcatDataset, RepeatDataset
        dataset = dataset.get("dataset") or dataset["datasets"][0]
    kind, meta = dataset["type"], dataset.get("metainfo") or {}
    indoor = kind not in ("KittiDataset", "NuScenesDataset", "WaymoDataset", "LyftDataset", "SemanticKittiDataset")
    camera = kind == "KittiDataset" or dataset.get("box_type_3d") == "Camera"
    columns = next((step["load_dim"] for step in dataset["pipeline"] if "load_dim" in step), 4)
    folder = Path(data) / "scenes3d" / f"{kind}-{columns}-{camera}"
    if not folder.exists():
        write_scenes(folder, kind, list(meta.get("classes", [])), columns, indoor=indoor, camera=camera)
    pipeline = [step for step in dataset["pipeline"] if step["type"] != "ObjectSample"]  # needs a database
    own = {key: value for key, value in dataset.items() if key != "load_interval"}
    own.update(data_root="", data_prefix={"pts": "", "img": ""}, pipeline=[{"type": "SeedBySample"}, *pipeline])
    if "scene_idxs" in own:
        own["scene_idxs"] = [0, 1, 2, 3]
    if "ann_files" in own:
        own["ann_files"] = [str(folder / "infos.pkl")]
    else:
        own["ann_file"] = str(folder / "infos.pkl")
    cfg.train_dataloader = loader(own, None)
    for node in walk(pipeline):
        for key in ("scale", "scales", "img_scale", "crop_size"):
            if key in node:
                node[key] = _quarter(node[key])
        if node.get("num_points", 0) > 8192:
            node["num_points"] = 8192
    for node in walk(cfg.model):
        if node.get("nms_pre", 0) > 512:
            node["nms_pre"] = 512
    _coarser_grid(cfg.model)


def _quarter(size: Any) -> Any:
    return type(size)(_quarter(each) for each in size) if isinstance(size, (list, tuple)) else size // 4


def _coarser_grid(model: Any) -> None:
    """Makes cells two or four times as long and wide, and leaves one layer in each stage of the grid's network."""
    shapes = [node[key] for node in walk(model) for key in ("output_shape", "sparse_shape") if key in node]
    factor = 4 if all(side % 32 == 0 for shape in shapes for side in shape[-2:]) else 2  # strides are up to 8
    for node in walk(model):
        if isinstance(node.get("voxel_size"), (list, tuple)):
            node["voxel_size"] = [*(factor * value for value in node["voxel_size"][:2]), *node["voxel_size"][2:]]
        for key in ("grid_size", "n_voxels"):
            if isinstance(node.get(key), (list, tuple)):
                node[key] = [*(value // factor for value in node[key][:2]), *node[key][2:]]
        for key in ("output_shape", "sparse_shape"):
            if key in node:
                node[key] = [*node[key][:-2], *(side // factor for side in node[key][-2:])]
        if "layer_nums" in node:
            node["layer_nums"] = [1 for _ in node["layer_nums"]]


def write_scenes(folder: Path, kind: str, names: list[str], columns: int, *, indoor: bool, camera: bool) -> None:
    """Writes four scenes with six boxes each: points, labels of the points, an image and the list of all files.

    Args:
        folder: Where to write.
        kind: The class of the dataset that reads the scenes.
        names: The classes of the config.
        columns: The number of values of a point.
        indoor: Whether the scene is a room; otherwise it is a road.
        camera: Whether the boxes are in the coordinates of the camera.
    """
    from mmdet3d.registry import DATASETS

    folder.mkdir(parents=True)
    known = DATASETS.get(kind).METAINFO
    labels = [known["classes"].index(name) for name in names if name in known["classes"]]
    marks = np.array(known.get("seg_valid_class_ids") or range(100))  # of classes in the files
    scenes = []
    for index in range(4):
        rng = np.random.default_rng(index)
        boxes = _boxes(rng, indoor=indoor)
        kinds = np.array([labels[k % len(labels)] for k in range(6)])
        points, owner = _points(rng, boxes, columns, indoor=indoor)
        points.astype(np.float32).tofile(folder / f"{index}.bin")
        semantic, kind_of_integer = np.where(owner < 6, marks[kinds[owner % 6]], 0), np.int64
        if kind == "SemanticKittiDataset":
            semantic, kind_of_integer = np.where(owner < 6, 10, 40), np.int32  # car and road
        semantic.astype(kind_of_integer).tofile(folder / f"{index}.semantic")
        owner.astype(np.int64).tofile(folder / f"{index}.instance")
        Image.fromarray(rng.integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8)).save(folder / f"{index}.png")
        objects = [
            _annotation(box, int(label), kind, indoor=indoor, camera=camera)
            for box, label in zip(boxes, kinds, strict=True)
        ]
        matrices = {"cam2img": CAMERA.tolist(), "lidar2cam": LIDAR_TO_CAMERA.tolist()}
        matrices["lidar2img"] = (CAMERA @ LIDAR_TO_CAMERA).tolist()
        matrices["depth2img"] = (CAMERA @ LIDAR_TO_CAMERA)[:3, :3].tolist()
        image = {"img_path": str(folder / f"{index}.png"), "width": SIZE[0], "height": SIZE[1], **matrices}
        views = VIEWS.get(kind, ["CAM_FRONT"])
        scenes.append(
            {
                "sample_idx": index,
                "token": str(index),
                "timestamp": 0.0,
                "context_name": "",
                "ego2global": np.eye(4).tolist(),
                "axis_align_matrix": np.eye(4).tolist(),
                "lidar_points": {"lidar_path": str(folder / f"{index}.bin"), "num_pts_feats": columns},
                "pts_semantic_mask_path": str(folder / f"{index}.semantic"),
                "pts_instance_mask_path": str(folder / f"{index}.instance"),
                "images": dict.fromkeys(views, image),
                "instances": objects,
                "cam_instances": dict.fromkeys(views, objects),
                "cam_sync_instances": objects,
            }
        )
    (folder / "infos.pkl").write_bytes(pickle.dumps({"metainfo": {}, "data_list": scenes}))


def _boxes(rng: Any, *, indoor: bool) -> NDArray[Any]:
    """Returns six boxes: center, length, width, height, and angle."""
    if indoor:
        place = [[0.6 + 0.9 * (k % 3), 0.6 + 1.2 * (k // 3), 0.5] for k in range(6)]
        sizes, angles = rng.uniform(0.5, 0.8, (6, 3)), np.zeros(6)
    else:
        place = [[9.0 + 6 * k, (-1) ** k * (1.5 + 0.6 * k), -0.8] for k in range(6)]
        sizes, angles = np.array([3.9, 1.7, 1.6]) * rng.uniform(0.8, 1.2, (6, 3)), rng.uniform(-0.3, 0.3, 6)
    return np.concatenate([np.array(place), sizes, angles[:, None]], 1)


def _points(rng: Any, boxes: NDArray[Any], columns: int, *, indoor: bool) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns points on the floor and in the boxes, and the index of the box of each point, or 6 for the floor."""
    low, high = ([0, 0, 0], [3, 3, 0.02]) if indoor else ([0.5, -20, -1.7], [50, 20, -1.6])
    floor, several = rng.uniform(low, high, (8000, 3)), []
    for box in boxes:
        local = rng.uniform(-0.5, 0.5, (1000, 3)) * box[3:6]
        sine, cosine = np.sin(box[6]), np.cos(box[6])
        turned = local @ np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
        several.append(turned + box[:3])
    places = np.concatenate([floor, *several])
    others = rng.uniform(0, 255 if indoor else 1, (len(places), columns - 3))
    if columns == 5:  # the last value is the time
        others[:, -1] = 0
    return np.concatenate([places, others], 1), np.repeat([6, 0, 1, 2, 3, 4, 5], [8000, *[1000] * 6])


def _annotation(box: NDArray[Any], label: int, kind: str, *, indoor: bool, camera: bool) -> dict[str, Any]:
    """Returns the annotation of a box, also projected onto the image."""
    signs = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    corners = np.concatenate([box[:3] + signs * box[3:6], np.ones((8, 1))], 1)
    pixels = corners @ (CAMERA @ LIDAR_TO_CAMERA).T
    pixels = pixels[:, :2] / np.maximum(pixels[:, 2:3], 0.1)
    low, high = np.clip(pixels.min(0), 0, SIZE), np.clip(pixels.max(0), 0, SIZE)
    rectangle = [*low.tolist(), *np.maximum(high, low + 8).tolist()]
    x, y, z, length, width, height, angle = box.tolist()
    values = [x, y, z, length, width, height, angle][: 6 if kind in ("ScanNetDataset", "S3DISDataset") else 7]
    if camera:
        values = [-y, -z + (height / 2 if kind == "KittiDataset" else 0), x, length, height, width, -angle - np.pi / 2]
    elif kind == "WaymoDataset":
        values[2] = z - height / 2
    middle = CAMERA @ LIDAR_TO_CAMERA @ np.array([x, y, z, 1])
    found = {"bbox_3d": values, "bbox_label_3d": label, "bbox_label": label, "bbox": rectangle}
    if not indoor:
        found.update(depth=x, center_2d=(middle[:2] / middle[2]).tolist(), attr_label=label % 8, velocity=[0.1, 0.2])
        found.update(bbox_3d_isvalid=True, num_lidar_pts=1000, difficulty=0)
    return found
