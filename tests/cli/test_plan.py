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
        (["--nodes", "10000000"], "--nodes must be at most 1,000,000"),
        (["--bandwidth", "0"], '"--bandwidth" must be a finite number above 0'),
        (["--latency", "nan"], '"--latency" must be a finite number of at least 0'),
        (["--parts", "absent.json"], "cannot read 'absent.json' as measurements"),
    ],
)
def test_mistakes_are_reported(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_shards_of_a_plan_must_divide_the_devices(parts: str, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["plan", "--parts", parts, "--nodes", "2", "--per-node", "2"]
    assert main([*start, "--sharded", "--shards", "3"]) == 2
    assert capsys.readouterr().err == "error: --shards must divide the 4 devices\n  key --shards\n  found: 3\n"
    assert main([*start, "--shards", "2"]) == 2
    assert capsys.readouterr().err == "error: --shards needs --sharded\n  key --shards\n  found: 2\n"
    assert main([*start, "--sharded", "--shards", "0"]) == 2
    assert "--shards must be an integer of at least 1" in capsys.readouterr().err
    assert main([*start, "--sharded", "--shards", "2", "--json"]) == 0
    replicas = json.loads(capsys.readouterr().out)["predictions"][-1]
    assert main([*start, "--sharded", "--json"]) == 0
    assert replicas["memory"] > json.loads(capsys.readouterr().out)["predictions"][-1]["memory"]


def test_devices_that_share_layers_need_less_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = "{'layers.0': 'colwise', 'layers.3': 'rowwise'}"
    wrapper = f"dict(type='FullyShard', tensor_parallel=dict(size=2, plan={plan}))"
    (tmp_path / "tiny.py").write_text(f"{TINY}\nmodel_wrapper_cfg = {wrapper}\n")
    kept = str(tmp_path / "kept.json")
    assert main(["plan", str(tmp_path / "tiny.py"), "--steps", "2", "--save-parts", kept]) == 0
    assert json.loads(Path(kept).read_text())["layer_messages"] == 1  # the output; the input has no gradient
    assert json.loads(Path(kept).read_text())["layer_divisor"] == 8
    start = ["plan", "--parts", kept, "--per-node", "4", "--sharded", "--json"]
    capsys.readouterr()
    found = []
    for options in ([], ["--tensor-parallel", "2"], ["--tensor-parallel", "2", "--shards", "1"]):
        assert main([*start, *options]) == 0
        found.append(json.loads(capsys.readouterr().out)["predictions"][-1])
    assert [each["batch"] for each in found] == [16, 8, 8]
    assert found[1]["memory"] < min(found[0]["memory"], found[2]["memory"])


def test_sizes_of_layers_must_be_divisible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "parts.json"
    path.write_text(json.dumps({**GIVEN, "layer_messages": 1, "layer_divisor": 8}))
    start = ["plan", "--parts", str(path), "--per-node", "12", "--sharded", "--tensor-parallel"]
    assert main([*start, "4"]) == 0
    capsys.readouterr()
    assert main([*start, "3"]) == 2
    message = "the sizes of the measured layers are not divisible by --tensor-parallel"
    found = "key --tensor-parallel\n  found: 3\n  Use a divisor of 8."
    assert capsys.readouterr().err == f"error: {message}\n  {found}\n"


def test_layers_to_share_are_required(parts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["plan", "--parts", parts, "--per-node", "4", "--sharded", "--tensor-parallel"]
    assert main([*start, "3"]) == 2
    assert "--tensor-parallel must divide the 4 devices" in capsys.readouterr().err
    assert main([*start, "2", "--shards", "4"]) == 2
    assert "--shards must divide the 2 groups of devices that share layers\n" in capsys.readouterr().err
    assert main([*start, "2"]) == 2
    assert "the measurements do not contain the layers" in capsys.readouterr().err
    (tmp_path / "tiny.py").write_text(TINY)
    assert main(["plan", str(tmp_path / "tiny.py"), "--per-node", "2", "--sharded", "--tensor-parallel", "2"]) == 2
    assert "the model has no plan for tensor parallelism" in capsys.readouterr().err
