"""Writes a made-up data set in the nuScenes format, small enough for a CPU.

    python -m benchmarks nuscenes OUT [--scenes 4] [--samples 10] [--sweeps 1] [--occupancy]

It contains what the converters and loaders of research code read: the tables of v1.0-mini, v1.0-trainval and v1.0-test,
LiDAR, camera and radar data with sweeps, the map and CAN bus expansions, labels of lidarseg, panoptic and Occ3D. Each
scene is a drive along a straight road past objects of all ten detection classes. Sensor data, maps and annotations
agree, so that a model can learn them. The same arguments give the same files.
"""

import argparse
import hashlib
import json
import math
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.made_up import world as made_up
from benchmarks.made_up.nuscenes_map import LOCATIONS, write_map
from benchmarks.made_up.world import CATEGORIES, TRACKS, Array, Pose, World

Record = dict[str, Any]

# Names and locations of real scenes: the devkit fixes the split of each. The first four have one at each location.
SCENES = {
    "scene-0061": "singapore-onenorth",
    "scene-0103": "boston-seaport",
    "scene-1077": "singapore-hollandvillage",
    "scene-0916": "singapore-queenstown",
    "scene-0553": "boston-seaport",
    "scene-0655": "boston-seaport",
    "scene-0757": "boston-seaport",
    "scene-0796": "singapore-queenstown",
    "scene-1094": "singapore-hollandvillage",
    "scene-1100": "singapore-hollandvillage",
}
TEST_SCENES = {"scene-0077": "singapore-onenorth"}
ATTRIBUTES = [
    *("vehicle.moving", "vehicle.stopped", "vehicle.parked", "cycle.with_rider", "cycle.without_rider"),
    *("pedestrian.sitting_lying_down", "pedestrian.standing", "pedestrian.moving"),
]
OCCUPANCY = {  # the class numbers of Occ3D
    **{"movable_object.barrier": 1, "vehicle.bicycle": 2, "vehicle.bus.rigid": 3, "vehicle.car": 4},
    **{
        "vehicle.construction": 5,
        "vehicle.motorcycle": 6,
        "human.pedestrian.adult": 7,
        "movable_object.trafficcone": 8,
    },
    **{"vehicle.trailer": 9, "vehicle.truck": 10, "flat.driveable_surface": 11, "flat.sidewalk": 13},
    **{"flat.terrain": 14, "static.manmade": 15},
}
FREE = 17
INTERVAL = 0.5  # seconds between key frames
EXTENSIONS = {"lidar": "pcd.bin", "camera": "jpg", "radar": "pcd"}


class Sensor(NamedTuple):
    """A sensor, its place on the ego vehicle, and how late it is in seconds."""

    channel: str
    x: float
    y: float
    z: float
    degrees: float
    delay: float

    @property
    def modality(self) -> str:
        return {"LIDAR": "lidar", "CAM": "camera", "RADAR": "radar"}[self.channel.split("_")[0]]

    @property
    def pose(self) -> Pose:
        return Pose(np.array([self.x, self.y, self.z]), math.radians(self.degrees))

    @property
    def rotation(self) -> list[float]:
        """Returns the rotation to the ego frame as a quaternion. The z axis of cameras is the optical axis."""
        w, _, _, z = rotation = quaternion(self.pose.yaw)
        return [(w + z) / 2, -(w + z) / 2, (w - z) / 2, (z - w) / 2] if self.modality == "camera" else rotation

    def matrix(self, width: int) -> list[list[float]]:
        """Returns the camera matrix."""
        focal = width * (0.506 if self.channel == "CAM_BACK" else 0.79)
        return [[focal, 0.0, width / 2], [0.0, focal, width * 9 / 32], [0.0, 0.0, 1.0]]


