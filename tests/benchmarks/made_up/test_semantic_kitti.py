from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.made_up.semantic_kitti import write_data_set


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kitti")
    write_data_set(root, frames=2, sequences=1)
    return root / "dataset/sequences/00"


def test_voxels_with_points_have_the_labels_of_the_points(sequence: Path) -> None:
    points = np.fromfile(sequence / "velodyne/000000.bin", np.float32).reshape(-1, 4)[:, :3]
    labels = np.fromfile(sequence / "labels/000000.label", np.uint32) & 0xFFFF
    voxels = np.fromfile(sequence / "voxels/000000.label", np.uint16).reshape(256, 256, 32)
    occupied = np.unpackbits(np.fromfile(sequence / "voxels/000000.bin", np.uint8)).reshape(256, 256, 32)
    indices = np.floor((points - [0, -25.6, -2]) / 0.2).astype(int)
    inside = ((indices >= 0) & (indices < [256, 256, 32])).all(1)
    cells = tuple(indices[inside].T)
    assert occupied[cells].all()
    assert inside.sum() > 1000
    assert (voxels[cells] == labels[inside]).mean() > 0.9  # the others are at the edge of an object
    assert set(voxels.ravel()) == {0, 10, 11, 18, 20, 30, 40, 48, 50, 51, 72, 81}


def test_labelled_points_are_at_their_object_in_both_images(sequence: Path) -> None:
    points = np.fromfile(sequence / "velodyne/000000.bin", np.float32).reshape(-1, 4)[:, :3]
    labels = np.fromfile(sequence / "labels/000000.label", np.uint32) & 0xFFFF
    calibration = {
        name: np.array(values.split(), float).reshape(3, 4)
        for name, values in (line.split(":") for line in (sequence / "calib.txt").read_text().splitlines())
    }
    truck = points[labels == 18]
    in_camera = np.column_stack(
        [np.column_stack([truck, np.ones(len(truck))]) @ calibration["Tr"].T, np.ones(len(truck))]
    )
    for name, matrix in (("image_2", calibration["P2"]), ("image_3", calibration["P3"])):
        pixels = in_camera @ matrix.T
        x, y = np.median(pixels[:, :2] / pixels[:, 2:], axis=0)
        with Image.open(sequence / name / "000000.png") as image:
            red, green, blue = image.getpixel((round(x), round(y)))
        assert max(red, green, blue) == 230
        assert min(red, green, blue) == 46


def test_poses_are_those_of_a_car_that_drives_ahead(sequence: Path) -> None:
    poses = np.loadtxt(sequence / "poses.txt").reshape(-1, 3, 4)
    np.testing.assert_allclose(poses[0], np.eye(3, 4), atol=1e-12)
    assert 0.4 < poses[1, 2, 3] < 0.6  # 4 to 6 m/s for a tenth of a second, along the optical axis
    assert abs(poses[1, 1, 3]) < 1e-9
