"""A straight road with moving objects, and what a LiDAR, a camera and a radar measure there.

All coordinates are in meters and relative to the road: x along it, y to the left of its center, z up. Vehicles and
sensors have x to the front, y to the left and z up.
"""

import colorsys
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[Any]

# In the order of the label numbers of nuScenes-lidarseg.
# fmt: off
CATEGORIES = [
    "noise", "animal", "human.pedestrian.adult", "human.pedestrian.child", "human.pedestrian.construction_worker",
    "human.pedestrian.personal_mobility", "human.pedestrian.police_officer", "human.pedestrian.stroller",
    "human.pedestrian.wheelchair", "movable_object.barrier", "movable_object.debris",
    "movable_object.pushable_pullable", "movable_object.trafficcone", "static_object.bicycle_rack", "vehicle.bicycle",
    "vehicle.bus.bendy", "vehicle.bus.rigid", "vehicle.car", "vehicle.construction", "vehicle.emergency.ambulance",
    "vehicle.emergency.police", "vehicle.motorcycle", "vehicle.trailer", "vehicle.truck", "flat.driveable_surface",
    "flat.other", "flat.sidewalk", "flat.terrain", "static.manmade", "static.other", "static.vegetation",
    "vehicle.ego"
]
# fmt: on

# The road has two lanes in each direction and sidewalks, and another one crosses it.
ROAD_START, CROSSING_START, CROSSING_END, ROAD_END = -160, 52, 68, 280
LANE_WIDTH, ROAD_EDGE, WALK_EDGE = 4, 8, 11


class Track(NamedTuple):
    """An object that moves straight ahead. `x` is relative to the start of the ego vehicle."""

    category: str
    attribute: str
    size: tuple[float, float, float]  # width, length, height
    x: float
    y: float
    yaw: float
    speed: float


TRACKS = [
    Track("vehicle.car", "vehicle.moving", (1.9, 4.6, 1.7), 15, -2, 0, 6),
    Track("vehicle.car", "vehicle.parked", (1.8, 4.3, 1.6), 7, -6.6, 0, 0),
    Track("vehicle.car", "vehicle.moving", (2.0, 4.8, 1.8), 42, 2, math.pi, 8),
    Track("vehicle.truck", "vehicle.moving", (2.5, 7.0, 3.0), 26, -6, 0, 4),
    Track("vehicle.bus.rigid", "vehicle.moving", (2.9, 11.0, 3.4), -14, 6, math.pi, 4),
    Track("vehicle.trailer", "vehicle.parked", (2.4, 9.0, 3.6), 32, 6.3, math.pi, 0),
    Track("vehicle.construction", "vehicle.stopped", (2.7, 6.2, 3.1), -17, -6, 0.2, 0),
    Track("human.pedestrian.adult", "pedestrian.moving", (0.7, 0.7, 1.8), 11, 4, math.pi / 2, 1.2),
    Track("human.pedestrian.adult", "pedestrian.standing", (0.6, 0.7, 1.7), 9, 9.5, 0, 0),
    Track("vehicle.motorcycle", "cycle.with_rider", (0.8, 2.1, 1.5), -9, -2.3, 0, 5),
    Track("vehicle.bicycle", "cycle.with_rider", (0.6, 1.7, 1.4), 4, 5.5, math.pi, 2),
    Track("vehicle.bicycle", "cycle.without_rider", (0.6, 1.7, 1.2), 17, -9.4, 0, 0),
    Track("movable_object.trafficcone", "", (0.4, 0.4, 1.0), 10, 0.2, 0, 0),
    Track("movable_object.trafficcone", "", (0.4, 0.4, 1.0), 14, 0.2, 0, 0),
    Track("movable_object.barrier", "", (2.4, 0.6, 1.1), 21, 9.6, 0, 0),
    Track("movable_object.barrier", "", (2.4, 0.6, 1.1), 14, -10, 0, 0),
]
SQUARE = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]])
FACES = np.concatenate([np.insert(SQUARE, axis, side, axis=1) for axis in range(3) for side in (-0.5, 0.5)])
RANGE = 50.0  # of the objects that are part of the scene


