"""Finds the first difference between two recorded runs, and its cause."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from footplate.messages import list_names
from footplate.testing.recording import Batch, Record, Trace

_RESULTS = ("state_dict.", "ema_state_dict.", "optimizer.", "param_schedulers.")
_MAX_NAMES = 4
Noise = Collection[tuple[str, str]]
"""The kinds and paths of values that differ between two uninterrupted runs, such as times."""


class Difference(NamedTuple):
    """The first difference between two runs.

    Attributes:
        what: The value that differs, and where.
        causes: The attributes that differed before.
        remedy: What to do.
    """

    what: str
    causes: Sequence[str]
    remedy: str


def find_noise(one: Trace, other: Trace) -> Noise:
    """Returns the values that do not count, because they differ although neither run was interrupted."""
    return {
        (record.kind, path)
        for record, paths in _differences(one, other, ())
        for path in paths
        if record.kind == "attributes" or (record.kind == "checkpoint" and not path.startswith(_RESULTS))
    }


def find_difference(expected: Trace, trace: Trace, noise: Noise = ()) -> Difference | None:
    """Returns the first difference between a run and the expected one, or None."""
    differences = [*_differences(expected, trace, noise)]
    first = next((number for number, (record, _) in enumerate(differences) if record.kind != "attributes"), None)
    if first is None:
        return None
    record, paths = differences[first]
    # A batch is recorded before the attributes of its iteration.
    before = [other for other in differences[first:] if other[0].place == record.place]
    causes = [path for other, found in [*differences[:first], *before] if other.kind == "attributes" for path in found]
    return _explain(expected, trace, record, paths, list(dict.fromkeys(causes)))


def find_lost_attributes(expected: Trace, trace: Trace, noise: Noise) -> list[str]:
    """Returns the attributes that differ from those of the expected run, without any other difference."""
    found = [
        path for record, paths in _differences(expected, trace, noise) for path in paths if record.kind == "attributes"
    ]
    return list(dict.fromkeys(found))


def _differences(expected: Trace, trace: Trace, noise: Noise) -> Iterator[tuple[Record, list[str]]]:
    """Yields the records that differ from the expected ones, with the paths that differ.

    A run may save twice at one place, and a resumed run may repeat only the second save.
    """
    base: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for record in expected.records:
        base.setdefault((record.kind, record.place), []).append(record.values)
    for record in trace.records:
        candidates = [
            [path for path in _changed(values, record.values) if (record.kind, path) not in noise]
            for values in base.get((record.kind, record.place), [{}])
        ]
        if paths := min(candidates, key=len):
            yield record, paths


def _explain(expected: Trace, trace: Trace, record: Record, paths: Sequence[str], causes: list[str]) -> Difference:
    place, names = record.place, list_names([path.lstrip(".") for path in paths], _MAX_NAMES)
    if record.kind != "batch":
        what = place if record.kind == "checkpoint" else f"{record.kind} of {place}"
        return Difference(f"{what}: {names}", causes, _remedy(record.kind, causes))
    base = {each.place: each.values[""] for each in expected.records if each.kind == "batch"}
    if place not in base:
        return Difference(f"{place}, which the uninterrupted run does not have", causes, _remedy("order", causes))
    wanted, found = expected.batches.get(base[place]), trace.batches.get(record.values[""])
    if wanted is None or found is None:
        return Difference(f"the batch of {place}", causes, _remedy("order", causes))
    return _explain_batch(place, wanted, found, causes)


def _explain_batch(place: str, wanted: Batch, found: Batch, causes: list[str]) -> Difference:
    indices = [[sample.index for sample in batch.samples] for batch in (wanted, found)]
    if indices[0] != indices[1]:
        texts = [list_names(each, 2 * _MAX_NAMES) for each in indices]
        return Difference(f"the samples of {place}: {texts[1]} instead of {texts[0]}", causes, _remedy("order", causes))
    lost = _changed(wanted.attributes, found.attributes)
    causes = [*causes, *(path for path in lost if path not in causes)]
    for one, other in zip(wanted.samples, found.samples, strict=True):
        if one.digest != other.digest:
            steps = zip(one.steps, other.steps, strict=False)
            step = next((mine[0] for mine, yours in steps if mine != yours), "the dataset")
            return Difference(f"sample {one.index} of {place}: the output of {step}", causes, _remedy("sample", causes))
    return Difference(f"the batch of {place}, as it was collated", causes, _remedy("sample", causes))


def _changed(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return [path for path in {**one, **other} if one.get(path) != other.get(path)]


def _remedy(kind: str, causes: Sequence[str]) -> str:
    """Returns what to do about a difference of a kind."""
    if kind == "order":
        return "Make the sampler's order depend only on `set_epoch` and its seed, or give it a `state_dict`."
    if kind in ("sample", "samples"):
        return (
            "Draw random numbers from Python's, NumPy's or torch's global generator, which footplate seeds for each "
            "sample, and keep nothing of earlier samples that changes later ones."
        )
    if any(cause.startswith("hooks[") for cause in causes):
        return "Give the hook a `state_dict` and a `load_state_dict`."
    if any(cause.startswith("model.") for cause in causes):
        return "Register the value as a persistent buffer, or define `get_extra_state` and `set_extra_state`."
    if kind == "metrics":
        return "Make the metric depend only on the predictions of its validation run."
    if causes:
        return "Move the state into an object whose `state_dict` the run saves, such as a hook."
    return "Look for a random generator or a counter in a global variable, or for values that depend on the time."
