import argparse
import importlib
import importlib.metadata
import importlib.util
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import openmmlab
from footplate.cli.config import read_config
from footplate.config import Config
from footplate.engine import Hook as EngineHook
from footplate.errors import BuildError, ConfigError
from footplate.openmmlab.first_generation.adapters import Hook
from footplate.registry import DATASETS, HOOKS, METRICS, MODELS, TRANSFORMS, using_scope


@pytest.fixture(autouse=True)
def _uninstalled() -> Iterator[None]:
    yield
    openmmlab.uninstall()
    for title in [title for title in sys.modules if title.partition(".")[0] in ("mmcv", "mmseg")]:
        del sys.modules[title]


def imported(title: str, name: str) -> object:
    return getattr(importlib.import_module(title), name)


def test_names_resolve_only_while_installed() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("mmcv.runner")
    report = openmmlab.install()
    assert imported("mmcv.runner", "Hook") is Hook
    assert imported("mmengine.hooks", "Hook") is EngineHook
    assert imported("mmdet.models", "DETECTORS") is MODELS
    assert imported("mmseg.datasets.builder", "PIPELINES") is TRANSFORMS
    assert report.resolved == ("mmcv", "mmengine", "mmseg", "mmdet", "mmselfsup")
    openmmlab.uninstall()
    assert "mmcv.runner" not in sys.modules
    with pytest.raises(ImportError):
        importlib.import_module("mmcv.runner")


def test_install_reports_and_is_idempotent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    before = len(sys.meta_path)
    assert str(openmmlab.install()) == "import names: mmcv, mmengine, mmseg, mmdet, mmselfsup resolve to footplate"
    assert openmmlab.install() is openmmlab.install()
    assert len(sys.meta_path) == before + 4
    assert caplog.text.count("resolve to footplate") == 1
    openmmlab.uninstall()
    openmmlab.uninstall()
    assert len(sys.meta_path) == before


def test_submodules_and_suggestions_for_unknown_names() -> None:
    openmmlab.install()
    mmcv = importlib.import_module("mmcv")
    assert mmcv.runner.hooks.Hook is Hook
    with pytest.raises(AttributeError, match="did you mean 'OptimizerHook'"):
        _ = mmcv.runner.OptimiserHook
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mmcv.ops")


def test_missing_names_are_added_to_installed_mmcv_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mmcv/utils").mkdir(parents=True)
    (tmp_path / "mmcv/__init__.py").write_text("__version__ = '2.1.0'\nimread = 'its own'\n")
    (tmp_path / "mmcv/utils/__init__.py").write_text("is_list_of = 'its own'\n")
    about = tmp_path / "mmcv_lite-2.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mmcv-lite\nVersion: 2.1.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    report = openmmlab.install()
    assert imported("mmcv", "imread") == imported("mmcv.utils", "is_list_of") == "its own"
    assert imported("mmcv.runner", "HOOKS") is HOOKS
    assert imported("mmcv.runner.hooks", "Hook") is Hook
    assert hasattr(importlib.import_module("mmcv.utils"), "build_from_cfg")
    assert report.completed == ("mmcv",)
    assert "missing names are added to mmcv" in str(report)
    openmmlab.uninstall()
    assert not hasattr(importlib.import_module("mmcv.utils"), "build_from_cfg")
    assert imported("mmcv", "imread") == "its own"
    with pytest.raises(ImportError):
        importlib.import_module("mmcv.runner")


def test_command_line_installs_before_custom_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hook_of_a_user.py").write_text(
        "from mmcv.runner import HOOKS, Hook\n@HOOKS.register_module(force=True)\nclass HookOfAUser(Hook):\n    a = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "config.py").write_text(
        "custom_imports = dict(imports=['hook_of_a_user'], allow_failed_imports=False)\ntotal_epochs = 1\n"
    )
    read_config(argparse.Namespace(config=str(tmp_path / "config.py"), cfg_options=[], set=[]))
    found: Any = HOOKS.get("HookOfAUser")
    assert issubclass(found, Hook)
    del sys.modules["hook_of_a_user"]