SENSORS = [
    Sensor("LIDAR_TOP", 0.94, 0.0, 1.84, -90, 0.0),  # x to the right
    Sensor("CAM_FRONT", 1.72, 0.0, 1.5, 0, 0.004),
    Sensor("CAM_FRONT_RIGHT", 1.58, -0.5, 1.5, -56, 0.008),
    Sensor("CAM_BACK_RIGHT", 1.04, -0.5, 1.56, -110, 0.012),
    Sensor("CAM_BACK", 0.05, 0.0, 1.57, 180, 0.016),
    Sensor("CAM_BACK_LEFT", 1.05, 0.5, 1.56, 110, 0.020),
    Sensor("CAM_FRONT_LEFT", 1.57, 0.5, 1.5, 56, 0.024),
    Sensor("RADAR_FRONT", 3.41, 0.0, 0.5, 0, 0.010),
    Sensor("RADAR_FRONT_LEFT", 2.42, 0.8, 0.78, 90, 0.011),
    Sensor("RADAR_FRONT_RIGHT", 2.42, -0.8, 0.78, -90, 0.013),
    Sensor("RADAR_BACK_LEFT", -0.56, 0.62, 0.53, 170, 0.014),
    Sensor("RADAR_BACK_RIGHT", -0.56, -0.62, 0.53, -170, 0.015),
]
RADAR_FIELDS = {
    **{"x": "f4", "y": "f4", "z": "f4", "dyn_prop": "i1", "id": "i2", "rcs": "f4"},
    **{"vx": "f4", "vy": "f4", "vx_comp": "f4", "vy_comp": "f4", "is_quality_valid": "i1", "ambig_state": "i1"},
    **{"x_rms": "i1", "y_rms": "i1", "invalid_state": "i1", "pdh0": "i1", "vx_rms": "i1", "vy_rms": "i1"},
}


def token(*parts: object) -> str:
    """Returns the token of a record: 32 hexadecimal digits that depend on what the record is."""
    return hashlib.md5(repr(parts).encode()).hexdigest()


def quaternion(yaw: float) -> list[float]:
    return [math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]


def log_name(scene: str) -> str:
    return f"n015-2018-08-01-{scene[6:8]}-{int(scene[8:]) % 60:02d}-00+0800"


def pcd(echoes: made_up.Echoes) -> bytes:
    """Encodes radar points as a binary PCD file."""
    count = len(echoes.points)
    points = np.zeros(count, list(RADAR_FIELDS.items()))
    points["x"], points["y"], points["z"] = echoes.points.T
    points["vx"], points["vy"], _ = echoes.relative.T
    points["vx_comp"], points["vy_comp"], _ = echoes.compensated.T
    points["dyn_prop"] = np.where(abs(echoes.compensated).max(1) > 0.1, 0, 1)  # moving or stationary
    points["id"], points["rcs"], points["is_quality_valid"], points["ambig_state"] = np.arange(count), 5, 1, 3
    points["pdh0"], points["x_rms"], points["y_rms"], points["vx_rms"], points["vy_rms"] = 1, 19, 19, 3, 3
    header = f"""# .PCD v0.7 - Point Cloud Data file format
VERSION 0.7
FIELDS {" ".join(RADAR_FIELDS)}
SIZE {" ".join(kind[1] for kind in RADAR_FIELDS.values())}
TYPE {" ".join(kind[0].upper() for kind in RADAR_FIELDS.values())}
COUNT {" ".join("1" for _ in RADAR_FIELDS)}
WIDTH {count}
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS {count}
DATA binary
"""
    return header.encode() + points.tobytes() + b"\n"


