"""Groups each dataset of a validation or test run with its evaluator."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from footplate.checks import check_keys
from footplate.data import SampleLoader, dataset_of, metainfo_of
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.error_context import at_key
from footplate.errors import ArgumentError
from footplate.evaluation.evaluator import Evaluator, copy_section, is_named

_logger = logging.getLogger("footplate.evaluation")


class EvaluationSet(NamedTuple):
    """A dataset to evaluate, with its dataloader and evaluator.

    Attributes:
        name: The name, which is also the prefix for metric names, as in `name/mIoU`. Empty if this is the only dataset.
        dataloader: The dataset's dataloader.
        evaluator: The evaluator, which contains the metrics.
    """

    name: str
    dataloader: Any
    evaluator: Evaluator

    @property
    def dataset(self) -> Any:
        """The dataset, or None if the dataloader is a plain iterable of batches."""
        return dataset_of(self.dataloader)

    def named(self, metrics: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a copy of `metrics` with the dataset's prefix added to the names."""
        return {f"{self.name}/{key}" if self.name else key: value for key, value in metrics.items()}


def check_classes(trained: Any, sets: Iterable[EvaluationSet], mode: str, *, train_dataset: Any = None) -> None:
    """Checks that labels refer to the same classes in the training data and in the validation or test datasets.

    A mismatch only causes a warning if the number of classes differs (an open-vocabulary model may be validated on
    other classes) or if the data is test data (which may come from another project). If the classes of a dataset
    are the names of its folders, a missing folder shifts the labels, so a mismatch is an error if the datasets share
    classes.

    Args:
        trained: The metainfo of the training data, or None.
        sets: The validation or test datasets.
        mode: "validation" or "test", for the message.
        train_dataset: The training dataset, if it has been built.

    Raises:
        ArgumentError: A label refers to a different class, although the number of classes in the validation data is
            the same, or the classes are folder names.
    """
    expected = classes_in(trained)
    for evaluation_set in sets:
        classes = classes_in(metainfo_of(evaluation_set.dataloader))
        names = [*classes, *[None] * (len(expected) - len(classes))]  # more classes are allowed
        label = next((label for label, name in enumerate(expected) if names[label] != name), None)
        if label is None or not classes:
            continue
        data = f"{mode} data '{evaluation_set.name}'" if evaluation_set.name else f"{mode} data"
        name = "not a class" if names[label] is None else f"'{names[label]}'"
        problem = f"Label {label} is '{expected[label]}' in the training data, but {name} in the {data}"
        advice = "Set the same classes, in the same order, in all datasets."
        leaves = [*innermost_datasets(train_dataset), *innermost_datasets(evaluation_set.dataset)]
        are_folders = any(getattr(leaf, "classes_are_folders", False) for leaf in leaves)
        if names[label] is not None and are_folders and any(name in expected for name in classes):
            notes = [
                advice,
                "The classes are the folder names: you can also create an empty folder for a missing class.",
            ]
        elif mode == "validation" and len(expected) == len(classes):
            notes = [advice]
        else:
            _logger.warning("%s. %s", problem, advice)
            continue
        loader = "test_dataloader" if mode == "test" else "val_dataloader"
        key = ".".join(filter(None, (loader, evaluation_set.name, "dataset")))
        raise ArgumentError(problem, key=key, notes=notes)


def classes_in(metainfo: Any) -> Sequence[Any]:
    """Returns the class names in a dataset's metadata, or an empty tuple if it contains none."""
    classes = metainfo.get("classes") if isinstance(metainfo, Mapping) else None
    return classes if isinstance(classes, (list, tuple)) else ()


def build_loaders(cfg: Any, build: Callable[[Any], Any]) -> Any:
    """Builds the loader for a section, or a dict of loaders if the section maps names to sections.

    With several processes, each sample is evaluated exactly once, although all processes read the same number of
    batches. Three places ensure this:

    1. This function disables padding in the loaders that it builds; see `SampleLoader.drop_padding`. A loader that was
       passed as an object is not changed, because it may be the training loader.
    2. The loop's `run_iter` ignores the predictions for a batch with `is_padding`, which a process without further
       samples still reads.
    3. If a loader may still repeat samples, the loop passes the size of the dataset to the metrics, and
       `collect_results` drops the results beyond it. Losses are not corrected.

    Args:
        cfg: A dataloader section, or a dict that maps dataset names to such sections.
        build: Builds a loader from its section.

    Raises:
        ArgumentError: A name contains a slash or is not a string, or the sections are a list instead of a dict.
        FootplateError: A loader cannot be built.
    """

    def build_exact(section: Any) -> Any:
        loader = build(section)
        if isinstance(loader, SampleLoader) and loader is not section:
            loader.drop_padding()
        return loader

    return map_loaders(cfg, build_exact)


