import importlib
import importlib.metadata
import logging
import multiprocessing
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import footplate_openmmlab as openmmlab
from footplate.config import Config, import_module, import_modules
from footplate.data.dataloader_checks import check_dataloader
from footplate.engine import Hook as EngineHook
from footplate.errors import BuildError, ConfigError
from footplate.registry import DATASETS, HOOKS, MODELS, TRANSFORMS, using_scope
from footplate_openmmlab.first_generation.adapters import Hook
from footplate_openmmlab.first_generation.translation.config_translation import translate
from footplate_openmmlab.requirements import installed_version
from tests.footplate_openmmlab.conftest import WritePackage
from tests.footplate_openmmlab.first_generation.translation.support import sections

pytestmark = pytest.mark.usefixtures("package")
MMCV_2 = "__version__ = '2.1.0'\n"


def imported(title: str, name: str) -> object:
    return getattr(importlib.import_module(title), name)


def test_names_resolve_after_installation(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "footplate")
    with pytest.raises(ImportError):
        importlib.import_module("mmcv.runner")
    report = openmmlab.install()
    assert imported("mmcv.runner", "Hook") is imported("mmcv", "runner").hooks.Hook is Hook  # type: ignore[attr-defined]
    assert imported("mmengine.hooks", "Hook") is EngineHook
    assert imported("mmdet.models", "DETECTORS") is MODELS
    assert imported("mmseg.datasets.builder", "PIPELINES") is TRANSFORMS
    with pytest.raises(AttributeError, match=r"Did you mean 'OptimizerHook'\?$"):
        imported("mmcv.runner", "OptimiserHook")
    with pytest.raises(ImportError, match=r"Did you mean 'OptimizerHook'\?$"):
        exec("from mmcv.runner import OptimiserHook", {})
    with pytest.raises(ModuleNotFoundError, match=r"not provide 'ConvModule' in 'mmcv.cnn'.* pip install mmcv-lite"):
        exec("from mmcv.cnn import ConvModule", {})
    assert openmmlab.install() is report
    assert report == "imports from mmcv, mmengine, mmseg, mmdet, mmselfsup resolve to footplate"
    assert caplog.messages == [report]


def test_inspecting_modules_searches_no_files(monkeypatch: pytest.MonkeyPatch) -> None:
    openmmlab.install()
    module = importlib.import_module("mmengine")

    def search(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("footplate_openmmlab.installation._find_elsewhere", search)
    assert not hasattr(module, "__wrapped__")


def test_missing_names_are_added_to_installed_mmcv_2(package: WritePackage) -> None:
    folder = package("mmcv", {"__init__": f"{MMCV_2}imread = 'its own'\n", "utils/__init__": "is_list_of = 'its own'"})
    about = folder.parent / "mmcv_lite-2.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: mmcv-lite\nVersion: 2.1.0\n")
    report = openmmlab.install()
    assert imported("mmcv", "imread") == imported("mmcv.utils", "is_list_of") == "its own"
    assert imported("mmcv.runner", "HOOKS") is HOOKS
    assert hasattr(importlib.import_module("mmcv.utils"), "build_from_cfg")
    assert "missing names are added to mmcv" in report


def test_an_mmcv_that_is_imported_first_gets_its_names(package: WritePackage) -> None:
    package("mmcv", {"__init__": MMCV_2})
    mmcv = importlib.import_module("mmcv")
    openmmlab.install()
    assert mmcv.runner.Hook is Hook


@pytest.fixture
def without_mmengine() -> Iterator[None]:
    """Forgets the modules of mmengine before and after a test that writes a package of this name, or needs none."""

    def forget() -> None:
        for title in [title for title in sys.modules if title.partition(".")[0] == "mmengine"]:
            del sys.modules[title]

    openmmlab.install()
    forget()
    yield
    forget()


@pytest.mark.usefixtures("without_mmengine")
def test_the_installed_mmengine_answers_for_what_is_not_runtime(package: WritePackage) -> None:
    wrong = "raise AssertionError('the runtime of MMEngine itself was imported')\n"
    runtime = {"__init__": wrong, "hooks/__init__": wrong, "hooks/hook": wrong, "model/__init__": wrong}
    utils = "from ..hooks.hook import Hook\nfrom mmengine.logging import MMLogger\n"
    others = {"utils/__init__": utils, "fileio/__init__": "from ..utils import Hook\nload = 'its own'\n"}
    broken = {"device/__init__": "import no_such_package.part\n", "infer/__init__": "1 / 0\n"}
    package("mmengine", {**runtime, **others, **broken, "model/utils": "merge_dict = 'its own'\n"})
    assert importlib.import_module("mmengine").utils.Hook is EngineHook
    assert imported("mmengine.utils", "Hook") is imported("mmengine.fileio", "Hook") is EngineHook
    assert imported("mmengine.hooks", "Hook") is EngineHook
    assert imported("mmengine", "load") == imported("mmcv", "load") == "its own"
    assert imported("mmengine.model", "merge_dict") == "its own"
    with pytest.raises(ImportError, match=r"'mmengine.device' of the installed .*\nRun: pip install no_such_package$"):
        importlib.import_module("mmengine.device")
    with pytest.raises(ImportError, match=r"ZeroDivisionError: .*\nRun: pip install --upgrade mmengine$"):
        importlib.import_module("mmengine.infer")