class Tables:
    """The tables of one version of the data set, at first with the records that are the same in each scene."""

    def __init__(self, scenes: dict[str, str], width: int):
        self.records: dict[str, list[Record]] = {"sample_annotation": [], "instance": []}
        for index, name in enumerate(CATEGORIES):
            self.add("category", name, name=name, description="", index=index)
        for name in ATTRIBUTES:
            self.add("attribute", name, name=name, description="")
        levels = ("v0-40", "v40-60", "v60-80", "v80-100")
        self.records["visibility"] = [
            {"token": str(number), "level": level, "description": ""} for number, level in enumerate(levels, 1)
        ]
        for sensor in SENSORS:
            self.add("sensor", sensor.channel, channel=sensor.channel, modality=sensor.modality)
        for scene, location in scenes.items():
            fields: Record = {"logfile": log_name(scene), "vehicle": "n015", "date_captured": "2018-08-01"}
            self.add("log", scene, location=location, **fields)
            for sensor in SENSORS:
                fields = {"translation": [sensor.x, sensor.y, sensor.z], "rotation": sensor.rotation}
                fields["camera_intrinsic"] = sensor.matrix(width) if sensor.modality == "camera" else []
                self.add(
                    "calibrated_sensor", scene, sensor.channel, sensor_token=token("sensor", sensor.channel), **fields
                )
        for name in LOCATIONS:
            logs = [token("log", scene) for scene in scenes if scenes[scene] == name]
            image = f"maps/{LOCATIONS[name].image}.png"
            self.add("map", name, log_tokens=logs, category="semantic_prior", filename=image)

    def add(self, table: str, *parts: object, **fields: Any) -> Record:
        """Adds a record; its token depends on the table and on `parts`."""
        record = {"token": token(table, *parts), **fields}
        self.records.setdefault(table, []).append(record)
        return record

    def write(self, folder: Path) -> None:
        """Writes one JSON file for each table."""
        folder.mkdir(parents=True, exist_ok=True)
        for table, records in self.records.items():
            (folder / f"{table}.json").write_text(json.dumps(records, indent=0))


def link(records: list[Record]) -> None:
    """Sets the fields `prev` and `next` of records that follow each other."""
    for before, after in zip(records, records[1:], strict=False):
        before["next"], after["prev"] = after["token"], before["token"]


