"""`--json`: standard output is one JSON document, whatever a command logs and prints."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.cli.main import build_parser, main
from footplate.config import LazyObject
from footplate.tools.json_values import as_json
from tests import programs
from tests.footplate.cli.conftest import FIRST_GENERATION, Command, environment


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    if not inner:
        yield parser
    for each in inner:
        for command in each.choices.values():
            yield from leaves(command)


def test_every_command_except_run_takes_json() -> None:
    without = [each.prog for each in leaves(build_parser()) if "--json" not in each._option_string_actions]
    assert without == ["footplate run"]


@pytest.mark.parametrize(
    "words",
    [
        ["recipes"],
        ["explain", "tiny.py"],
        ["migrate", str(FIRST_GENERATION), "-o", "new.py"],
        ["train", "tiny.py", "--set", "train_cfg.val_begn=3"],
    ],
)
def test_standard_output_is_one_document(tiny: Path, footplate: Command, words: list[str]) -> None:
    code, output, _ = footplate(*words, "--json")
    found = json.loads(output, parse_constant=pytest.fail)
    assert ("error" in found) == (code == 2)
    assert not isinstance(found, dict) or found.get("error", {}).get("exit_code", code) == code


def test_error_has_its_place_and_its_suggestion(tiny: Path, footplate: Command) -> None:
    code, output, errors = footplate("train", "tiny.py", "--json", "--set", "train_cfg.val_begn=3")
    line = next(number for number, text in enumerate(tiny.read_text().splitlines(), 1) if "train_cfg" in text)
    assert json.loads(output) == {
        "error": {
            "type": "OverrideError",
            "message": "cannot set 'train_cfg.val_begn': 'train_cfg' has no key 'val_begn'",
            "file": str(tiny),
            "line": line,
            "key": "train_cfg.val_begn",
            "suggestion": "train_cfg.val_begin",
            "notes": ["Write +train_cfg.val_begn=... to add the key."],
            "exit_code": 2,
        }
    }
    assert (code, errors.splitlines()[0]) == (2, f"error: {json.loads(output)['error']['message']}")


def test_training_test_and_inspection_of_a_run(tiny: Path, footplate: Command) -> None:
    code, output, errors = footplate("train", "tiny.py", "--json")
    result = json.loads(output)
    work_dir = tiny.parent / "work_dirs/tiny"
    assert (code, result["state"], result["iterations"], result["max_iters"]) == (0, "finished", 8, 8)
    assert (result["work_dir"], result["last_checkpoint"]) == (str(work_dir), str(work_dir / "iter_8.pth"))
    assert (result["best_checkpoints"], result["save_error"]) == ([], None)
    assert Path(result["log"]).read_text().count("Iter(train) [") == errors.count("Iter(train) [") == 4
    checkpoint = result["last_checkpoint"]
    verified = json.loads(footplate("checkpoint", "verify", checkpoint, "--json")[1])
    assert [(each["file"], each["intact"]) for each in verified] == [(checkpoint, True)]
    report = json.loads(footplate("report", work_dir, "--json")[1])
    assert Path(report["file"]).stat().st_size == report["bytes"]


def test_what_user_code_prints_goes_to_standard_error(tiny: Path, footplate: Command) -> None:
    tiny.write_text("print('from the config')\n" + tiny.read_text())
    code, output, errors = footplate("check", "tiny.py", "--no-run", "--json")
    assert (code, json.loads(output)["warnings"]) == (0, [])
    assert "from the config" in errors


def run_and_signal(words: list[str], mark: str, number: int) -> tuple[int, Any, str]:
    """Runs a command in a process of its own, and sends it a signal when its standard error contains a mark.

    Returns:
        The exit code, the document on standard output, and standard error.
    """
    program = programs.start("-m", "footplate", *words, "--json", folder=".", environment=environment())
    program.wait_until(lambda: mark in program.printed("stderr"))
    os.kill(program.process, number)
    done = program.wait()
    return done.returncode, json.loads(done.stdout), done.stderr


def test_stopped_run_prints_its_state(tiny: Path) -> None:
    words = ["train", "tiny.py", "--set", "train_cfg.max_iters=1000000"]
    code, result, errors = run_and_signal(words, "Iter(train) [", signal.SIGTERM)
    assert (code, result["state"]) == (143, "stopped")
    assert 0 < result["iterations"] < 1000000
    assert Path(result["last_checkpoint"]).exists()
    assert "resume:" in errors


def test_command_that_a_signal_ends_prints_it(tiny: Path) -> None:
    waiting = "import sys, time\nprint('waiting', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    tiny.write_text(waiting + tiny.read_text())
    code, document, errors = run_and_signal(["explain", "tiny.py"], "waiting", signal.SIGINT)
    error = {"type": "KeyboardInterrupt", "message": "interrupted by SIGINT", "notes": [], "exit_code": 130}
    assert (code, document, errors) == (130, {"error": error}, "waiting\ninterrupted\n")


PRINTING = """\
import atexit, ctypes, os
from footplate import HOOKS, Hook

@HOOKS.register_module()
class Printing(Hook):
    def before_train(self, runner):
        os.write(1, b"from descriptor 1\\n")
        ctypes.CDLL(None).puts(b"from C")  # C writes its buffer when the process exits
        atexit.register(print, "at exit")
        os.system("echo from a process")
"""


def test_what_processes_and_c_code_print_goes_to_standard_error(tiny: Path) -> None:
    Path("printing.py").write_text(PRINTING)
    overrides = ["custom_imports.imports=tests.support,printing", "custom_hooks.0.type=Printing"]
    command = ["-m", "footplate", "train", "tiny.py", "--json", "--set", *overrides]
    done = programs.run(*command, folder=tiny.parent, environment=environment())
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "finished")
    for text in ("from descriptor 1\n", "from C\n", "at exit\n", "from a process\n"):
        assert text in done.stderr


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        ({"matrix": torch.tensor([[1, 2], [3, 4]])}, {"matrix": [[1, 2], [3, 4]]}),
        (LazyObject("torch.Tensor"), "Tensor"),
    ],
)
def test_values_become_json(value: Any, expected: Any) -> None:
    assert as_json(value) == expected


def test_schema_is_printed(tiny: Path, footplate: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tiny.parent))
    code, output, _ = footplate("schema")
    assert (code, json.loads(output)["$schema"]) == (0, "https://json-schema.org/draft/2020-12/schema")


def test_error_of_the_whole_command_line_is_a_document(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["footplate", "foo", "--json"])
    with pytest.raises(SystemExit) as stop:
        main()
    found = json.loads(capsys.readouterr().out)["error"]
    assert (stop.value.code, found["type"], found["exit_code"]) == (2, "ArgumentError", 2)
