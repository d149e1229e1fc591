"""Predicts on the batches of data loaders, for `Runner.predict`."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from torch import Tensor

from footplate.data import SampleLoader, batches
from footplate.data.samplers import RANDOM_SAMPLERS, samplers_of
from footplate.distributed import gather_objects
from footplate.engine.loops.base_loops import BaseLoop
from footplate.engine.loops.evaluation_loops import predicting
from footplate.engine.values.hook import SwappingHook
from footplate.errors import ArgumentError
from footplate.evaluation.evaluation_sets import has_several_loaders, sets_of

if TYPE_CHECKING:
    from footplate.engine.run.runner import Runner


def predict(runner: "Runner", dataloader: Any, *, gather: bool) -> list[Any]:
    """Returns the predictions for all batches of a loader, or else of all test sets; see `Runner.predict`."""
    if dataloader is not None:
        loaders = [runner.build_dataloader(dataloader, runner.seed)]
    elif runner.test_loop is None:
        raise ArgumentError("predict needs a data loader, because the run has no test loop", key="dataloader")
    else:
        loaders = [dataset.dataloader for dataset in sets_of(runner.test_loop)]
    for loader in loaders:
        if gather:
            _refuse_shuffling(loader)
        # A loader that was passed as an object is not changed, because it may be the training loader.
        if isinstance(loader, SampleLoader) and loader is not dataloader:
            loader.drop_padding()
    pairs = [(loader, _loop_with_data(runner, loader)) for loader in loaders]
    runner.load_or_resume(whole_model=True, for_training=False)
    with runner.phase("test"):
        runner.model.eval()
        # Only hooks that affect predictions. `phase` then restores the weights; a predictor stays in its loop.
        for hook in runner.hooks:
            if isinstance(hook, SwappingHook) or hook.sets_predictor:
                hook.before_run(runner)
                hook.before_test_epoch(runner)
        outputs = [_predictions(runner, loader, loop) for loader, loop in pairs]
        return [each for part in outputs for each in (_gathered(part) if gather else part)]


def _gathered(outputs: Iterable[Any]) -> Iterator[Any]:
    """Yields the predictions of all ranks for each sample, in the order of the dataset.

    Rank r of n has the predictions for the samples r, r + n, r + 2n, ...
    """
    ranks = gather_objects([sample for output in outputs for sample in _split(output)])
    nothing = object()
    for samples in zip_longest(*ranks, fillvalue=nothing):
        yield from (sample for sample in samples if sample is not nothing)


def _split(output: Any, name: str = "") -> list[Any]:
    """Splits the prediction for a batch into those for its samples. `name` is its key in a dict, for errors.

    Raises:
        ArgumentError: The prediction has no samples.
    """
    if isinstance(output, Mapping):
        columns = [_split(value, f"'{key}' in ") for key, value in output.items()]
        return [dict(zip(output, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(output, tuple):
        return list(zip(*(_split(part, name) for part in output), strict=True))
    if isinstance(output, Tensor) and output.ndim:
        return [row.clone() for row in output.cpu()]  # sending a view would send the whole batch
    if isinstance(output, list):
        return output
    notes = ["Return a tensor or a list with one entry per sample, or a tuple or dict of these, from validation_step."]
    problem = f"gather=True needs one entry per sample in {name}the predictions"
    raise ArgumentError(problem, key="gather", found=output, notes=notes)


def _refuse_shuffling(loader: Any) -> None:
    """Raises an error if the sampler of a loader shuffles, because the predictions would be in another order."""
    for sampler in samplers_of(loader):
        if isinstance(sampler, RANDOM_SAMPLERS) or getattr(sampler, "shuffle", False) is True:
            notes = ["Pass a loader with shuffle=False."]
            raise ArgumentError(
                "with gather=True, the loader must not shuffle", key="dataloader", found=sampler, notes=notes
            )


def _loop_with_data(runner: "Runner", loader: Any) -> Any:
    """Returns the test or validation loop with the data of a loader, or None. Loops with other data are not built."""
    data = _data_of(loader)
    for mode in ("test", "val"):
        section = runner.plan[f"{mode}_dataloader"]
        loaders = list(section.values()) if has_several_loaders(section) else [section]
        loaders += [part.dataloader for part in sets_of(runner.built.get(f"{mode}_loop"))]
        if any(_data_of(part) is data for part in loaders):
            return getattr(runner, f"{mode}_loop")
    return None


def _data_of(loader: Any) -> Any:
    """Returns the dataset of a loader or dataloader section, or else the loader itself, which is a plain iterable.

    A loader and its converted copy have the same dataset.
    """
    return loader.get("dataset") if isinstance(loader, Mapping) else getattr(loader, "dataset", loader)


def _predictions(runner: "Runner", loader: Any, loop: Any) -> Iterator[Any]:
    """Predicts with the settings of a loop or, if it is None, of the test or validation loop in the config."""
    if loop is None:
        loop = runner.plan["val_cfg"] if runner.plan["test_cfg"] is None else runner.plan["test_cfg"]
    fp16 = predictor = None
    if isinstance(loop, BaseLoop):
        fp16, predictor = loop.fp16, loop.predictor
    elif loop:
        fp16 = loop.get("fp16")
    for batch in batches(loader):
        with predicting(runner.device, fp16, inference_mode=True):
            output = (predictor or runner.model).test_step(batch)
        if not getattr(loader, "is_padding", False):  # a rank out of samples repeats one
            yield output
