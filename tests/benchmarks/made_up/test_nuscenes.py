import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.made_up.nuscenes import write_data_set
from benchmarks.made_up.world import CATEGORIES, Pose

Tables = dict[str, dict[str, Any]]


ARGUMENTS: dict[str, Any] = {"scenes": 1, "samples": 3, "sweeps": 1, "width": 160, "occupancy": True}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nuscenes")
    write_data_set(root, **ARGUMENTS)
    return root


@pytest.fixture(scope="module")
def tables(root: Path) -> Tables:
    return {
        path.stem: {record["token"]: record for record in json.loads(path.read_text())}
        for path in (root / "v1.0-mini").glob("*.json")
    }


def pose(record: dict[str, Any]) -> Pose:
    w, _, _, z = record["rotation"]
    return Pose(np.array(record["translation"]), 2 * np.arctan2(z, w))


def test_each_token_refers_to_a_record(tables: Tables) -> None:
    for name, records in tables.items():
        for record in records.values():
            for key, value in record.items():
                if key.endswith(("_token", "_tokens")):
                    table = key.removesuffix("s").removesuffix("_token").removeprefix("first_").removeprefix("last_")
                    table = {"annotation": "sample_annotation"}.get(table, table)
                    assert all(token in tables[table] for token in ([value] if isinstance(value, str) else value)), key
                elif key in ("prev", "next") and value:
                    assert tables[name][value]["next" if key == "prev" else "prev"] == record["token"]


def test_points_in_boxes_are_counted_and_have_their_category(tables: Tables, root: Path) -> None:
    assert len(tables["lidarseg"]) == 3
    for label in tables["lidarseg"].values():
        frame = tables["sample_data"][label["sample_data_token"]]
        points = np.fromfile(root / frame["filename"], np.float32).reshape(-1, 5)[:, :3].astype(float)
        points = pose(tables["calibrated_sensor"][frame["calibrated_sensor_token"]]).outside(points)
        points = pose(tables["ego_pose"][frame["ego_pose_token"]]).outside(points)
        labels = np.fromfile(root / label["filename"], np.uint8)
        boxes = [box for box in tables["sample_annotation"].values() if box["sample_token"] == frame["sample_token"]]
        assert len(boxes) > 10
        for box in boxes:
            width, length, height = box["size"]
            inside = (abs(pose(box).inside(points)) < np.array([length, width, height]) / 2).all(1)
            category = tables["category"][tables["instance"][box["instance_token"]]["category_token"]]["name"]
            assert inside.sum() == box["num_lidar_pts"] >= 5
            assert set(labels[inside]) == {CATEGORIES.index(category)}


def test_the_same_seed_gives_the_same_files(tmp_path: Path, root: Path) -> None:
    write_data_set(tmp_path, **ARGUMENTS)
    paths = [path.relative_to(root) for path in root.rglob("*.*") if path.is_file()]
    assert len(paths) > 200
    assert all((root / path).read_bytes() == (tmp_path / path).read_bytes() for path in paths)


def test_the_devkit_loads_it(root: Path) -> None:
    nuscenes = pytest.importorskip("nuscenes.nuscenes")
    data_set = nuscenes.NuScenes("v1.0-mini", str(root), verbose=False)
    assert [scene["name"] for scene in data_set.scene] == ["scene-0061"]
    _, boxes, _ = data_set.get_sample_data(data_set.sample[0]["data"]["CAM_FRONT"])
    assert {box.name for box in boxes} >= {"vehicle.car", "vehicle.truck"}
