import json
from pathlib import Path

import pytest

from footplate.cli.main import main
from tests.support import TINY
from tests.tools.test_plan_measurements import GIVEN


@pytest.fixture
def parts(tmp_path: Path) -> str:
    path = tmp_path / "parts.json"
    path.write_text(json.dumps(GIVEN))
    return str(path)


def test_plan_prints_a_table(parts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--parts", parts, "--nodes", "4", "--per-node", "8", "--bandwidth", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(at for at, line in enumerate(lines) if line.split()[:2] == ["nodes", "devices"])
    assert [line.split()[:2] for line in lines[head + 1 :]] == [["1", "1"], ["1", "8"], ["2", "16"], ["4", "32"]]
    assert any("8 Gbit/s between nodes" in line for line in lines)


def test_plan_as_json(parts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--parts", parts, "--nodes", "2", "--sharded", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parts"]["batch"] == 16
    assert found["cluster"]["nodes"] == 2
    assert [each["devices"] for each in found["predictions"]] == [1, 2]
    assert found["predictions"][1]["memory"] < found["predictions"][0]["memory"]


def test_formulas_are_printed_with_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--formulas"]) == 0
    assert "2006.15704" in capsys.readouterr().out


def test_config_is_measured_and_its_measurements_are_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    kept = tmp_path / "kept.json"
    assert main(["plan", str(tmp_path / "tiny.py"), "--steps", "2", "--save-parts", str(kept)]) == 0
    assert json.loads(kept.read_text())["batch"] == 4
    assert "shared by processes with" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "a plan needs measurements"),
        (["--nodes", "0"], "--nodes"),
        (["--bandwidth", "0"], "--bandwidth must be positive"),
        (["--parts", "absent.json"], "cannot read 'absent.json' as measurements"),
    ],
)
def test_mistakes_are_reported(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_shards_of_a_plan_must_divide_the_devices(parts: str, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["plan", "--parts", parts, "--nodes", "2", "--per-node", "2"]
    assert main([*start, "--sharded", "--shards", "3"]) == 2
    assert "--shards must divide the 4 devices" in capsys.readouterr().err
    assert main([*start, "--shards", "2"]) == 2
    capsys.readouterr()
    assert main([*start, "--sharded", "--shards", "2", "--json"]) == 0
    replicas = json.loads(capsys.readouterr().out)["predictions"][-1]
    assert main([*start, "--sharded", "--json"]) == 0
    assert replicas["memory"] > json.loads(capsys.readouterr().out)["predictions"][-1]["memory"]


def test_tensor_parallelism_cannot_be_planned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.py").write_text(f"{TINY}\nmodel_wrapper_cfg = dict(type='FullyShard', tensor_parallel=2)\n")
    assert main(["plan", str(tmp_path / "tiny.py"), "--steps", "2"]) == 2
    assert "plan cannot predict tensor parallelism" in capsys.readouterr().err