class SceneWriter:
    """Writes the sensor data of a scene and adds its records to the tables."""

    def __init__(self, root: Path, tables: Tables, scene: str, width: int, seed: int, occupancy: bool):
        self.root, self.tables, self.scene, self.width, self.occupancy = root, tables, scene, width, occupancy
        self.generator = np.random.default_rng([seed, int(scene[6:])])
        self.world = World(self.generator)
        self.road = LOCATIONS[(SCENES | TEST_SCENES)[scene]].road

    def write(self, samples: int, sweeps: int, annotated: bool) -> None:
        """Writes `samples` key frames, and `sweeps` frames of each sensor between two of them."""
        scene, add = self.scene, self.tables.add
        times = [index * INTERVAL for index in range(samples)]
        fields: Record = {"prev": "", "next": "", "scene_token": token("scene", scene)}
        keys = [
            add("sample", scene, index, timestamp=self.timestamp(times[index]), **fields) for index in range(samples)
        ]
        link(keys)
        ends = {"first_sample_token": keys[0]["token"], "last_sample_token": keys[-1]["token"]}
        # Code selects scenes by these words.
        description = "Rain, night" if scene == "scene-0916" else "Straight road, parked cars"
        fields = {"log_token": token("log", scene), "nbr_samples": samples, "name": scene, "description": description}
        add("scene", scene, **fields, **ends)
        points: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)
        for sensor in SENSORS:
            frames = []
            for number in range((samples - 1) * (sweeps + 1) + 1):
                index, sweep = divmod(number, sweeps + 1)
                sample = keys[index + (sweep > 0)]["token"]
                record, tracks = self.frame(sensor, number * INTERVAL / (sweeps + 1), sample, not sweep, annotated)
                frames.append(record)
                if not sweep:
                    points[sample, sensor.modality].update(tracks)
            link(frames)
        if annotated:
            self.annotate({key["token"]: time for key, time in zip(keys, times, strict=True)}, points)
        self.can_bus(times[-1])

    def timestamp(self, time: float) -> int:
        """Returns microseconds. Each scene has its own range."""
        return 1_533_000_000_000_000 + int(self.scene[6:]) * 1_000_000_000 + round(time * 1e6)

    def frame(self, sensor: Sensor, time: float, sample: str, key: bool, annotated: bool) -> tuple[Record, list[int]]:
        """Writes a frame of a sensor; returns its record and the tracks of its points."""
        time += sensor.delay
        stamp, extension = self.timestamp(time), EXTENSIONS[sensor.modality]
        file = f"{log_name(self.scene)}__{sensor.channel}__{stamp}.{extension}"
        name = f"{'samples' if key else 'sweeps'}/{sensor.channel}/{file}"
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ego = self.road @ self.world.ego(time)
        size = (self.width, self.width * 9 // 16) if sensor.modality == "camera" else (0, 0)
        identity = (self.scene, sensor.channel, stamp)
        pose: Record = {"timestamp": stamp, "rotation": quaternion(ego.yaw), "translation": ego.position.tolist()}
        fields: Record = {
            "sample_token": sample,
            "ego_pose_token": self.tables.add("ego_pose", *identity, **pose)["token"],
        }
        fields |= {"calibrated_sensor_token": token("calibrated_sensor", self.scene, sensor.channel)}
        fields |= {"timestamp": stamp, "fileformat": extension[:3], "is_key_frame": key, "filename": name}
        fields |= {"width": size[0], "height": size[1], "prev": "", "next": ""}
        record = self.tables.add("sample_data", *identity, **fields)
        if sensor.modality == "camera":
            matrix = np.array(sensor.matrix(self.width))
            made_up.camera_image(self.world, time, sensor.pose, matrix, size).save(path, quality=50)
            return record, []
        if sensor.modality == "radar":
            echoes = made_up.radar_echoes(self.world, time, sensor.pose, self.generator)
            path.write_bytes(pcd(echoes))
            return record, echoes.tracks.tolist()
        scan = made_up.lidar_scan(self.world, time, sensor.pose, self.generator)
        intensity = scan.categories * 7 % 100 + self.generator.uniform(0, 5, len(scan.points))
        np.column_stack([scan.points, intensity, scan.rings]).astype(np.float32).tofile(path)
        if key and annotated:
            self.label_points(record["token"], scan)
            self.label_voxels(record, time)
        return record, scan.tracks.tolist()

    def label_points(self, sample_data: str, scan: made_up.Scan) -> None:
        """Writes the labels of lidarseg and panoptic."""
        instances = (scan.categories * 1000 + scan.tracks + 1).astype(np.uint16)
        for task, file in (("lidarseg", f"{sample_data}_lidarseg.bin"), ("panoptic", f"{sample_data}_panoptic.npz")):
            path = self.root / task / "v1.0-mini" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            if task == "lidarseg":
                scan.categories.astype(np.uint8).tofile(path)
            else:
                np.savez_compressed(path, data=instances)
            fields = {"sample_data_token": sample_data, "filename": f"{task}/v1.0-mini/{file}"}
            self.tables.records.setdefault(task, []).append({"token": sample_data, **fields})

    def annotate(self, samples: dict[str, float], points: dict[tuple[str, str], Counter[int]]) -> None:
        """Adds annotations and instances.

        Args:
            samples: The time of each key frame by its token.
            points: How many points each track has, by key frame and modality.
        """
        annotations: dict[int, list[Record]] = defaultdict(list)
        for sample, time in samples.items():
            for box in self.world.objects(time):
                track, pose = TRACKS[box.track], self.road @ box.pose
                fields: Record = {"sample_token": sample, "instance_token": token("instance", self.scene, box.track)}
                fields["attribute_tokens"] = [token("attribute", track.attribute)] if track.attribute else []
                fields |= {"translation": pose.position.tolist(), "size": track.size, "rotation": quaternion(pose.yaw)}
                fields |= {"num_lidar_pts": points[sample, "lidar"][box.track], "visibility_token": "4"}
                fields |= {"num_radar_pts": points[sample, "radar"][box.track], "prev": "", "next": ""}
                annotations[box.track].append(self.tables.add("sample_annotation", sample, box.track, **fields))
        for number, track_annotations in annotations.items():
            link(track_annotations)
            first, last = (track_annotations[index]["token"] for index in (0, -1))
            fields = {"category_token": token("category", TRACKS[number].category)}
            fields |= {"nbr_annotations": len(track_annotations)}
            fields |= {"first_annotation_token": first, "last_annotation_token": last}
            self.tables.add("instance", self.scene, number, **fields)

    def label_voxels(self, frame: Record, time: float) -> None:
        """Writes occupancy labels, those of SurroundOcc and OpenOccupancy only if `self.occupancy` is set."""
        classes = np.array([*(OCCUPANCY.get(name, 0) for name in CATEGORIES), FREE], np.uint8)
        ego, sample = self.world.ego(time), frame["sample_token"]

        def grid(pose: Pose, across: Array, up: Array) -> Array:
            return classes[made_up.voxel_categories(self.world, time, pose, (across, across, up))]

        semantics = grid(ego, np.linspace(-40, 40, 201), np.linspace(-1, 5.4, 17))
        mask = np.ones_like(semantics)
        path = self.root / "gts" / self.scene / sample / "labels.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, semantics=semantics, mask_lidar=mask, mask_camera=mask)
        if self.occupancy:  # lists of voxels in the frame of the LiDAR
            lidar = ego @ SENSORS[0].pose
            semantics = grid(lidar, np.linspace(-50, 50, 201), np.linspace(-5, 3, 17))
            voxels = np.argwhere(semantics != FREE)
            path = self.root / "nuscenes_occ/samples" / f"{Path(frame['filename']).name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.column_stack([voxels, semantics[tuple(voxels.T)]]).astype(np.uint8))
            semantics = grid(lidar, np.linspace(-25.6, 25.6, 257), np.linspace(-5, 3, 41))
            voxels = np.argwhere(semantics != FREE)
            labels = semantics[tuple(voxels.T)]
            voxels += [128, 128, 0]  # the format's grid begins at -51.2 m
            path = self.root / f"nuScenes-Occupancy/scene_{token('scene', self.scene)}/occupancy/{frame['token']}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.column_stack([voxels[:, ::-1], labels]).astype(np.int16))

    def can_bus(self, duration: float) -> None:
        """Writes the messages of the vehicle's sensors."""
        speed, kmh = self.world.speed, self.world.speed * 3.6

        def messages(rate: float, *names: str) -> list[Record]:
            """Returns messages with the values that have these names below."""
            selected = []
            for time in np.arange(-0.2, duration + 0.2, 1 / rate).tolist():
                ego = self.road @ self.world.ego(time)
                turn = ((self.road @ self.world.ego(time + 0.01)).yaw - ego.yaw) / 0.01
                steering = math.degrees(8 * turn)
                values: Record = {
                    **{"utime": self.timestamp(time), "pos": ego.position.tolist(), "vel": [speed, 0.0, 0.0]},
                    **{"accel": [0.0, speed * turn, 9.8], "linear_accel": [0.0, speed * turn, 9.8]},
                    **{"orientation": quaternion(ego.yaw), "q": quaternion(ego.yaw)},
                    **{"rotation_rate": [0.0, 0.0, turn], "yaw_rate": math.degrees(turn), "value": 8 * turn},
                    **{"steering": steering, "steer_raw": steering, "steer_corrected": steering},
                    **{"vehicle_speed": kmh, "odom_speed": kmh, "gear_position": 7, "throttle": 60},
                }
                selected.append({name: values.get(name, 0.0) for name in names})
            return selected

        monitor = "available_distance battery_level brake brake_switch gear_position left_signal rear_left_rpm"
        monitor += " rear_right_rpm right_signal steering steering_speed throttle utime vehicle_speed yaw_rate"
        zoe = "FL_wheel_speed FR_wheel_speed RL_wheel_speed RR_wheel_speed left_solar longitudinal_accel meanEffTorque"
        zoe += " odom odom_speed pedal_cc regen requestedTorqueAfterProc right_solar steer_corrected steer_offset_can"
        logs: Record = {  # fields in alphabetical order, because code reads them by position
            "pose": messages(50, "accel", "orientation", "pos", "rotation_rate", "utime", "vel"),
            "ms_imu": messages(96, "linear_accel", "q", "rotation_rate", "utime"),
            "steeranglefeedback": messages(100, "utime", "value"),
            "vehicle_monitor": messages(2, *monitor.split()),
            "zoe_veh_info": messages(100, *zoe.split(), "steer_raw", "transversal_accel", "utime"),
            "zoesensors": messages(100, "brake_sensor", "steering_sensor", "throttle_sensor", "utime"),
        }
        logs["meta"] = {name: {"message_count": len(log)} for name, log in logs.items()}
        ahead = self.world.start + np.arange(-50.0, 100.0)
        route = self.road.outside(np.stack([ahead, np.full_like(ahead, -made_up.LANE_WIDTH / 2), 0 * ahead], 1))
        logs["route"] = route[:, :2].tolist()
        (self.root / "can_bus").mkdir(exist_ok=True)
        for name, log in logs.items():
            (self.root / "can_bus" / f"{self.scene}_{name}.json").write_text(json.dumps(log))


def write_data_set(
    root: Path,
    scenes: int = 4,
    samples: int = 10,
    sweeps: int = 1,
    width: int = 1600,
    seed: int = 0,
    occupancy: bool = False,
) -> None:
    """Writes the data set to `root`: the first `scenes` of `SCENES`, and one without annotations for v1.0-test."""
    named = dict(list(SCENES.items())[:scenes])
    tables, test = Tables(named, width), Tables(TEST_SCENES, width)
    for scene in named:
        SceneWriter(root, tables, scene, width, seed, occupancy).write(samples, sweeps, annotated=True)
    for scene in TEST_SCENES:
        SceneWriter(root, test, scene, width, seed, occupancy).write(samples, sweeps, annotated=False)
    for version in ("v1.0-mini", "v1.0-trainval"):
        tables.write(root / version)
    test.write(root / "v1.0-test")
    for task in ("lidarseg", "panoptic"):
        if not (root / task / "v1.0-trainval").is_symlink():
            (root / task / "v1.0-trainval").symlink_to("v1.0-mini")
    for name in LOCATIONS:
        write_map(name, root / "maps", token)
    names = {token("scene", scene): scene for scene in named}
    scene_of = {sample["token"]: names[sample["scene_token"]] for sample in tables.records["sample"]}
    agents: dict[str, list[str]] = defaultdict(list)
    for record in tables.records["sample_annotation"]:
        if record["next"]:
            agents[scene_of[record["sample_token"]]].append(f"{record['instance_token']}_{record['sample_token']}")
    (root / "maps" / "prediction").mkdir(exist_ok=True)
    (root / "maps" / "prediction" / "prediction_scenes.json").write_text(json.dumps(agents))
    labels: dict[str, dict[str, Record]] = defaultdict(dict)
    for sample, scene in scene_of.items():
        labels[scene][sample] = {"gt_path": f"gts/{scene}/{sample}/labels.npz"}
    (root / "annotations.json").write_text(json.dumps({"scene_infos": labels}))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(
        description="Writes a made-up data set in the nuScenes format, small enough to train on a CPU.",
    )
    parser.add_argument("out", type=Path, help="the folder to write to")
    parser.add_argument("--scenes", type=int, default=4, help=f"number of annotated scenes, at most {len(SCENES)}")
    parser.add_argument(
        "--samples", type=int, default=10, help="number of key frames of each scene; planning needs more than 6"
    )
    parser.add_argument("--sweeps", type=int, default=1, help="number of frames of each sensor between key frames")
    parser.add_argument("--width", type=int, default=1600, help="width of the images; many converters assume 1600")
    parser.add_argument("--seed", type=int, default=0, help="seed of the positions and speeds")
    parser.add_argument("--occupancy", action="store_true", help="also write labels of SurroundOcc and OpenOccupancy")
    arguments = vars(parser.parse_args())
    write_data_set(arguments.pop("out"), **arguments)


if __name__ == "__main__":
    main()
