"""Writes a made-up data set in the SemanticKITTI format, small enough for a CPU.

    python -m benchmarks.made_up.semantic_kitti OUT [--frames 3] [--seed 0]

It contains the 22 sequences with calibration, poses, stereo images and LiDAR points, and labels of the first eleven: of
points in each frame, and of voxels in every fifth. The preprocessing scripts of research code make their own labels
from them. In place of the points that MobileStereoNet finds, which semantic scene completion code reads, it links to
the LiDAR points.
"""

import argparse
from pathlib import Path

import numpy as np

from benchmarks.made_up.world import CATEGORIES, Array, Pose, World, camera_image, lidar_scan, voxel_categories

LABELS = {
    **{"vehicle.car": 10, "vehicle.bicycle": 11, "vehicle.bus.rigid": 13, "vehicle.motorcycle": 15},
    **{"vehicle.truck": 18, "vehicle.trailer": 20, "vehicle.construction": 20, "human.pedestrian.adult": 30},
    **{"flat.driveable_surface": 40, "flat.sidewalk": 48, "static.manmade": 50, "movable_object.barrier": 51},
    **{"flat.terrain": 72, "movable_object.trafficcone": 81},
}
NUMBERS = np.array([*(LABELS.get(name, 0) for name in CATEGORIES), 0], np.uint16)  # the last for empty voxels
WIDTH, HEIGHT, FOCAL, CENTER, BASELINE = 1241, 376, 718.856, (607.1928, 185.2157), 0.54
LIDAR, CAMERA = (0.0, 0.0, 1.73), (0.27, 0.0, 1.65)
LIDAR_TO_CAMERA = np.array([[0, -1.0, 0, 0], [0, 0, -1.0, -0.08], [1.0, 0, 0, -0.27], [0, 0, 0, 1.0]])
GRID = (np.linspace(0, 51.2, 257), np.linspace(-25.6, 25.6, 257), np.linspace(-2, 4.4, 33))


def matrix(pose: Pose) -> Array:
    """Returns the transformation (4, 4) from a frame."""
    transformation = np.eye(4)
    transformation[:3, :3] = pose.outside(np.eye(3)).T - pose.position[:, None]
    transformation[:3, 3] = pose.position
    return transformation


def write_voxel_labels(stem: Path, categories: Array) -> None:
    """Writes the labels of voxels, none of which are invalid or occluded."""
    stem.with_suffix(".label").write_bytes(NUMBERS[categories].tobytes())
    for suffix in (".invalid", ".occluded"):
        stem.with_suffix(suffix).write_bytes(np.packbits(np.zeros(categories.size, bool)).tobytes())


def write_sequence(folder: Path, frames: int, labelled: bool, generator: np.random.Generator) -> None:
    """Writes a sequence with ten frames in a second."""
    world, lidar = World(generator), Pose(np.array(LIDAR), 0.0)
    for name in ("image_2", "image_3", "velodyne", "labels", "voxels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    intrinsic = np.array([[FOCAL, 0, CENTER[0]], [0, FOCAL, CENTER[1]], [0, 0, 1.0]])
    lines = {f"P{camera}": np.column_stack([intrinsic, [0.0, 0.0, 0.0]]) for camera in range(4)}
    lines["P1"][0, 3] = lines["P3"][0, 3] = -FOCAL * BASELINE
    lines["Tr"] = LIDAR_TO_CAMERA[:3]
    text = (f"{name}: {' '.join(map(repr, values.ravel().tolist()))}\n" for name, values in lines.items())
    (folder / "calib.txt").write_text("".join(text))
    times = [0.1 * frame for frame in range(frames)]
    (folder / "times.txt").write_text("".join(f"{time:e}\n" for time in times))
    poses = [LIDAR_TO_CAMERA @ matrix(world.ego(time) @ lidar) @ np.linalg.inv(LIDAR_TO_CAMERA) for time in times]
    relative = [(np.linalg.inv(poses[0]) @ pose)[:3].ravel().tolist() for pose in poses]
    (folder / "poses.txt").write_text("".join(f"{' '.join(map(repr, pose))}\n" for pose in relative))
    for frame, time in enumerate(times):
        for name, y in (("image_2", 0.0), ("image_3", -BASELINE)):
            camera = Pose(np.array(CAMERA) + [0.0, y, 0.0], 0.0)
            image = camera_image(world, time, camera, intrinsic, (WIDTH, HEIGHT))
            image.save(folder / name / f"{frame:06d}.png", compress_level=1)
        scan = lidar_scan(world, time, lidar, generator, columns=360)
        points = np.column_stack([scan.points, generator.uniform(0, 1, len(scan.points))])
        points.astype(np.float32).tofile(folder / "velodyne" / f"{frame:06d}.bin")
        if labelled:
            labels = NUMBERS[scan.categories] | (scan.tracks + 1).astype(np.uint32) << 16
            labels.astype(np.uint32).tofile(folder / "labels" / f"{frame:06d}.label")
        if frame % 5 == 0:
            stem = folder / "voxels" / f"{frame:06d}"
            occupied, _ = np.histogramdd(scan.points, bins=GRID)
            stem.with_suffix(".bin").write_bytes(np.packbits(occupied.ravel() > 0).tobytes())
            if labelled:
                categories = voxel_categories(world, time, world.ego(time) @ lidar, GRID)
                write_voxel_labels(stem, categories)


def write_data_set(root: Path, frames: int = 3, seed: int = 0, sequences: int = 22) -> None:
    """Writes the data set to `root`."""
    for number in range(sequences):
        folder = root / "dataset" / "sequences" / f"{number:02d}"
        write_sequence(folder, frames, number <= 10, np.random.default_rng([seed, number]))
        link = root / "dataset" / "sequences_msnet3d_lidar" / "sequences" / folder.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(Path("../../sequences", folder.name, "velodyne"))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.made_up.semantic_kitti",
        description="Writes a made-up data set in the SemanticKITTI format, small enough to train on a CPU.",
    )
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("--frames", type=int, default=3, help="number of frames of each sequence")
    parser.add_argument("--seed", type=int, default=0, help="seed of the positions and speeds")
    arguments = vars(parser.parse_args())
    write_data_set(arguments.pop("out"), **arguments)


if __name__ == "__main__":
    main()
