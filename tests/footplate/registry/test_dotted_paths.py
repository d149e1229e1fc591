"""A dotted path may name registered classes, user classes, and the listed torch classes."""

import sys
from pathlib import Path
from typing import Any

import pytest

from footplate import Config, Runner
from footplate.engine.plan.plan import RunPlan
from footplate.errors import BuildError
from footplate.registry import DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS, OPTIMIZERS, Registry
from tests.docs.pages import DOCS
from tests.support import settings

DECODER = "torch.utils.data.datapipes.iter.RoutedDecoder"


def test_yaml_config_unpickles_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    pickled = f"cposix\nsystem\n(S'touch {mark}'\ntR."
    dataset = {"type": DECODER, "datapipe": [["a.pkl", pickled.encode()]], "handlers": []}
    cfg = settings(tmp_path / "work", train_dataloader={"dataset": dataset, "batch_size": 1})
    path = tmp_path / "config.yaml"
    Config({**cfg, "default_hooks": {}}).dump(path)
    for act in (lambda read: RunPlan.from_config(read).check(), lambda read: Runner.from_cfg(read).train()):
        with pytest.raises(BuildError, match="must not refer") as caught:
            act(Config.fromfile(path))
    assert caught.value.found == DECODER
    assert len(str(caught.value).splitlines()) <= 6
    assert not mark.exists()


@pytest.mark.parametrize(
    ("registry", "path"),
    [
        (DATASETS, DECODER),
        (DATASETS, "torch.utils.data.TensorDataset"),
        (MODELS, "torch.fx.GraphModule"),
        (MODELS, "torch.jit.ScriptModule"),
        (MODELS, "torch.nn.parallel.DistributedDataParallel"),
        (MODELS, "torch.nn.modules.utils.OrderedDict"),
        (MODELS, "transformers.modeling_utils.PreTrainedModel"),
        (METRICS, "footplate.hooks.CheckpointHook"),
        (HOOKS, "footplate.engine.Hook"),
    ],
)
def test_library_classes_are_rejected(registry: Registry, path: str) -> None:
    with pytest.raises(BuildError, match="a config must not refer to"):
        registry.get(path)


@pytest.mark.parametrize(
    "path",
    ["wcwidth.wcwidth.Nope", "optuna.study.Study", "torch.utils.cpp_extension.CppExtension", "test.support.Nope"],
)
@pytest.mark.parametrize("registry", [DATASETS, HOOKS], ids=["dataset", "hook"])
def test_rejected_module_is_not_imported(registry: Registry, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = path.rpartition(".")[0]
    for name in [each for each in sys.modules if f"{each}.".startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(BuildError, match="a config must not refer to"):
        registry.get(path)
    assert module not in sys.modules


@pytest.mark.parametrize(
    ("registry", "path", "name"),
    [
        (MODELS, "torch.nn.Linear", "Linear"),
        (MODELS, "torch.nn.modules.loss.CrossEntropyLoss", "CrossEntropyLoss"),
        (OPTIMIZERS, "torch.optim.AdamW", "AdamW"),
        (OPTIMIZERS, "torch.optim.adamw.AdamW", "AdamW"),
        (DATA_SAMPLERS, "torch.utils.data.DistributedSampler", "DistributedSampler"),
        (DATA_SAMPLERS, "torch.utils.data.sampler.BatchSampler", "BatchSampler"),
        (HOOKS, "footplate.hooks.CheckpointHook", "CheckpointHook"),
        (HOOKS, "footplate.hooks.checkpoint_hook.CheckpointHook", "CheckpointHook"),
    ],
)
def test_registered_and_listed_classes_are_found_by_path(registry: Registry, path: str, name: str) -> None:
    assert registry.get(path).__name__ == name


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_parts.py").write_text(
        "from torch.nn import Module\n"
        f"from {DECODER.rpartition('.')[0]} import RoutedDecoder\n"
        "from torch.fx import GraphModule\n"
        "class Net(Module): pass\n"
        "def make(): pass\n"
        "def build() -> 'Module': pass\n"
        "def count() -> int: pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    return "own_parts"


def test_class_in_user_module_needs_no_registration(own: str) -> None:
    assert MODELS.get(f"{own}.Net").__module__ == own


def test_function_whose_annotation_is_a_model_may_be_named(own: str) -> None:
    assert MODELS.get(f"{own}.build").__name__ == "build"
    with pytest.raises(BuildError, match="accepts only subclasses of torch.utils.data"):
        DATASETS.get(f"{own}.build")


@pytest.mark.parametrize(
    ("registry", "name", "message"),
    [
        (DATASETS, "RoutedDecoder", "neither a registered dataset nor defined in your modules"),
        (MODELS, "GraphModule", "neither a registered model nor defined in your modules"),
        (MODELS, "make", "accepts only subclasses of torch.nn"),
        (MODELS, "count", "accepts only subclasses of torch.nn"),
    ],
)
def test_imported_or_unsuitable_object_in_user_module_is_rejected(
    own: str, registry: Any, name: str, message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        registry.get(f"{own}.{name}")


def test_package_installed_with_pip_target_is_not_user_code(own: str, tmp_path: Path) -> None:
    (tmp_path / "vendored-1.0.dist-info").mkdir()
    with pytest.raises(BuildError, match="must not refer"):
        MODELS.get(f"{own}.Net")


def test_docs_list_allowed_torch_classes() -> None:
    from footplate.registry.dotted_paths import TORCH_CLASSES

    text = (DOCS / "security.md").read_text(encoding="utf-8")
    for home, names in TORCH_CLASSES.values():
        assert f"`{home}" in text
        assert all(f"`{name}`" in text for name in names or ())
