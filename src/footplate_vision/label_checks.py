"""Checks that the parts of a run agree on the number of classes and on the ignored label."""

import logging
from typing import Any

from footplate.data import dataset_of
from footplate.data.dataset_wrappers import innermost_datasets
from footplate.data.loader_attributes import metainfo_in
from footplate.distributed import unwrap_model
from footplate.engine import Hook, Run, Runner
from footplate.error_context import at_key, join_path, location_prefix, origin_at, walk_paths
from footplate.errors import ArgumentError, is_own_module
from footplate.evaluation.evaluation_sets import classes_in, sets_of
from footplate.messages import list_names
from footplate.registry import HOOKS

_logger = logging.getLogger("footplate.vision")
# Modules that only distinguish objects from the background, or that do not use their `num_classes`.
_EXEMPT = ("rpn_head", "backbone")
_MAX_NAMES = 12


@HOOKS.register_module()
class NumClassCheckHook(Hook):
    """Raises an error if the number of classes differs between a head and a training or validation dataset.

    For a dataset without class names, logs a warning instead.
    """

    priority = "NORMAL"

    def before_run(self, runner: Run) -> None:
        """Compares the model with the training and validation datasets.

        Raises:
            ArgumentError: A head and a dataset have different numbers of classes.
        """
        for name in ("train_loop", "val_loop"):
            for evaluation_set in sets_of(runner.built.get(name)):
                parts = (name.replace("loop", "dataloader"), evaluation_set.name, "dataset")
                self._check(runner, evaluation_set.dataset, key=".".join(filter(None, parts)))

    def _check(self, runner: Run, dataset: Any, key: str) -> None:
        with at_key(key):
            classes = classes_of(dataset)
        if classes is None:
            name = type(dataset).__name__
            _logger.warning("The dataset '%s' at %s has no class names, so num_classes is not checked.", name, key)
            return
        _check_model(runner, dataset, classes, key)


def _check_model(runner: Run, dataset: Any, classes: Any, key: str, *, only_own: bool = False) -> None:
    """Compares the modules of the model, or `only_own` modules of footplate, with the classes of a dataset.

    Raises:
        ArgumentError: The numbers of classes differ.
    """
    for name, module in unwrap_model(runner.model).named_modules():
        count = getattr(module, "num_classes", None)
        if not isinstance(count, int) or count < 1 or name.rpartition(".")[2] in _EXEMPT:
            continue
        if count != len(classes) and (not only_own or is_own_module(type(module).__module__)):
            raise ArgumentError(
                f"{repr(name) if name else 'the model'} has {count} classes, but the dataset "
                f"'{type(dataset).__name__}' has {len(classes)}: {list_names(classes, _MAX_NAMES) or 'none'}",
                key=".".join(filter(None, ("model", name, "num_classes"))),
                found=count,
                notes=[f"The dataset is defined in {key}."],
            )


def check_num_classes(runner: Runner) -> None:
    """Compares every `num_classes` of the model with the number of classes in the training data.

    Warns about differences in the config of models of other packages. There, ignores backbones, any `num_classes` of 1,
    region proposal heads (which have one class), and semantic segmentation heads (which have their own classes).

    Raises:
        ArgumentError: A module of footplate has a different number of classes.
    """
    dataset = dataset_of(runner.train_dataloader)
    classes = classes_in(metainfo_in(dataset))
    if classes:
        _check_model(runner, dataset, classes, "train_dataloader.dataset", only_own=True)
    cfg, count = {"model": runner.plan["model"]}, len(classes)
    for path, value in walk_paths(cfg) if count else ():
        is_own = any(word in str(part) for part in path for word in ("rpn", "semantic", "backbone"))
        if path[-1] == "num_classes" and type(value) is int and value not in (1, count) and not is_own:
            place = location_prefix(origin_at(cfg, path)) + join_path(path)
            _logger.warning("%s is %d, but the number of classes in the training data is %d.", place, value, count)


def warn_about_ignored_labels(runner: Any) -> None:
    """Warns if the model, its padding, the datasets and the metrics do not all use the same label for ignored pixels.

    Only compares models in which a module has both `num_classes` and `ignore_index`, as segmentation models have.
    """
    model = runner.unwrapped_model
    parts = [
        (".".join(filter(None, ("model", name, "ignore_index"))), module.ignore_index)
        for name, module in model.named_modules()
        if hasattr(module, "num_classes") and hasattr(module, "ignore_index")
    ]
    if not parts:
        return
    padding = getattr(getattr(model, "data_preprocessor", None), "seg_pad_val", None)
    parts.append(("model.data_preprocessor.seg_pad_val", padding))
    for section in ("train", "val"):
        for chosen in sets_of(getattr(runner, f"{section}_loop")):
            key = ".".join(filter(None, (f"{section}_dataloader", chosen.name, "dataset.ignore_index")))
            parts += [(key, getattr(leaf, "ignore_index", None)) for leaf in innermost_datasets(chosen.dataset)]
            for index, metric in enumerate(chosen.evaluator.metrics):
                key = f"{chosen.evaluator.metric_key(index)}.ignore_index"
                parts.append((key, getattr(metric, "ignore_index", None)))
    labels = dict.fromkeys((key, label) for key, label in parts if isinstance(label, int))
    if len({label for _, label in labels}) > 1:
        _logger.warning(
            "The parts of the run ignore different labels: %s. The model's ignore_index affects the loss, and the "
            "metric's affects the scores. Use the same label everywhere.",
            list_names([f"{key}={label}" for key, label in labels], _MAX_NAMES),
        )


def classes_of(dataset: Any) -> Any:
    """Returns the class names of a first- or second-generation dataset, or None if it has none.

    Raises:
        ArgumentError: The classes are a single string. For example, 'person' is probably meant to be `('person',)`.
    """
    metainfo = metainfo_in(dataset) or {}
    classes = getattr(dataset, "CLASSES", None) or metainfo.get("classes", metainfo.get("CLASSES"))
    if isinstance(classes, str):
        raise ArgumentError(
            f"the classes of '{type(dataset).__name__}' must be a sequence, not a string",
            key="metainfo.classes",
            found=classes,
            notes=[f"For a single class, write ('{classes}',)."],
        )
    return classes
