"""The row of shards: runs are killed and resumed with other numbers of processes and workers."""

import io
import os
import random
import shutil
import signal
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from footplate import Hook, Runner
from footplate.data import BaseDataset, BaseTransform, DefaultSampler
from footplate.distributed import get_world_size
from footplate.registry import TRANSFORMS
from tests.faults.processes import end, fork
from tests.faults.row import Fault, Finding, Trial
from tests.support import free_port, settings

_SIZES = (37, 64, 5, 50, 48, 33)  # samples per shard
_SAMPLES = sum(_SIZES)
_BATCH = 8  # samples over all ranks
_EPOCHS = 2
_KILLS = 2
_PATIENCE = 200.0


@TRANSFORMS.register_module()
class NumberOfImage(BaseTransform):
    """Turns an image with a number into a point, and checks it against the label."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        high, low = results["img"][0, :2].tolist()
        number = high * 256 + low
        if number != results["gt_label"]:
            raise RuntimeError(f"image {number} has the label {results['gt_label']}")
        time.sleep(0.001)
        return {"inputs": torch.tensor([number / 1024, np.random.rand(), 0.0, 1.0]), "labels": number % 2}


class TarImages(BaseDataset):
    """The images in the tar files of a folder."""

    def load_data_list(self) -> list[dict[str, Any]]:
        """Returns the file, the position and the label of each image."""
        records = []
        for path in sorted(Path(self.data_root).glob("*.tar")):
            with tarfile.open(path) as archive:
                files = {member.name: member for member in archive}
                for name, member in files.items():
                    if name.endswith(".png"):
                        label = archive.extractfile(name.replace(".png", ".cls"))
                        record = {"img_path": str(path), "begin": member.offset_data, "size": member.size}
                        records.append({**record, "gt_label": int(label.read()) if label else None})
        return records

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Returns the record of an image, with the bytes of its file."""
        record = super().get_data_info(idx)
        with open(record["img_path"], "rb") as file:
            file.seek(record["begin"])
            return {**record, "file_contents": {"img_path": file.read(record["size"])}}


class NoteSamples(Hook):
    """Writes the numbers of the samples of each iteration to a file, in one line that is complete or missing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def after_train_iter(self, runner: Runner, data_batch: Any) -> None:  # type: ignore[override]
        """Writes a line, unless the batch is padding."""
        if runner.train_dataloader.is_padding:
            return
        numbers = (1024 * data_batch["inputs"][:, 0]).round().int().tolist()
        line = f"{runner.iter} {runner.epoch} {' '.join(map(str, numbers))}\n"
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, line.encode())
        os.close(descriptor)


class ShardTrials:
    """Runs over shards that are killed, and resumed with 1, 2 or 4 processes and 0 to 3 workers.

    Args:
        folder: The working folder of runs, with the shards in `data`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def trial(self, seed: int, fault: Fault | None) -> Finding:
        """Kills a run twice, resumes it, and compares the samples of each epoch with those of the dataset."""
        draw = random.Random(seed)
        place = self._folder / f"run-{seed}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        killed, codes, layouts = 0, [-signal.SIGKILL], []
        while any(codes):
            layouts.append((draw.choice((1, 2, 4)), draw.randrange(4)))
            processes = self._start(place, seed, *layouts[-1], fault)
            if killed < _KILLS:
                _await_lines(place, draw.randrange(25) * layouts[-1][0])
                time.sleep(draw.uniform(0.0, 0.05))
                for process in draw.sample(processes, len(processes)):
                    os.kill(process, signal.SIGKILL)
                codes = [end(process) for process in processes]
                killed += any(codes)
            else:
                codes = [end(process, _PATIENCE) for process in processes]
                if any(codes):
                    said = "".join(path.read_text()[-300:] for path in place.glob("*.log"))
                    return Finding(f"the resumed run ended with {codes}: {said}")
        wrong = _wrong_samples(place)
        if not wrong:
            shutil.rmtree(place)
        return Finding(wrong and f"{wrong}; processes and workers: {layouts}", {"kills": float(killed)})

    def _start(self, place: Path, seed: int, world: int, workers: int, fault: Fault | None) -> list[int]:
        port = free_port()

        def make_dataset() -> Any:
            pipeline = [{"type": "LoadImageFromFile", "color_type": "grayscale"}, {"type": "NumberOfImage"}]
            return TarImages(data_root=str(self._folder / "data"), pipeline=pipeline)

        names = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks = [{**names, "RANK": rank, "LOCAL_RANK": rank} if world > 1 else {} for rank in range(world)]
        works = [_training(place, rank, make_dataset, world, workers, fault) for rank in ranks]
        return [fork(work, place / f"{rank}.log") for rank, work in enumerate(works)]


