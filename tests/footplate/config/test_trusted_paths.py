"""Which configs may name any class that fits by its dotted path."""

from pathlib import Path

import pytest

from footplate.config import Config
from footplate.config.recorded import read_recorded
from footplate.errors import BuildError
from footplate.registry import DATASETS, FUNCTIONS, RUNNERS

INSTALLED = "torch.utils.data.TensorDataset"
WRITTEN = f"train_dataloader = dict(dataset=dict(type='{INSTALLED}'))\n"


def refused(cfg: Config) -> bool:
    try:
        DATASETS.check(cfg.train_dataloader.dataset)
    except BuildError as error:
        return "must not refer" in str(error) or "accepts only" in str(error)
    return False


def test_python_config_may_name_any_suitable_class(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(WRITTEN)
    assert not refused(Config.fromfile(tmp_path / "code.py"))


def test_unsuitable_class_is_refused_in_python_config(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(WRITTEN.replace(INSTALLED, "subprocess.Popen"))
    assert refused(Config.fromfile(tmp_path / "code.py"))


@pytest.mark.parametrize(
    "text",
    [
        f'{{"train_dataloader": {{"dataset": {{"type": "{INSTALLED}"}}}}}}',
        f'{{"_base_": "footplate::fashion-seg.py", "train_dataloader": {{"dataset": {{"type": "{INSTALLED}"}}}}}}',
        '{"_base_": "footplate::fashion-seg.py",'
        f' "train_dataloader": {{"dataset": {{"_delete_": true, "type": "{INSTALLED}"}}}}}}',
    ],
)
def test_data_config_based_on_a_recipe_may_not_name_any_class(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    assert refused(Config.fromfile(tmp_path / "data.json"))


def test_override_may_not_name_any_class(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("train_dataloader = dict(dataset=dict(type='Points'))\n")
    cfg = Config.fromfile(tmp_path / "code.py")
    cfg.merge_from_dict({"train_dataloader.dataset.type": INSTALLED})
    assert refused(cfg)


def test_recorded_config_may_not_name_any_class(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(WRITTEN)
    assert refused(read_recorded(tmp_path / "config.py"))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installs a package with a runner and a hook, as pip does with `--target`."""
    folder = tmp_path / "packages"
    (folder / "vendored_engine-1.0.dist-info").mkdir(parents=True)
    (folder / "vendored_engine.py").write_text(
        "from footplate import Hook, Runner\nclass Engine(Runner): ...\nclass Greeting(Hook):\n"
        "    def after_run(self, runner): ...\n"
    )
    monkeypatch.syspath_prepend(folder)


@pytest.mark.usefixtures("installed")
def test_python_config_may_name_the_runner_of_an_installed_package(tmp_path: Path) -> None:
    for suffix, text in (
        (".py", "runner_type = 'vendored_engine.Engine'\n"),
        (".json", '{"runner_type": "vendored_engine.Engine"}'),
    ):
        (tmp_path / f"config{suffix}").write_text(text)
    trusted, data = (Config.fromfile(tmp_path / f"config{suffix}") for suffix in (".py", ".json"))
    for registry in (RUNNERS, FUNCTIONS):  # with and without a base class
        assert registry.resolve(trusted.runner_type, trusted, key="runner_type").__name__ == "Engine"
    with pytest.raises(BuildError, match="must not refer") as caught:
        RUNNERS.resolve(data.runner_type, data, key="runner_type")
    assert (caught.value.key, caught.value.origin) == ("runner_type", (str(tmp_path / "config.json"), 0))
