"""Records what a run reads and computes, in files that survive a SIGKILL."""

import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from footplate.data import capture_rng, dataset_of
from footplate.data.dataset_wrappers import wrapped_datasets
from footplate.distributed import unwrap_model
from footplate.engine import Hook, Run
from footplate.evaluation.evaluation_sets import sets_of
from footplate.testing.digests import digest, digest_attributes, leaves


class Record(NamedTuple):
    """What a run read or computed at one point.

    Attributes:
        kind: What was recorded, such as "batch" or "metrics".
        place: Where, such as "iteration 7" or "validation after iteration 8, batch 2".
        values: Digests, keyed by the path of the value.
    """

    kind: str
    place: str
    values: Mapping[str, str]


class Sample(NamedTuple):
    """A sample of a batch.

    Attributes:
        index: The index in the dataset.
        digest: The digest of what the dataset returned.
        steps: The class and the digest of the output of each transform, in the order of the calls.
    """

    index: Any
    digest: str
    steps: list[tuple[str, str]]


class Batch(NamedTuple):
    """The samples of a batch, and the attributes of the dataset before it was read."""

    samples: list[Sample]
    attributes: Mapping[str, str]


class Trace(NamedTuple):
    """The records of one process. `batches` is keyed by the digest of the batch."""

    records: list[Record]
    batches: dict[str, Batch]

    @classmethod
    def read(cls, folder: Path) -> "Trace":
        """Reads the records in a folder."""
        batches = {key: batch for path in sorted(folder.glob("batches-*")) for key, batch in _read(path)}
        return cls([*_read(folder / "records")], batches)

    @classmethod
    def of_all(cls, traces: Sequence["Trace"]) -> "Trace":
        """Returns the samples that several processes read together, which do not depend on the number of processes."""
        samples: dict[str, dict[str, str]] = {}
        for trace in traces:
            for record in trace.records:
                batch = trace.batches.get(record.values[""]) if record.kind == "batch" else None
                for sample in batch.samples if batch is not None else ():
                    place = record.place.partition(",")[0]  # the batches of a validation have other sizes
                    samples.setdefault(place, {})[str(sample.index)] = sample.digest
        return cls([Record("samples", place, digests) for place, digests in samples.items()], {})


def _append(path: Path, value: Any) -> None:
    with path.open("ab") as file:
        file.write(pickle.dumps(value))


def _read(path: Path) -> Iterator[Any]:
    """Yields the values in a file, whose last one may be incomplete."""
    with suppress(EOFError, pickle.UnpicklingError, FileNotFoundError), path.open("rb") as file:
        while True:
            yield pickle.load(file)