def _png(number: int) -> bytes:
    """Returns a gray image whose first two pixels contain a number below 65536."""
    pixels = np.zeros((4, 6), np.uint8)
    pixels[0, :2] = divmod(number, 256)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def _shard(numbers: Iterable[int]) -> bytes:
    """Returns the bytes of a tar file with an image of each number, and with the number as class."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for number in numbers:
            for extension, content in {"png": _png(number), "cls": str(number).encode()}.items():
                member = tarfile.TarInfo(f"{number:05d}.{extension}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _write_shards(folder: Path) -> None:
    """Writes shards of numbered samples."""
    folder.mkdir(parents=True, exist_ok=True)
    begin = 0
    for index, size in enumerate(_SIZES):
        (folder / f"train-{index:03d}.tar").write_bytes(_shard(range(begin, begin + size)))
        begin += size


def begin_shards(folder: Path) -> Trial:
    """Writes shards and prepares the trials."""
    _write_shards(folder / "data")
    return ShardTrials(folder).trial


def _training(
    place: Path,
    names: dict[str, Any],
    make_dataset: Callable[[], Any],
    world: int,
    workers: int,
    fault: Fault | None,
) -> Callable[[], int]:
    def train() -> int:
        if fault is not None:
            fault()
        os.environ.update({name: str(value) for name, value in names.items()})
        loader = {
            "dataset": make_dataset(),
            "batch_size": _BATCH // world,
            "num_workers": workers,
            "sampler": {"type": "DefaultSampler", "shuffle": True, "round_up": False},
            "collate_fn": {"type": "default_collate"},
        }
        runner = Runner(
            **settings(
                place / "work",
                train_dataloader=loader,
                val_dataloader=None,
                val_cfg=None,
                val_evaluator=None,
                train_cfg={"by_epoch": True, "max_epochs": _EPOCHS},
                custom_hooks=[NoteSamples(place / "samples.txt")],
                default_hooks={"logger": None, "checkpoint": {"by_epoch": False, "interval": 3, "max_keep_ckpts": 3}},
                env_cfg={"dist_cfg": {"backend": "gloo"}},
                launcher="pytorch" if world > 1 else "none",
                log_level="ERROR",
                preflight=False,
                resume=True,
            )
        )
        runner.train()
        return 0

    return train


def _await_lines(place: Path, count: int) -> None:
    """Waits until the processes of a run have noted this number of batches."""
    path = place / "samples.txt"
    begun, until = path.stat().st_size if path.exists() else 0, time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if path.exists():
            with path.open("rb") as file:
                file.seek(begun)
                if file.read().count(b"\n") >= count:
                    return
        elif not count:
            return
        time.sleep(0.002)


def _wrong_samples(place: Path) -> str:
    """Describes the samples that an epoch lacks or repeats, or iterations that differ when repeated; or returns ""."""
    rounds: dict[tuple[int, int], list[int]] = defaultdict(list)
    for line in (place / "samples.txt").read_text().splitlines():
        iteration, epoch, *numbers = map(int, line.split())
        rounds[epoch, iteration] += numbers
    for epoch in range(_EPOCHS):
        found = [number for (which, _), numbers in rounds.items() if which == epoch for number in set(numbers)]
        missing, repeated = set(range(_SAMPLES)) - set(found), len(found) - len(set(found))
        if missing or repeated or len(found) != _SAMPLES:
            return f"epoch {epoch} has {len(found)} samples; {len(missing)} are missing, {repeated} are repeated"
    return ""


def _order_of_ranks() -> None:
    whole = DefaultSampler._order
    DefaultSampler._order = lambda self, epoch: whole(self, epoch + 100 * get_world_size())  # type: ignore[method-assign]


def _forgotten_batches() -> None:
    whole = DefaultSampler.iterate_from
    DefaultSampler.iterate_from = lambda self, start: whole(self, start and start + 1)  # type: ignore[method-assign]


PLANTED: dict[str, Fault] = {
    "the order depends on the number of processes": _order_of_ranks,
    "a resumed epoch begins one sample late": _forgotten_batches,
}