def test_complete_packages_are_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", only(**{"mmcv-full": "1.7.2", "mmsegmentation": "1.2.2"}))
    report = openmmlab.install()
    assert report.left == ("mmcv", "mmseg")
    assert "installed and not changed: mmcv, mmseg" in str(report)
    with pytest.raises(ImportError):
        importlib.import_module("mmcv.runner")


def test_footplate_answers_for_an_installed_mmengine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mmengine/utils").mkdir(parents=True)
    for module in ("__init__", "utils/__init__", "utils/other"):
        (tmp_path / f"mmengine/{module}.py").write_text("raise AssertionError('MMEngine itself was imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(importlib.metadata, "version", only(mmengine="0.10.7"))
    openmmlab.install()
    assert importlib.import_module("mmengine.hooks").Hook is EngineHook
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mmengine.utils.other")
    assert caplog.text == ""


def test_operators_of_an_installed_mmcv_without_compiled_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv/__init__.py").write_text("__version__ = '2.1.0'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    openmmlab.install()
    extension = importlib.import_module("mmcv._ext")
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6]])
    assert extension.nms(boxes, torch.tensor([0.5, 0.9, 0.1]), iou_threshold=0.5, offset=0).tolist() == [1, 2]
    openmmlab.uninstall()
    sys.modules.pop("mmcv")
    with pytest.raises(ImportError):
        importlib.import_module("mmcv._ext")


