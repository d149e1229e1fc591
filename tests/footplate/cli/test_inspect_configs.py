import json
from pathlib import Path

import pytest

from footplate import Runner
from footplate.cli.inspect_configs import TOPICS
from footplate.cli.main import main
from footplate.config import Config
from tests.footplate.cli.conftest import Command
from tests.support import ToyModel, settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    model = "model = dict(type='fp.Net', sizes=(1, 2), backbone=dict(depths=(3,)))\n"
    text = f"custom_imports = dict(imports=['fp_nope'])\n{model}"
    (tmp_path / "main.py").write_text(text)
    return "main.py"


def test_one_key_is_shown_with_its_override(config: str, footplate: Command) -> None:
    text = footplate("explain", config, "model.type", "--set", "model.type=Other")[1]
    assert text.splitlines()[0] == "model.type = 'Other'"
    text = footplate("explain", config, "default_hooks.checkpoint.save_optimizer")[1]
    assert text.endswith(" is not set; the default is True\n")
    code, _, error = footplate("explain", config, "model.typ")
    assert (code, "did you mean 'model.type'?" in error) == (2, True)


def test_an_override_without_effect_is_reported(tmp_path: Path, footplate: Command) -> None:
    (tmp_path / "a.py").write_text("size = 4\nmodel = dict(type='fp.Net', size=size)\n")
    warning = "warning     --set: 'size' has no effect"
    assert warning in footplate("explain", tmp_path / "a.py", "model", "--set", "size=5")[1]


@pytest.mark.parametrize(
    ("word", "meant"),
    [("schedle", "schedule"), ("modle", "model"), ("sizes", "model.sizes")],
)
def test_unknown_key_suggests_a_key_or_topic(config: str, footplate: Command, word: str, meant: str) -> None:
    assert footplate("explain", config, word)[::2] == (
        2,
        f"error: the config has no key '{word}'\n  key {word}\n  did you mean '{meant}'?\n",
    )


@pytest.mark.parametrize("suffix", [".py", ".yaml", ".json"])
def test_the_config_is_converted(config: str, tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"out{suffix}"
    assert main(["explain", config, "--dump", str(target)]) == 0
    written = Config.fromfile(target, import_custom_modules=False)
    assert tuple(written.model.sizes) == (1, 2)
    assert written.model.type == "fp.Net"


@pytest.mark.parametrize("topic", TOPICS)
def test_each_topic_is_available_as_text_and_json(tiny: Path, footplate: Command, topic: str) -> None:
    code, text, _ = footplate("explain", tiny, topic)
    assert (code, text.count("\n") > 2) == (0, True)
    assert footplate("explain", tiny, topic)[1] == text  # so that a project can commit the output
    assert json.loads(footplate("explain", tiny, topic, "--json")[1])


def test_dump_takes_no_key(tiny: Path, footplate: Command) -> None:
    code, _, error = footplate("explain", tiny, "model", "--dump", "dumped.py")
    assert (code, error.splitlines()[0]) == (2, "error: --dump writes the whole config; omit 'model'")
    assert not (tiny.parent / "dumped.py").exists()


def test_dump_replaces_neither_the_config_nor_its_bases(tiny: Path, footplate: Command) -> None:
    child, text = tiny.with_name("child.py"), tiny.read_text()
    child.write_text("_base_ = 'tiny.py'\n")
    for name in ("child.py", "tiny.py", "./tiny.py"):
        code, _, errors = footplate("explain", child, "--dump", name)
        assert (code, errors.splitlines()[0]) == (
            2,
            "error: the output path must not be an input or be inside an input folder",
        )
    assert (tiny.read_text(), child.read_text()) == (text, "_base_ = 'tiny.py'\n")


def test_seeds_and_code_of_runs_are_compared_and_their_folders_are_not(
    current_folder: Path, footplate: Command
) -> None:
    for name, seed in (("a", 5), ("b", 6), ("c", 6)):
        folder = current_folder / name / "20260101_000000/vis_data"
        folder.mkdir(parents=True)
        start = f'"work_dir": "{name}", "load_from": "{name}", "resume": {int(name == "c")}'
        (folder / "config.json").write_text(f'{{"lr": 1, {start}}}')
        facts = {"seed": seed, "processes": seed - 4, "git tree": {"commit": "f", "patch": name}}
        (folder.parent / "environment.json").write_text(json.dumps(facts))
    assert footplate("explain", "a", "lr")[0] == 0
    assert footplate("diff", "a", "b")[1].endswith(
        "load_from\n  - 'a'\n  + 'b'\nrandomness.seed\n  - 5\n  + 6\n(number of processes)\n  - 1\n  + 2\n"
        "(code)\n  - 'commit f, patch a'\n  + 'commit f, patch b'\n"
    )
    code, text, _ = footplate("diff", "b", "c")
    assert (code, "load_from" in text) == (1, False)  # the one of a resumed run is its own checkpoint


def test_run_from_python_records_its_arguments(current_folder: Path, footplate: Command) -> None:
    for name, epochs in (("a", 1), ("b", 2)):
        length = {"by_epoch": True, "max_epochs": epochs}
        Runner(**settings(name, model=ToyModel(), train_cfg=length, default_hooks={"checkpoint": None})).train()
    recorded = Config.fromfile(str(next(Path("a").glob("2*/vis_data/config.py"))))
    assert recorded.train_cfg.to_dict() == {"by_epoch": True, "max_epochs": 1}
    assert recorded.model.startswith("ToyModel(")
    assert "param_scheduler" in recorded
    assert "custom_hooks" not in recorded
    assert "train_cfg.max_epochs" in footplate("diff", "a", "b")[1].splitlines()
    environment = next(Path("a").glob("2*/environment.json"))
    assert json.loads(environment.read_text())["seed"] == 7