def rotate(points: Array, yaw: float) -> Array:
    """Rotates points (N, 3) about the z axis."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    rotated: Array = points @ np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return rotated


@dataclass(frozen=True)
class Pose:
    """The frame of a vehicle, a sensor or an object: its origin (3,) and its heading in another frame."""

    position: Array
    yaw: float

    def outside(self, points: Array) -> Array:
        """Converts points (N, 3) in this frame to the other frame."""
        return rotate(points, self.yaw) + self.position

    def inside(self, points: Array) -> Array:
        """Converts points (N, 3) in the other frame to this frame."""
        return rotate(points - self.position, -self.yaw)

    def __matmul__(self, pose: "Pose") -> "Pose":
        """Converts a pose in this frame to the other frame."""
        return Pose(self.outside(pose.position[None])[0], self.yaw + pose.yaw)


@dataclass(frozen=True)
class Box:
    """An object at one point in time."""

    pose: Pose  # of the center
    size: Array  # length, width, height
    category: str
    track: int  # its number in TRACKS, or -1 for a building

    @property
    def velocity(self) -> Array:
        return rotate(np.array([TRACKS[self.track].speed if self.track >= 0 else 0.0, 0.0, 0.0]), self.pose.yaw)


BUILDINGS = [
    Box(Pose(np.array([x, y, 4.5]), 0.0), np.array([24.0, 6.0, 9.0]), "static.manmade", -1)
    for x in range(-60, 121, 36)
    for y in (15.0, -15.0)
]


class World:
    """The ego vehicle and the objects at any time, in seconds from the start."""

    def __init__(self, generator: np.random.Generator):
        self.start = generator.uniform(-30, 20)
        self.speed = generator.uniform(4, 6)
        self.phase = generator.uniform(0, 2 * math.pi)
        self.shifts = generator.uniform(-0.5, 0.5, len(TRACKS))

    def ego(self, time: float) -> Pose:
        """Returns the pose of the ego vehicle on the ground. It swerves a little."""
        y = -LANE_WIDTH / 2 + 0.3 * math.sin(self.phase + time)
        yaw = math.atan2(0.3 * math.cos(self.phase + time), self.speed)
        return Pose(np.array([self.start + self.speed * time, y, 0.0]), yaw)

    def objects(self, time: float) -> list[Box]:
        """Returns the objects in range of the ego vehicle."""
        boxes = []
        for number, (category, _, (width, length, height), x, y, yaw, speed) in enumerate(TRACKS):
            start = Pose(np.array([self.start + x + self.shifts[number], y, height / 2]), yaw)
            pose = start @ Pose(np.array([speed * time, 0.0, 0.0]), 0.0)
            if np.linalg.norm(pose.position - self.ego(time).position) < RANGE:
                boxes.append(Box(pose, np.array([length, width, height]), category, number))
        return boxes

    def solids(self, time: float) -> list[Box]:
        """Returns the objects and the buildings."""
        return self.objects(time) + BUILDINGS


def ground_category(points: Array) -> Array:
    """Returns the numbers of the categories of points (N, 3) on the ground."""
    x, y = points[:, 0], abs(points[:, 1])
    road = (y < ROAD_EDGE) | (x > CROSSING_START) & (x < CROSSING_END)
    numbers = [CATEGORIES.index(name) for name in ("flat.driveable_surface", "flat.sidewalk", "flat.terrain")]
    return np.select([road, y < WALK_EDGE], numbers[:2], numbers[2])


class Scan(NamedTuple):
    """What a LiDAR measures: points (N, 3) in its frame, and for each its ring, category number and track (or -1)."""

    points: Array
    rings: Array
    categories: Array
    tracks: Array


def lidar_scan(world: World, time: float, lidar: Pose, generator: np.random.Generator, columns: int = 90) -> Scan:
    """Casts the rays of 32 rings. `lidar` is the pose on the ego vehicle."""
    ring, azimuth = (grid.ravel() for grid in np.meshgrid(np.arange(32), np.arange(columns) * 2 * math.pi / columns))
    elevation = np.radians(-30 + ring * 40 / 31)
    level = np.cos(elevation)
    rays = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)], 1)
    pose, boxes = world.ego(time) @ lidar, world.solids(time)
    distances = np.where(rays[:, 2] < 0, pose.position[2] / np.maximum(-rays[:, 2], 1e-9), np.inf)
    hits = np.full(len(rays), -1)
    for index, box in enumerate(boxes):
        start, local = box.pose.inside(pose.position[None]), rotate(rays, -box.pose.yaw)
        local[abs(local) < 1e-9] = 1e-9
        planes = np.sort([(-box.size / 2 - start) / local, (box.size / 2 - start) / local], axis=0)
        enter, leave = planes[0].max(1), planes[1].min(1)
        hit = (enter > 0) & (enter < leave) & (enter < distances)
        distances[hit] = np.minimum(enter + 0.05, (enter + leave) / 2)[hit]  # inside in spite of rounding
        hits[hit] = index
    near = distances < 70
    points, rings, hits = pose.position + rays[near] * distances[near, None], ring[near], hits[near]
    for index, box in enumerate(boxes):
        if box.track >= 0:  # small and hidden objects have points, too
            extra = box.pose.outside(generator.uniform(-0.4, 0.4, (5, 3)) * box.size)
            points, rings, hits = np.vstack([points, extra]), np.append(rings, [16] * 5), np.append(hits, [index] * 5)
    categories = np.where(
        hits < 0, ground_category(points), np.array([CATEGORIES.index(box.category) for box in boxes])[hits]
    )
    tracks = np.append([box.track for box in boxes], -1)[hits]
    return Scan(pose.inside(points), rings, categories, tracks)


def camera_image(world: World, time: float, camera: Pose, matrix: Array, size: tuple[int, int]) -> Image.Image:
    """Draws the lines of the road and the boxes, with one color for each category.

    Args:
        world: What to draw.
        time: When, in seconds.
        camera: The pose on the ego vehicle.
        matrix: The camera matrix (3, 3).
        size: Width and height of the image.
    """
    pose = world.ego(time) @ camera

    def project(points: Array) -> tuple[Array, Array]:
        """Returns pixels (N, 2) and depths (N,)."""
        x, y, z = pose.inside(points).T
        return (np.stack([-y, -z, x], 1) @ matrix.T)[:, :2] / np.maximum(x, 0.1)[:, None], x

    image = Image.new("RGB", size, (150, 180, 210))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, int(matrix[1, 2]), *size), (90, 95, 90))
    x = pose.position[0] + np.arange(-60.0, 81.0)
    for y in (-WALK_EDGE, -ROAD_EDGE, -LANE_WIDTH, 0, LANE_WIDTH, ROAD_EDGE, WALK_EDGE):
        pixels, depths = project(np.stack([x, np.full_like(x, y), np.zeros_like(x)], 1))
        ahead = pixels[depths > 1]
        draw.line([(float(u), float(v)) for u, v in ahead], (230, 230, 220), max(1, size[0] // 400))
    boxes = world.solids(time)
    pixels, depths = project(np.concatenate([box.pose.outside(FACES * box.size) for box in boxes]))
    faces, depths = pixels.reshape(-1, 4, 2), depths.reshape(-1, 4)
    for face in np.argsort(-depths.mean(1)):
        if depths[face].min() > 0.5:
            category = boxes[face // 6].category
            shade = (0.2, 0.4) if category == "static.manmade" else (0.8, 0.9)
            color = colorsys.hsv_to_rgb(CATEGORIES.index(category) * 0.618 % 1, *shade)
            corners = [(float(u), float(v)) for u, v in faces[face]]
            draw.polygon(corners, tuple(round(255 * part) for part in color), (20, 20, 20))
    return image


class Echoes(NamedTuple):
    """What a radar measures: points (N, 3) in its frame, their radial velocities (N, 3) and tracks (or -1)."""

    points: Array
    relative: Array
    compensated: Array  # for the movement of the ego vehicle
    tracks: Array


def radar_echoes(world: World, time: float, radar: Pose, generator: np.random.Generator) -> Echoes:
    """Returns two points of each object in the field of view of 120 degrees, and 20 of the ground."""
    ego = world.ego(time)
    pose = ego @ radar
    angles = generator.uniform(-1, 1, 20)
    ground = np.stack([np.cos(angles), np.sin(angles), 0 * angles], 1) * generator.uniform(3, 80, (20, 1))
    points, speeds, tracks = [ground], [np.zeros((20, 3))], [-1] * 20
    for box in world.objects(time):
        inside = pose.inside(box.pose.outside(generator.uniform(-0.3, 0.3, (2, 3)) * box.size))
        if (abs(np.arctan2(inside[:, 1], inside[:, 0])) < math.radians(60)).all():
            points, speeds = [*points, inside], [*speeds, np.stack([box.velocity] * 2)]
            tracks += [box.track] * 2
    positions, velocities = np.concatenate(points), np.concatenate(speeds)
    directions = positions * [1, 1, 0] / np.linalg.norm(positions[:, :2], axis=1, keepdims=True)
    own = rotate(np.array([[world.speed, 0.0, 0.0]]), ego.yaw)
    relative, compensated = (
        directions * (directions * rotate(speed, -pose.yaw)).sum(1, keepdims=True)
        for speed in (velocities - own, velocities)
    )
    return Echoes(positions, relative, compensated, np.array(tracks))


def voxel_categories(world: World, time: float, frame: Pose, edges: tuple[Array, Array, Array]) -> Array:
    """Returns the category number of each voxel, or -1 where there is nothing.

    Args:
        world: What to look at.
        time: When, in seconds.
        frame: The pose of the grid on the road.
        edges: The bounds of the voxels along each axis of the grid.
    """
    x, y, z = ((axis[1:] + axis[:-1]) / 2 for axis in edges)
    columns = frame.outside(np.stack(np.meshgrid(x, y, [0.0], indexing="ij"), -1).reshape(-1, 3))
    grid = np.full((len(columns), len(z)), -1, np.int8)
    grid[:, np.searchsorted(edges[2], -frame.position[2], "right") - 1] = ground_category(columns)
    for box in world.solids(time):
        half = box.size / 2 + 0.1
        near = np.flatnonzero((abs(columns - box.pose.position)[:, :2] < np.hypot(*half[:2])).all(1))
        inside = (abs(box.pose.inside(columns[near]))[:, :2] < half[:2]).all(1)
        level = abs(z + frame.position[2] - box.pose.position[2]) < half[2]
        grid[np.ix_(near[inside], level)] = CATEGORIES.index(box.category)
    return grid.reshape(len(x), len(y), len(z))