def test_compiled_operators_are_used_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv/__init__.py").write_text("__version__ = '2.1.0'\n")
    (tmp_path / "mmcv/_ext.py").write_text("nms = 'compiled'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    openmmlab.install()
    assert importlib.import_module("mmcv._ext").nms == "compiled"
    for title in ("mmcv._ext", "mmcv"):
        sys.modules.pop(title)


def only(**versions: str):  # type: ignore[no-untyped-def]
    def version(name: str) -> str:
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    return version


@pytest.mark.parametrize("name", ["mmcls", "research_code"])
def test_a_code_base_sees_a_version_of_mmcv_that_it_accepts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for package, code in {
        "mmcv": "__version__ = '2.1.0'\n",
        name: "import mmcv\nmmcv_maximum_version = '1.9.0'\nseen = mmcv.__version__\n",
        f"{name}/part": "import numpy as np\nkind = np.int\n",
    }.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    openmmlab.install()
    assert importlib.import_module(name).seen == "1.7.2"
    assert importlib.import_module(f"{name}.part").kind is int
    mmcv = importlib.import_module("mmcv")
    openmmlab.uninstall()
    assert mmcv.__version__ == "2.1.0"
    sys.modules.pop(name)
    sys.modules.pop(f"{name}.part")


def test_a_code_base_whose_registries_have_no_locations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in {
        "__init__": "",
        "registry": "from mmengine.registry import MODELS as ROOT, Registry\nMODELS = Registry('model', parent=ROOT)\n",
        "models": "from torch import nn\nfrom .registry import MODELS\n"
        "@MODELS.register_module()\nclass Searched(nn.Module): ...\n",
        "utils": "def register_all_modules(init_default_scope=True):\n"
        "    assert not init_default_scope\n    import mmrazor.models\n",
    }.items():
        (tmp_path / "mmrazor").mkdir(exist_ok=True)
        (tmp_path / "mmrazor" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    openmmlab.use_code_bases({"model": {"type": "mmrazor.Searched"}})
    assert type(MODELS.build({"type": "mmrazor.Searched"})).__module__ == "mmrazor.models"
    MODELS.children.pop("mmrazor")
    for title in [title for title in sys.modules if title.partition(".")[0] == "mmrazor"]:
        del sys.modules[title]


def test_an_mmcv_that_is_imported_first_gets_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv/__init__.py").write_text("__version__ = '2.1.0'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    mmcv = importlib.import_module("mmcv")
    openmmlab.install()
    assert mmcv.runner.Hook is Hook
    assert mmcv.digit_version("1.7.2")[:3] == (1, 7, 2)
    openmmlab.uninstall()
    assert not hasattr(mmcv, "digit_version")


def test_a_file_with_the_name_of_a_code_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/mmpose.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    assert openmmlab.use_code_bases({"default_scope": "mmpose"}) == ()
    (tmp_path / "installed/mmpose").mkdir(parents=True)
    (tmp_path / "installed/mmpose/__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "installed")])
    with pytest.raises(ConfigError, match=r"imports the file '.*/mine/mmpose.py' instead of the package 'mmpose'"):
        openmmlab.use_code_bases({"default_scope": "mmpose"})


def test_a_code_base_that_uses_mmengine_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mmrotate").mkdir()
    (tmp_path / "mmrotate/__init__.py").write_text("from mmrotate import registry")
    (tmp_path / "mmrotate/registry.py").write_text("MODELS = object()  # a registry of MMEngine")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"'mmrotate' was imported before footplate(.|\n)*Call footplate.openmmlab.install"
    ):
        openmmlab.use_code_bases({"default_scope": "mmrotate"})
    for title in ("mmrotate", "mmrotate.registry"):
        sys.modules.pop(title)


def test_a_code_base_without_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mmpose").mkdir()
    (tmp_path / "mmpose/__init__.py").write_text("from mmengine.registry import MODELS\n__version__ = '1.0'\n")
    (tmp_path / "mmrotate").mkdir()
    (tmp_path / "mmrotate/__init__.py").write_text("raise RuntimeError('needs mmcv')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert openmmlab.use_code_bases({"model": {"neck": [{"type": "mmpose.Neck"}]}}) == ("mmpose 1.0",)
    with pytest.raises(ConfigError, match="'mmrotate' is installed but cannot be imported: RuntimeError: needs mmcv"):
        openmmlab.use_code_bases({"default_scope": "mmrotate"})
    sys.modules.pop("mmpose")


def test_missing_requirements_of_a_code_base_are_listed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mmrotate").mkdir()
    (tmp_path / "mmrotate/__init__.py").write_text("import no_such_package")
    (tmp_path / "mmrotate-1.0.dist-info").mkdir()
    needed = ("no-such-package>=1", "numpy", "no-such-tables", "mmcv-full", "no-such-tests ; extra == 'tests'")
    lines = ["Name: mmrotate", "Version: 1.0", *(f"Requires-Dist: {each}" for each in needed)]
    (tmp_path / "mmrotate-1.0.dist-info/METADATA").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        openmmlab.use_code_bases({"default_scope": "mmrotate"})
    assert caught.value.notes == ("Install what it requires: pip install 'no-such-package>=1' no-such-tables",)


PLUGIN = """
model = dict(type='ModelOfAPlugin')
data = dict()
optimizer = dict(type='SGD')
total_epochs = 1
plugin = True
"""


@pytest.mark.parametrize("plugin_dir", ["projects/plugin/", None])
def test_the_plugin_of_a_first_generation_config_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, plugin_dir: str | None
) -> None:
    caplog.set_level(logging.INFO, "footplate")
    (tmp_path / "projects/plugin").mkdir(parents=True)
    (tmp_path / "projects/plugin/__init__.py").write_text("from mmcv.runner import HOOKS\nvalue = HOOKS\n")
    config = tmp_path / ("config.py" if plugin_dir else "projects/plugin/config.py")
    config.write_text(PLUGIN + (f"plugin_dir = {plugin_dir!r}\n" if plugin_dir else ""))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    openmmlab.import_modules(Config.fromfile(str(config)))
    assert sys.modules.pop("projects.plugin").value is HOOKS
    sys.modules.pop("projects")
    assert "Imported the plugin 'projects.plugin'." in caplog.messages


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("../plugin/", "the plugin folder must be a package inside the current folder"),
        ("not_there/plugin/", "cannot import 'not_there.plugin': No module named 'not_there'"),
    ],
)
def test_a_plugin_that_cannot_be_imported(path: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        openmmlab.import_modules(Config.fromstring(f"{PLUGIN}plugin_dir = {path!r}\n", ".py"))
    assert caught.value.key == "plugin_dir"


def test_classes_of_a_code_base_hide_those_of_footplate_from_the_first_lookup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mmpose").mkdir()
    (tmp_path / "mmpose/__init__.py").write_text("")
    (tmp_path / "mmpose/registry.py").write_text(
        "from mmengine.evaluator import BaseMetric\nfrom mmengine.registry import METRICS as ROOT, Registry\n"
        "METRICS = Registry('metric', parent=ROOT)\n@METRICS.register_module()\nclass IoUMetric(BaseMetric): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    openmmlab.install()
    with using_scope("mmpose"):
        assert METRICS.get("IoUMetric").__module__ == "mmpose.registry"
    METRICS.children.pop("mmpose")
    for title in ("mmpose", "mmpose.registry"):
        sys.modules.pop(title)


FIRST_GENERATION = {
    "__init__.py": "mmcv_maximum_version = '1.9.0'\n__version__ = '0.25.0'\n",
    "models/__init__.py": "from mmcv.utils import Registry\nfrom footplate.registry import MODELS as ROOT\n"
    "MODELS = Registry('models', parent=ROOT)\n@MODELS.register_module()\nclass Classifier:\n    pass\n",
    "datasets/__init__.py": "class Pictures:\n    pass\n",
}


def test_a_first_generation_config_is_matched_by_its_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, changed in (("mmcls", "Pictures"), ("mmpose", "Other")):
        for name, code in FIRST_GENERATION.items():
            file = tmp_path / package / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(code.replace("Pictures", changed))
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg: dict[str, Any] = {
        "model": {"type": "Classifier"},
        "data": {"train": {"type": "Pictures"}},
        "optimizer": {"type": "SGD"},
        "runner": {"type": "EpochBasedRunner", "max_epochs": 1},
    }
    assert openmmlab.use_code_bases({**cfg, "model": {"type": "Unknown"}}) == ()
    assert openmmlab.use_code_bases(cfg) == ("mmcls 0.25.0",)
    assert cfg["default_scope"] == "mmcls"
    with using_scope("mmcls"):
        assert type(MODELS.build({"type": "Classifier"})).__module__ == "mmcls.models"
    MODELS.children.pop("mmcls")
    for title in ("mmcls", "mmcls.models", "mmcls.datasets"):
        sys.modules.pop(title, None)


WRAPPED = """
from mmcv.utils import Registry, build_from_cfg
DATASETS = Registry('dataset')
@DATASETS.register_module()
class Pictures:
    def __init__(self, names, test_mode=False):
        self.names, self.test_mode = names, test_mode
@DATASETS.register_module()
class ConcatDataset:
    def __init__(self, datasets):
        self.names = [name for each in datasets for name in each.names]
@DATASETS.register_module()
class RepeatDataset:
    def __init__(self, dataset, times):
        self.names = dataset.names * times
def build_dataset(cfg, default_args=None):
    if isinstance(cfg, list):
        return ConcatDataset([build_dataset(each, default_args) for each in cfg])
    if cfg['type'] == 'RepeatDataset':
        return RepeatDataset(build_dataset(cfg['dataset'], default_args), cfg['times'])
    return build_from_cfg(cfg, DATASETS, default_args)
"""


def test_datasets_of_a_first_generation_code_base_are_built_as_it_builds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in {**FIRST_GENERATION, "datasets/__init__.py": WRAPPED}.items():
        file = tmp_path / "mmcls" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    openmmlab.use_code_bases({"default_scope": "mmcls"})
    pictures = {"type": "Pictures", "names": ["a"]}
    with using_scope("mmcls"):
        for cfg in (
            {"type": "RepeatDataset", "times": 2, "dataset": pictures},
            {"type": "ConcatDataset", "datasets": [pictures, pictures]},
        ):
            assert DATASETS.build({"type": "LegacyDataset", "dataset": cfg}).names == ["a", "a"]
        assert DATASETS.build({"type": "LegacyDataset", "dataset": pictures, "test_mode": True}).test_mode
        with pytest.raises(BuildError, match="'Pictures' takes no argument 'name'") as caught:
            DATASETS.build({"type": "LegacyDataset", "dataset": {"type": "Pictures", "name": "a"}})
        assert caught.value.key == "dataset.name"
    for registry in (MODELS, DATASETS):
        registry.children.pop("mmcls")
    for title in ("mmcls", "mmcls.models", "mmcls.datasets"):
        sys.modules.pop(title, None)
