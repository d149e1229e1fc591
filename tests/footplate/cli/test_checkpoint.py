import argparse
import os
from pathlib import Path

import pytest
import torch

from footplate.checkpoint import load_checkpoint, save_checkpoint, verify
from footplate.cli import checkpoint
from footplate.cli.arguments import Parser
from footplate.errors import ArgumentError
from footplate.messages import format_bytes
from tests.footplate.checkpoint.sharded_examples import save


def run(*words: str) -> int:
    parser = Parser()
    checkpoint.add_commands(parser.add_subparsers())
    arguments = parser.parse_args(["checkpoint", *map(str, words)], argparse.Namespace(json=False))
    code: int = arguments.run(arguments) or 0
    return code


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for number in (1, 3):
        state = {f"layer{index}.w": torch.full((2, 2), float(number)) for index in range(22)}
        meta = {"epoch": 1, "iter": number, "seed": 7}
        save_checkpoint({"meta": meta, "state_dict": state, "note": "a"}, tmp_path / f"iter_{number}.pth")
    return [str(tmp_path / "iter_1.pth"), str(tmp_path / "iter_3.pth")]


def test_show_prints_the_contents(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", files[0]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = format_bytes(os.path.getsize(files[0]))
    assert lines[0].startswith(f"{files[0]}: {size}, saved ")
    assert lines[0].endswith(f", content sha256 {verify(files[0]).sha256} (not verified)")
    assert lines[1:6] == [
        "  epoch 1, iter 1, seed 7",
        "  meta        epoch, iter, seed",
        "  state_dict       22 tensors      352 B",
        "  note        'a'",
        "  weights:",
    ]
    assert lines[6] == "    layer0.w   [2, 2] float32"
    assert lines[-1] == "    ... and 2 more; --all lists them"
    run("show", files[0], "--all")
    assert len(capsys.readouterr().out.splitlines()) == 28


def test_verify_names_the_damaged_file(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"w": torch.ones(1)}, f"{files[0]}.theirs")
    assert run("verify", files[0], f"{files[0]}.theirs") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{files[0]}: intact, content sha256 {verify(files[0]).sha256}",
        f"{files[0]}.theirs: intact, no digest, but all content was checked",
    ]
    Path(files[1]).write_bytes(Path(files[1]).read_bytes()[:-1])
    assert run("verify", *files) == 1
    assert f"checkpoint '{files[1]}' is damaged" in capsys.readouterr().out


def test_average_writes_the_mean(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "mean.pth")
    assert run("average", *files, "-o", target) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"averaged 22 weights from 2 checkpoints: {target}",
        "It contains no config. To test or predict, also pass the config.",
    ]
    found = load_checkpoint(target)
    assert found["state_dict"]["layer0.w"].tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert found["meta"] == {"averaged": files}


def test_export_maps_keys(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = str(tmp_path / "w.pth")
    assert (
        run("export", files[0], "-o", target, "--prefix", "x.layer3", "--revise", "w=weight", "--revise", "^=x.") == 0
    )
    assert capsys.readouterr().out == f"1 weight: {target}\n"
    assert list(load_checkpoint(target)) == ["weight"]
    with pytest.raises(ArgumentError, match="PATTERN=TEXT"):
        run("export", files[0], "-o", target, "--revise", "w")
    for text in ("(=x", "^=\\9"):
        with pytest.raises(ArgumentError, match="invalid regular expression in --revise"):
            run("export", files[0], "-o", target, "--revise", text)


def test_sharded_checkpoint_is_shown_and_consolidated(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, again = str(tmp_path / "iter_1.sharded"), str(tmp_path / "again.pth")
    save(Path(folder), load_checkpoint(files[0]), count=2)
    assert run("verify", folder) == 0
    assert capsys.readouterr().out == f"{folder}: intact, content sha256 {verify(folder).sha256}\n"
    assert run("show", folder) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"content sha256 {verify(folder).sha256} (not verified)")
    assert lines[3] == "  state_dict       22 tensors      352 B"
    assert lines[6] == "    layer0.w   [2, 2] float32"
    assert run("consolidate", folder, "-o", again) == 0
    assert capsys.readouterr().out == f"joined 22 sharded tensors: {again}\n"
    assert torch.equal(load_checkpoint(again)["state_dict"]["layer3.w"], torch.ones(2, 2))


def test_output_cannot_replace_an_input(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "link.pth").symlink_to(files[0])
    before = Path(files[0]).read_bytes()
    for output in (os.path.relpath(files[0]), str(tmp_path / "link.pth")):
        with pytest.raises(ArgumentError, match="input"):
            run("average", *files, "-o", output)
    assert Path(files[0]).read_bytes() == before


def test_files_within_a_sharded_input_are_inputs(files: list[str], tmp_path: Path) -> None:
    folder = save(tmp_path / "iter_8.sharded", load_checkpoint(files[0]), count=2)
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    (state,) = folder.glob("state.pth")
    for arguments in (("consolidate", folder), ("average", folder), ("export", folder)):
        with pytest.raises(ArgumentError, match="input"):
            run(*map(str, arguments), "-o", str(state))
    assert {each.name: each.read_bytes() for each in folder.iterdir()} == before
