"""Writes the road of `world` as the maps of nuScenes: the layers of the map expansion, and the image of the road."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.made_up import world
from benchmarks.made_up.world import CROSSING_END, CROSSING_START, LANE_WIDTH, ROAD_EDGE, WALK_EDGE, Pose

Point = tuple[float, float]


@dataclass(frozen=True)
class Location:
    """A map, its size in meters, and where the road is on it."""

    image: str
    size: Point
    x: float
    y: float
    yaw: float

    @property
    def road(self) -> Pose:
        return Pose(np.array([self.x, self.y, 0.0]), self.yaw)

    def points(self, points: list[Point]) -> list[list[float]]:
        """Converts points on the road to points on the map."""
        return [[float(x), float(y)] for x, y, _ in self.road.outside(np.array([(x, y, 0.0) for x, y in points]))]


# The names of images, the sizes and the areas are those of the real maps, because code depends on them.
LOCATIONS = {
    "singapore-onenorth": Location("53992ee3023e5494b90c316c183be829", (1585.6, 2025.0), 400, 600, 0.3),
    "singapore-hollandvillage": Location("37819e65e09e5547b8a3ceaefba56bb2", (2808.3, 2922.9), 700, 1150, 2.2),
    "singapore-queenstown": Location("93406b464a165eaba6d9de76ca09f5da", (3228.6, 3687.1), 750, 1100, -1.0),
    "boston-seaport": Location("36092f0b03a857c6a3403e25b4b7aab3", (2979.5, 2118.1), 650, 800, -2.6),
}
LAYERS = (
    "polygon line node drivable_area road_segment road_block lane lane_connector ped_crossing walkway stop_line"
    " carpark_area road_divider lane_divider traffic_light"
)


class Layers:
    """The layers of a map. Points are given on the road."""

    def __init__(self, location: Location, token: Any):
        self.location, self.token = location, token
        self.records: dict[str, Any] = {name: [] for name in LAYERS.split()}
        self.records |= {"arcline_path_3": {}, "connectivity": {}}
        self.records |= {"version": "1.3", "canvas_edge": list(location.size)}

    def add(self, layer: str, **fields: Any) -> str:
        """Adds a record and returns its token."""
        token = str(self.token(self.location.image, layer, len(self.records[layer])))
        self.records[layer].append({"token": token, **fields})
        return token

    def nodes(self, points: list[Point]) -> list[str]:
        return [self.add("node", x=x, y=y) for x, y in self.location.points(points)]

    def line(self, start: Point, end: Point) -> str:
        """Adds a line with nodes at least every 5 m."""
        count = math.ceil(math.dist(start, end) / 5) + 1
        points = np.linspace(start, end, count).tolist()
        return self.add("line", node_tokens=self.nodes([(x, y) for x, y in points]))

    def polygon(self, points: list[Point]) -> str:
        return self.add("polygon", exterior_node_tokens=self.nodes(points), holes=[])

    def area(self, layer: str, x: Point, y: Point, **fields: Any) -> str:
        """Adds a record with a rectangle."""
        corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
        return self.add(layer, polygon_token=self.polygon(corners), **fields)

    def divider(self, x: Point, y: float) -> list[dict[str, str]]:
        nodes = self.nodes([(x[0], y), (x[1], y)])
        return [{"node_token": node, "segment_type": "SINGLE_DASHED_WHITE"} for node in nodes]

    def lane(self, layer: str, x: Point, y: float, before: str | None) -> str:
        """Adds a lane or a lane connector that leads from `x[0]` to `x[1]` and continues the lane `before`."""
        edges = (y - LANE_WIDTH / 2, y + LANE_WIDTH / 2)
        right, left = edges if x[0] < x[1] else edges[::-1]
        fields: dict[str, Any] = {}
        if layer == "lane":
            fields = {
                "lane_type": "CAR",
                "from_edge_line_token": self.line((x[0], left), (x[0], right)),
                "to_edge_line_token": self.line((x[1], left), (x[1], right)),
                "left_lane_divider_segments": self.divider(x, left),
                "right_lane_divider_segments": self.divider(x, right),
            }
        token = self.area(layer, x, edges, **fields)
        yaw = self.location.yaw if x[0] < x[1] else self.location.yaw + math.pi
        start, end = ([*point, yaw] for point in self.location.points([(x[0], y), (x[1], y)]))
        path = {"start_pose": start, "end_pose": end, "shape": "LSR", "radius": 999.999}
        self.records["arcline_path_3"][token] = [{**path, "segment_length": [0.0, abs(x[1] - x[0]), 0.0]}]
        self.records["connectivity"][token] = {"incoming": [before] if before else [], "outgoing": []}
        if before:
            self.records["connectivity"][before]["outgoing"].append(token)
        return token


def map_layers(location: Location, token: Any) -> dict[str, Any]:
    """Returns the layers of a map.

    Args:
        location: The map.
        token: Called with what a record is; returns its token.
    """
    layers = Layers(location, token)
    both, arm = (-ROAD_EDGE, ROAD_EDGE), 90.0
    west, middle, east = (
        (world.ROAD_START, CROSSING_START),
        (CROSSING_START, CROSSING_END),
        (CROSSING_END, world.ROAD_END),
    )
    below: list[Point] = [(world.ROAD_START, -ROAD_EDGE), (middle[0], -ROAD_EDGE), (middle[0], -arm)]
    below += [(middle[1], -arm), (middle[1], -ROAD_EDGE), (world.ROAD_END, -ROAD_EDGE)]
    outline = layers.polygon(below + [(x, -y) for x, y in reversed(below)])
    drivable = layers.add("drivable_area", polygon_tokens=[outline])
    for x, y in ((middle, both), (middle, (-arm, -ROAD_EDGE)), (middle, (ROAD_EDGE, arm))):
        layers.area("road_segment", x, y, is_intersection=y == both, drivable_area_token=drivable)
    segments, blocks = [], []
    for x in (west, east):
        segments.append(layers.area("road_segment", x, both, is_intersection=False, drivable_area_token=drivable))
        layers.add("road_divider", line_token=layers.line((x[0], 0), (x[1], 0)), road_segment_token=segments[-1])
        for side in (-1, 1):
            line = layers.line((x[0], side * LANE_WIDTH), (x[1], side * LANE_WIDTH))
            divider = layers.divider(x, side * LANE_WIDTH)
            layers.add("lane_divider", line_token=line, lane_divider_segments=divider)
            layers.area("walkway", x, (side * ROAD_EDGE, side * WALK_EDGE))
        edges = [layers.line((end, -ROAD_EDGE), (end, 0)) for end in x]
        ends = {"from_edge_line_token": edges[0], "to_edge_line_token": edges[1]}
        blocks.append(layers.area("road_block", x, (-ROAD_EDGE, 0), road_segment_token=segments[-1], **ends))
    for number in range(4):
        center, before = (number - 1.5) * LANE_WIDTH, None
        for (start, end), layer in ((west, "lane"), (middle, "lane_connector"), (east, "lane"))[
            :: 1 if number < 2 else -1
        ]:
            before = layers.lane(layer, (start, end) if number < 2 else (end, start), center, before)

    crossings = [
        layers.area("ped_crossing", (start, start + 4), both, road_segment_token=segments[start > CROSSING_START])
        for start in (-40, -10, 16, 46, 70, 100)
    ]
    axes = ("tx", "ty", "tz", "rx", "ry", "rz")
    post = [*location.points([(CROSSING_START, -ROAD_EDGE)])[0], 3.0, 0.0, 0.0, location.yaw]
    bulb = {"color": "RED", "shape": "CIRCLE", "rel_pos": dict.fromkeys(axes, 0.0), "to_road_block_tokens": blocks[1:]}
    light = layers.add(
        "traffic_light",
        line_token=layers.line((CROSSING_START, -ROAD_EDGE), (CROSSING_START, -WALK_EDGE)),
        traffic_light_type="VERTICAL",
        from_road_block_token=blocks[0],
        items=[bulb],
        pose=dict(zip(axes, post, strict=True)),
    )
    for start, kind, crossing, lights in ((13, "PED_CROSSING", crossings[2:3], []), (43, "TRAFFIC_LIGHT", [], [light])):
        cues = {"stop_line_type": kind, "ped_crossing_tokens": crossing, "traffic_light_tokens": lights}
        layers.area("stop_line", (start, start + 2), (-ROAD_EDGE, 0), road_block_token=blocks[0], **cues)
    park = {"orientation": location.yaw, "road_block_token": blocks[0]}
    layers.area("carpark_area", (20, 40), (WALK_EDGE, WALK_EDGE + 8), **park)
    return layers.records


def write_map(name: str, folder: Path, token: Any) -> None:
    """Writes the layers of a map and its image, which ends 150 m after the road's origin. A pixel is 0.1 m wide."""
    location = LOCATIONS[name]
    layers = map_layers(location, token)
    (folder / "expansion").mkdir(parents=True, exist_ok=True)
    (folder / "expansion" / f"{name}.json").write_text(json.dumps(layers))
    nodes = {node["token"]: (node["x"], node["y"]) for node in layers["node"]}
    polygons = {polygon["token"]: polygon["exterior_node_tokens"] for polygon in layers["polygon"]}
    width, height = (round(10 * (value + 150)) for value in (location.x, location.y))
    image = Image.new("L", (width, height))
    tokens = [area["polygon_tokens"][0] for area in layers["drivable_area"]]
    for polygon in [*tokens, *(area["polygon_token"] for area in layers["walkway"])]:
        corners = [(10 * x, height - 10 * y) for x, y in (nodes[node] for node in polygons[polygon])]
        ImageDraw.Draw(image).polygon(corners, fill=255)
    image.save(folder / f"{location.image}.png", compress_level=1)