def map_loaders(cfg: Any, function: Callable[[Any], Any]) -> Any:
    """Calls a function with a dataloader section, or with each section in a dict that maps names to sections.

    Returns the result, or a dict that maps the names to results. Raises the same errors as `build_loaders`.
    """
    for section in cfg if isinstance(cfg, (list, tuple)) else ():
        if hasattr(section, "dataset") or (isinstance(section, Mapping) and "dataset" in section):
            raise ArgumentError(
                "dataloaders must be passed as a dict, keyed by dataset name, and not as a list",
                notes=["Write dict(clean=..., noisy=...)."],
            )
    if not has_several_loaders(cfg):
        return function(cfg)
    results = {}
    for name, section in cfg.items():
        if not isinstance(name, str) or "/" in name or not name:
            raise ArgumentError("a dataset name must be a non-empty string without '/'", key=str(name), found=name)
        with at_key(name):
            results[name] = map_loaders(section, function)
    return results


def map_evaluators(cfg: Any, loaders: Any, function: Callable[[Any], Any]) -> Any:
    """Calls a function with an evaluator section. For several loaders, calls it with a section for each loader.

    Returns the result, or a dict that maps the dataset names to results.

    Args:
        cfg: An evaluator section (see `build_evaluator`), or a dict that maps dataset names to such sections. A single
            section is copied for each dataset. A dict of functions and objects is treated as a single section if none
            of its keys is a dataset name.
        loaders: A loader or its section, or a dict of these, keyed by dataset name.
        function: A function of a section, which builds or checks an evaluator.

    Raises:
        ArgumentError: A dataset has no evaluator, or an evaluator has no dataset.
    """
    if not isinstance(loaders, Mapping):
        return function(cfg)
    is_section = not isinstance(cfg, Mapping) or "type" in cfg or "metrics" in cfg
    if is_section or (is_named(cfg) and cfg.keys().isdisjoint(loaders)):
        return {name: function(copy_section(cfg)) for name in loaders}
    check_keys("the evaluators", cfg, loaders)
    results = {}
    for name in loaders:
        if name not in cfg:
            raise ArgumentError(
                f"the dataset '{name}' has no evaluator", key=name, notes=[f"evaluators: {', '.join(cfg) or 'none'}"]
            )
        with at_key(name):
            results[name] = function(cfg[name])
    return results


def build_evaluation_sets(loaders: Any, evaluators: Any) -> list[EvaluationSet]:
    """Groups each loader with its evaluator, and passes the dataset to the evaluator.

    Args:
        loaders: A loader, or a dict that maps names to loaders.
        evaluators: An evaluator, or a dict that maps the same names to evaluators.
    """
    if not isinstance(loaders, Mapping):
        loaders = {"": loaders}
        evaluators = {"": evaluators}
    sets = []
    for name, loader in loaders.items():
        evaluation_set = EvaluationSet(name, loader, evaluators[name])
        evaluation_set.evaluator.attach(evaluation_set.dataset)
        evaluation_set.evaluator.set_context(dataset=name)
        sets.append(evaluation_set)
    return sets


def sets_of(loop: Any) -> Sequence[EvaluationSet]:
    """Returns the evaluation sets of a loop, or an empty list if `loop` is None.

    For a training loop or a custom loop, returns a single set without metrics.
    """
    if loop is None:
        return []
    return loop.sets or [EvaluationSet("", loop.dataloader, Evaluator([]))]


def has_several_loaders(cfg: Any) -> bool:
    """Checks whether a dataloader section is a dict that maps dataset names to loaders."""
    if not isinstance(cfg, Mapping) or not cfg or "dataset" in cfg:
        return False
    return all(
        "dataset" in part if isinstance(part, Mapping) else hasattr(part, "__iter__") and not isinstance(part, str)
        for part in cfg.values()
    )
