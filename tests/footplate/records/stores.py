"""Reads back the output of each writer, with the library's own reader if it has one, else from its files."""

import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image


@dataclass
class Found:
    """The content of a store for one run."""

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    pictures: dict[tuple[str, int], Any] = field(default_factory=dict)
    config: Any = None
    runs: set[str] = field(default_factory=set)

    def add(self, name: str, step: int, value: Any) -> None:
        """Adds one number."""
        self.scalars.setdefault(name, []).append((int(step), float(value)))


def read_local(folder: Path) -> Found:
    """Reads scalars.json, config.py and the images."""
    found = Found(config=(folder / "config.py").read_text(), runs={"one"})
    for line in (folder / "scalars.json").read_text().splitlines():
        values = json.loads(line)
        step = values.pop("step")
        for name, value in values.items():
            found.add(name, step, value)
    for path in (folder / "vis_image").rglob("*.png"):
        name, _, step = str(path.relative_to(folder / "vis_image").with_suffix("")).rpartition("_")
        found.pictures[name, int(step)] = _pixels(path)
    return found


def read_tensorboard(folder: Path) -> Found:
    """Reads through TensorBoard's own accumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    found = Found(runs={"one"})
    found.config = events.Tensors("config/text_summary")[-1].tensor_proto.string_val[0].decode()
    for name in events.Tags()["scalars"]:
        # Files of the same second are sorted by names with a counter of writers, in which the tenth precedes the ninth.
        for each in sorted(events.Scalars(name), key=lambda event: event.wall_time):
            found.add(name, each.step, each.value)
    for name in events.Tags()["images"]:
        for each in events.Images(name):
            found.pictures[name, each.step] = (each.height, each.width)
    return found


def read_wandb(folder: Path) -> Found:
    """Reads the records of the offline runs, which `wandb sync` would send."""
    from wandb.proto import wandb_internal_pb2  # type: ignore[import-not-found, unused-ignore]

    found = Found(config={})
    for path in sorted(folder.rglob("wandb/offline-run-*/run-*.wandb")):
        for record in _wandb_records(path, wandb_internal_pb2.Record):
            if record.HasField("run"):
                found.runs.add(record.run.run_id)
            for item in [*record.run.config.update, *record.config.update]:  # set by `init` and later
                found.config[item.key] = json.loads(item.value_json)
            values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            _keep_wandb(found, {key: json.loads(value) for key, value in values.items()}, path.parent / "files")
    return found


def _wandb_records(path: Path, kind: Any) -> list[Any]:
    """Returns the records of a run; a background process of the library may still be writing after the run ended."""
    for _ in range(300):
        records = [kind.FromString(data) for data in _log_records(path)]
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def _keep_wandb(found: Found, values: dict[str, Any], files: Path) -> None:
    if "step" not in values:
        return
    step = int(values["step"])
    pictures = [key.removesuffix("/_type") for key in values if key.endswith("/_type")]
    for name in pictures:
        found.pictures[name, step] = _pixels(files / values[f"{name}/path"])
    for name, value in values.items():
        of_a_picture = name.rpartition("/")[0] in pictures
        if not name.startswith("_") and name != "step" and isinstance(value, (int, float)) and not of_a_picture:
            found.add(name, step, value)


def read_mlflow(folder: Path) -> Found:
    """Reads through MLflow's own client."""
    from mlflow import MlflowClient, artifacts  # type: ignore[import-not-found, unused-ignore]

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    found = Found(runs={run.info.run_id for run in runs})
    for run in runs:
        found.config = run.data.params
        for name in run.data.metrics:
            for each in client.get_metric_history(run.info.run_id, name):
                found.add(name, each.step, each.value)
        for each in client.list_artifacts(run.info.run_id):
            if each.path.endswith(".png"):
                name, _, step = each.path.removesuffix(".png").rpartition("_")
                path = artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=each.path)
                found.pictures[name, int(step)] = _pixels(Path(path))
    return found


def read_clearml(folder: Path) -> Found:
    """Reads the offline sessions, which `Task.import_offline_session` would send."""
    found = Found()
    for session in sorted(Path(os.environ["CLEARML_CACHE_DIR"]).glob("offline/offline-*/")):
        if not session.is_dir():
            continue
        task = json.loads((session / "task.json").read_text())
        found.runs.add(task["id"])
        found.config = task["configuration"]["config"]["value"]
        for line in (session / "metrics.jsonl").read_text().splitlines():
            for event in json.loads(line):
                if event["type"] == "training_stats_scalar":
                    found.add(event["metric"], event["iter"], event["value"])
                elif event["type"] == "training_debug_image":
                    with Image.open(event["url"]) as image:
                        found.pictures[event["metric"], event["iter"]] = (image.height, image.width)
    return found


def read_swanlab(folder: Path) -> Found:
    """Reads the records of the offline runs of SwanLab's own writer, which `swanlab sync` would send."""
    from swanlab.proto.swanlab.record.v1 import record_pb2  # type: ignore[import-not-found, unused-ignore]

    found = Found()
    for path in sorted(folder.glob("run-*/run-*.swanlab")):
        config = yaml.safe_load((path.parent / "files/config.yaml").read_text())
        found.config = {key: entry["value"] for key, entry in config.items()}
        for data in _log_records(path):
            record = record_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("start"):
                found.runs.add(record.start.id)
            elif record.HasField("scalar") and not record.scalar.key.startswith("__swanlab__."):  # of the machine
                found.add(record.scalar.key, record.scalar.step, record.scalar.value.number)
            elif record.HasField("media"):
                picture = path.parent / "media/image" / record.media.value.items[0].filename
                found.pictures[record.media.key, record.media.step] = _pixels(picture)
    return found


def read_dvclive(folder: Path) -> Found:
    """Reads DVCLive's tables, parameters and images."""
    found = Found(config=yaml.safe_load((folder / "params.yaml").read_text()), runs={"one"})
    for path in (folder / "plots/metrics").rglob("*.tsv"):
        name = str(path.relative_to(folder / "plots/metrics").with_suffix(""))
        for line in path.read_text().splitlines()[1:]:
            step, value = line.split("\t")
            found.add(name, int(step), value)
    for path in (folder / "plots/images").rglob("*.png"):
        name, _, step = path.stem.rpartition("_")
        found.pictures[name, int(step)] = _pixels(path)
    return found


READERS: dict[str, Callable[[Path], Found]] = {
    "LocalVisBackend": read_local,
    "TensorboardVisBackend": read_tensorboard,
    "WandbVisBackend": read_wandb,
    "MLflowVisBackend": read_mlflow,
    "ClearMLVisBackend": read_clearml,
    "DVCLiveVisBackend": read_dvclive,
}


def _pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return np.asarray(image)


def _log_records(path: Path) -> Iterator[bytes]:
    """Yields the records of a log in LevelDB's format: blocks of 32 KiB, each piece with checksum, length and kind."""
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        piece = data[at + 7 : at + 7 + length]
        at += 7 + length
        parts = piece if kind in (1, 2) else parts + piece
        if kind in (1, 4):
            yield parts