@pytest.mark.skipif(bool(installed_version("mmengine")), reason="MMEngine is installed")
@pytest.mark.usefixtures("without_mmengine")
@pytest.mark.parametrize("code", ["from mmengine.fileio import load", "from mmengine import load"])
def test_what_is_not_runtime_needs_an_installed_mmengine(code: str) -> None:
    with pytest.raises(ImportError, match=r"MMEngine is not installed\. To install it, run: pip install mmengine$"):
        exec(code, {})
    assert not hasattr(importlib.import_module("mmengine"), "__version__")


@pytest.mark.parametrize("compiled", [False, True])
def test_operators_of_an_installed_mmcv(package: WritePackage, compiled: bool) -> None:
    package("mmcv", {"__init__": MMCV_2, **({"_ext": "nms = 'compiled'\n"} if compiled else {})})
    openmmlab.install()
    nms: Any = imported("mmcv._ext", "nms")
    if compiled:
        assert nms == "compiled"
    else:
        boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6]])
        assert nms(boxes, torch.tensor([0.5, 0.9, 0.1]), iou_threshold=0.5, offset=0).tolist() == [1, 2]


def test_a_code_base_whose_registries_have_no_locations(package: WritePackage) -> None:
    modules = {
        "registry": "from mmengine.registry import MODELS as ROOT, Registry\nMODELS = Registry('model', parent=ROOT)\n",
        "models": "from torch import nn\nfrom .registry import MODELS\n"
        "@MODELS.register_module()\nclass Searched(nn.Module): ...\n",
        "utils": "def register_all_modules(init_default_scope=True):\n"
        "    assert not init_default_scope\n    import mmrazor.models\n",
    }
    package("mmrazor", modules)
    openmmlab.install()  # as in a script of another code base, whose config refers to this one
    assert type(MODELS.build({"type": "mmrazor.Searched"})).__module__ == "mmrazor.models"


def test_unsupported_classes_can_be_imported_but_not_used() -> None:
    openmmlab.install()
    apex: Any = imported("mmengine.optim", "ApexOptimWrapper")
    assert not isinstance(imported("mmengine.optim", "AmpOptimWrapper"), apex)
    with pytest.raises(ConfigError, match="does not support 'ApexOptimWrapper': use AmpOptimWrapper"):
        apex()


def test_the_scope_of_mmengine_is_that_of_footplate() -> None:
    openmmlab.install()
    assert MODELS.get("mmengine.ImgDataPreprocessor") is MODELS.get("ImgDataPreprocessor")


def test_processes_that_a_code_base_spawns_find_the_import_names(package: WritePackage) -> None:
    package("research_code", {"part": "from mmengine import hooks\ndef name_of(_): return hooks.Hook.__module__\n"})
    openmmlab.install()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        function: Any = imported("research_code.part", "name_of")
        assert pool.map_async(function, [0]).get(timeout=60) == ["footplate.engine.values.hook"]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (
            {"__init__": "from mmrotate import registry", "registry": "MODELS = object()  # a registry of MMEngine"},
            r"'mmrotate' was imported before footplate(.|\n)*Call footplate_openmmlab.install",
        ),
        (
            {"__init__": "raise RuntimeError('needs mmcv')"},
            "'mmrotate' cannot be imported: RuntimeError: needs mmcv",
        ),
    ],
)
def test_an_unusable_code_base_is_an_error(package: WritePackage, modules: dict[str, str], message: str) -> None:
    package("mmrotate", modules)
    with pytest.raises(ConfigError, match=message):
        openmmlab.use_code_bases({"default_scope": "mmrotate"})


PLUGIN = """
model = dict(type='ModelOfAPlugin')
data = dict()
optimizer = dict(type='SGD')
total_epochs = 1
plugin = True
"""


@pytest.mark.parametrize("plugin_dir", ["projects/plugin/", None])
def test_the_plugin_of_a_first_generation_config_is_imported(
    package: WritePackage, current_folder: Path, monkeypatch: pytest.MonkeyPatch, plugin_dir: str | None
) -> None:
    package("projects", {"plugin/__init__": "from mmcv.runner import HOOKS\nvalue = HOOKS\n"})
    config = current_folder / ("config.py" if plugin_dir else "projects/plugin/config.py")
    config.write_text(PLUGIN + (f"plugin_dir = {plugin_dir!r}\n" if plugin_dir else ""))
    monkeypatch.setattr(sys, "path", list(sys.path))
    import_modules(Config.fromfile(str(config)))
    assert sys.modules["projects.plugin"].value is HOOKS