class BatchRecorder(Hook):
    """Records the batches before other hooks can change them, and reports what the run is doing.

    Args:
        folder: The folder for the records.
        report: Called with the phase ("step", "validation" or "save") and the iteration in which it begins.
    """

    priority = "HIGHEST"

    def __init__(self, folder: Path, report: Callable[[tuple[str, int]], None]) -> None:
        self._folder = folder
        self._report = report
        self._val_batches = 0  # of the current validation, which may have several datasets

    def before_run(self, runner: Run) -> None:
        """Starts to record the samples."""
        for loop in (runner.train_loop, runner.val_loop):
            for chosen in sets_of(loop):
                _record_samples(getattr(chosen.dataloader, "loader", chosen.dataloader), self._folder)

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Records the training batch."""
        self._write("batch", f"iteration {runner.iter + 1}", {"": digest(data_batch)})
        self._report(("step", runner.iter + 1))

    def before_val(self, runner: Run) -> None:
        """Starts to count the batches."""
        self._val_batches = 0

    def before_val_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Records the validation batch."""
        self._val_batches += 1
        place = f"the validation after iteration {runner.completed.iter}, batch {self._val_batches}"
        self._write("batch", place, {"": digest(data_batch)})
        self._report(("validation", runner.completed.iter))

    def before_save_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Reports that a save begins."""
        self._report(("save", runner.completed.iter))

    def _write(self, kind: str, place: str, values: Mapping[str, str]) -> None:
        _append(self._folder / "records", Record(kind, place, values))


class StateRecorder(BatchRecorder):
    """Records the state of the run and its results after all other hooks.

    Records the objects of the user with their attributes, because a checkpoint contains only what has a `state_dict`.
    """

    priority = "LOWEST"

    _has_begun = False

    def before_run(self, runner: Run) -> None:
        """Does nothing."""

    def before_train(self, runner: Run) -> None:
        """Starts to record checkpoints. The preflight check has collected one already."""
        self._has_begun = True

    def before_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Records the state in which the step begins."""
        place, model = f"iteration {runner.iter + 1}", unwrap_model(runner.model)
        weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        loader = runner.train_loop.dataloader
        hooks = [hook for hook in runner.hooks if not isinstance(hook, BatchRecorder)]
        samplers = {name: getattr(loader, name, None) for name in ("sampler", "batch_sampler")}
        roots = {"hooks": hooks, "dataset": dataset_of(loader), "model": model, "optim_wrapper": runner.optim_wrapper}
        self._write("attributes", place, digest_attributes({**roots, **samplers}))
        self._write("weights", place, {name: digest(value) for name, value in weights.items()})
        self._write("random", place, {name: digest(state) for name, state in capture_rng().items()})

    def before_val_iter(self, runner: Run, batch_idx: int, data_batch: Any = None) -> None:
        """Does nothing."""

    def after_train_iter(self, runner: Run, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Records the losses."""
        self._write("losses", f"iteration {runner.completed.iter}", {k: digest(v) for k, v in leaves(outputs, "")})

    def after_val_epoch(self, runner: Run, metrics: Mapping[str, float] | None = None) -> None:
        """Records the metrics."""
        place = f"the validation after iteration {runner.completed.iter}"
        metrics_of_sets = [metric for chosen in sets_of(runner.val_loop) for metric in chosen.evaluator.metrics]
        self._write(
            "attributes", place, digest_attributes({"metrics": metrics_of_sets, "model": unwrap_model(runner.model)})
        )
        self._write("metrics", place, {name: digest(value) for name, value in (metrics or {}).items()})

    def before_save_checkpoint(self, runner: Run, checkpoint: dict[str, Any]) -> None:
        """Records the checkpoint."""
        if not self._has_begun:
            return
        values = {path.lstrip("."): digest(value) for path, value in leaves(checkpoint, "") if _counts(path)}
        self._write("checkpoint", f"the checkpoint after iteration {runner.completed.iter}", values)


def _counts(path: str) -> bool:
    """Checks whether a value of a checkpoint does not depend on the time, as `last_ckpt` of a background save does."""
    return not path.startswith(".meta.") and path != ".message_hub.runtime_info.last_ckpt"


def _record_samples(loader: Any, folder: Path) -> None:
    """Records what a loader's dataset and its transforms return, also in worker processes.

    The file of each process contains the samples of each batch that it collates. Nothing is recorded of a loader
    without a `collate_fn`, or of one that pickles its dataset to send it to workers.
    """
    collate = getattr(loader, "collate_fn", None)
    context = getattr(loader, "multiprocessing_context", None) or multiprocessing
    if collate is None or (loader.num_workers and context.get_start_method() != "fork"):
        return
    dataset, samples, steps, attributes = loader.dataset, list[Sample](), list[tuple[str, str]](), dict[str, str]()

    def before_sample() -> None:
        if not samples and not attributes:
            attributes.update(digest_attributes({"dataset": dataset}))

    def after_sample(sample: Any, index: Any, *_: Any) -> None:
        samples.append(Sample(index, digest(sample), [*steps]))
        steps.clear()

    def collate_and_record(items: Any) -> Any:
        batch = collate(items)
        _append(folder / f"batches-{os.getpid()}", (digest(batch), Batch([*samples], {**attributes})))
        for recorded in (samples, attributes):
            recorded.clear()
        return batch

    for transform in _transforms_of(dataset):
        name = type(transform).__name__
        _wrap_method(transform, "__call__", after=lambda output, *_, name=name: steps.append((name, digest(output))))
    _wrap_method(dataset, "__getitem__", before=before_sample, after=after_sample)
    loader.collate_fn = collate_and_record


def _transforms_of(dataset: Any) -> list[Any]:
    """Returns the transforms of a dataset and of those that it wraps, except for functions."""
    found: dict[int, Any] = {}
    for value in getattr(dataset, "__dict__", {}).values():
        pending = [value]
        while pending:
            transform = pending.pop()
            inner = getattr(transform, "transforms", None)
            if isinstance(inner, (list, tuple)):
                pending += reversed(inner)
            elif isinstance(transform, (list, tuple)):
                pending += reversed(transform[:100])
            elif callable(transform) and hasattr(transform, "__dict__") and not isinstance(transform, type):
                found[id(transform)] = transform
    return [*found.values(), *(each for inner in wrapped_datasets(dataset) for each in _transforms_of(inner))]


def _wrap_method(
    instance: Any, name: str, *, after: Callable[..., None], before: Callable[[], None] = lambda: None
) -> None:
    """Calls functions before and after a special method of one object, by giving it a subclass of its class."""
    kind = type(instance)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        before()
        result = getattr(super(changed, self), name)(*args, **kwargs)
        after(result, *args)
        return result

    with suppress(TypeError):  # a class that does not allow it: its samples are compared without this step
        changed = type(kind.__name__, (kind,), {name: wrapped, "__module__": kind.__module__, "__doc__": kind.__doc__})
        instance.__class__ = changed