def test_a_migrated_config_still_imports_its_plugin(
    package: WritePackage, current_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("migrated", {"plugin/__init__": "imported = True\n"})
    monkeypatch.setattr(sys, "path", list(sys.path))
    old = Config.fromstring(f"{PLUGIN}plugin_dir = 'migrated/plugin/'\n", ".py")
    import_modules(translate(old))
    assert sys.modules["migrated.plugin"].imported


def test_a_plugin_outside_of_the_current_folder_is_not_imported() -> None:
    with pytest.raises(ConfigError, match=r"cannot import '\.\.\.plugin'") as caught:
        import_modules(Config.fromstring(f"{PLUGIN}plugin_dir = '../plugin/'\n", ".py"))
    assert caught.value.key == "plugin_dir"


def test_a_config_may_import_from_mmengine_without_custom_imports(package: WritePackage) -> None:
    import_modules(Config.fromstring("from torch.nn import ReLU\nact = dict(type=ReLU)\n", ".py"))
    assert importlib.util.find_spec("mmengine") is None
    cfg = Config.fromstring("from mmengine.hooks import Hook\nhook = dict(type=Hook)\n", ".py")
    import_modules(cfg)
    assert type(HOOKS.build(cfg.hook)) is EngineHook
    package("detector_of_mine", {"__init__": "from mmdet.datasets import CocoDataset"})
    with pytest.raises(ConfigError, match="doctor mmdet`"):
        import_module("detector_of_mine")


WRAPPED = """
from mmcv.utils import Registry, build_from_cfg
DATASETS = Registry('dataset')
@DATASETS.register_module()
class Pictures:
    def __init__(self, names, test_mode=False):
        self.names, self.test_mode = names, test_mode
@DATASETS.register_module()
class ConcatDataset:
    def __init__(self, datasets, separate_eval=True):
        self.names, self.separate_eval = [name for each in datasets for name in each.names], separate_eval
@DATASETS.register_module()
class RepeatDataset:
    def __init__(self, dataset, times):
        self.names = dataset.names * times
def build_dataset(cfg, default_args=None):
    if isinstance(cfg, list):
        return ConcatDataset([build_dataset(each, default_args) for each in cfg])
    if cfg['type'] == 'RepeatDataset':
        return RepeatDataset(build_dataset(cfg['dataset'], default_args), cfg['times'])
    if 'separate_eval' in cfg:
        separate, parts = cfg.pop('separate_eval'), [{**cfg, 'names': names} for names in cfg['names']]
        return ConcatDataset([build_dataset(each, default_args) for each in parts], separate)
    return build_from_cfg(cfg, DATASETS, default_args)
"""
FIRST_GENERATION = {
    "__init__": "mmcv_maximum_version = '1.9.0'\n__version__ = '0.25.0'\n",
    "models/__init__": "from mmcv.utils import Registry\nfrom footplate.registry import MODELS as ROOT\n"
    "MODELS = Registry('models', parent=ROOT)\n@MODELS.register_module()\nclass Classifier:\n    pass\n",
    "datasets/__init__": WRAPPED,
}


def test_names_are_looked_up_where_a_code_base_registers_most_of_its_classes(package: WritePackage) -> None:
    init = {"__init__": FIRST_GENERATION["__init__"]}
    registry = FIRST_GENERATION["models/__init__"]
    package("mmseg", {**init, "models/__init__": registry.replace("Classifier", "Net")})
    package("mmdet", {**init, "models/__init__": registry.replace("Classifier", "Detector")})
    shared = "from mmseg.models import MODELS as SEG\nfrom mmdet.models import MODELS\n"
    parts = {"Part1": "SEG", "Part2": "MODELS", "Part3": "MODELS"}
    classes = "".join(f"@{name}.register_module()\nclass {part}: ...\n" for part, name in parts.items())
    package("mmdet3d", {**init, "models/__init__": shared + classes})
    package("a_plugin", {"__init__": f"{shared}@MODELS.register_module()\nclass Net: ...\n"})
    openmmlab.use_code_bases({"default_scope": "mmdet3d"})
    importlib.import_module("a_plugin")
    with using_scope("mmdet3d"):
        assert MODELS.get("Net").__module__ == "a_plugin"
        assert MODELS.get("Part1").__module__ == "mmdet3d.models"


def test_datasets_of_a_first_generation_code_base_are_built_as_it_builds_them(package: WritePackage) -> None:
    package("mmcls", FIRST_GENERATION)
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


def test_separate_eval_is_passed_to_the_code_base_but_not_to_the_dataset(package: WritePackage) -> None:
    package("mmcls", FIRST_GENERATION)
    openmmlab.use_code_bases({"default_scope": "mmcls"})
    dataset = {"type": "Pictures", "names": [["a"], ["b"]], "separate_eval": False}
    runner = {"type": "EpochBasedRunner", "max_epochs": 1}
    cfg = sections({"runner": runner, "data": {"val": dataset}, "evaluation": {}, "default_scope": "mmcls"})
    with using_scope("mmcls"):
        check_dataloader(cfg["val_dataloader"])
        made = DATASETS.build(cfg["val_dataloader"]["dataset"])
    assert (made.names, made.separate_eval) == (["a", "b"], False)
