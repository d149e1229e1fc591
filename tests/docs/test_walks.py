"""Follows the getting-started guide, and compares printed messages with the guides."""

import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from footplate.checkpoint import load_checkpoint
from footplate.cli.main import main
from tests.docs.pages import DOCS, blocks_of
from tests.footplate_vision.guides import TWO_EPOCHS
from tests.support import TINY

# The guide's own runs have 40 epochs of 25 iterations; these have two of three, without workers.
SHORT = ["--set", *TWO_EPOCHS, "+train_dataloader.dataset.indices=48"]
BEST = "work_dirs/first/best_mIoU_epoch_40"
REFUSED = "--set model.num_class=4"


@pytest.mark.slow
def test_getting_started_works_as_written(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Runs every command of the guide, with shorter runs."""
    pytest.importorskip("onnxruntime")
    shown = ""
    for block in blocks_of((DOCS / "getting-started.md").read_text(encoding="utf-8")):
        if block.title:
            Path(block.title).write_text(block.text)
        for line in block.text.splitlines() if block.kind == "commands" else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["python"]:
                script = Path(words[1])
                if BEST in script.read_text():
                    script.write_text(script.read_text().replace(BEST, _best()))
                runpy.run_path(words[1])
            elif words[:1] == ["footplate"]:
                _follow(words[1:], refused=REFUSED in line)
            captured = capsys.readouterr()
            shown = captured.out + captured.err
        if block.kind == "text" and block.text.startswith(
            ("error: ", "data/images/train: ", "my_segmentation.py: segmentation")
        ):
            assert shown == block.text
    assert Path("work_dirs/first/report.html").is_file()
    assert Path("both.html").is_file()
    assert list(Path("work_dirs/second").glob("best_mIoU_epoch_*.pth"))
    assert len(Path("predictions/predictions.jsonl").read_text().splitlines()) == 50


def _best() -> str:
    return str(next(iter(Path("work_dirs/first").glob("best_mIoU_epoch_*.pth"))).with_suffix(""))


def _follow(arguments: list[str], *, refused: bool) -> None:
    if arguments[0] == "train":
        arguments = [*arguments, *(SHORT[1:] if "--set" in arguments else SHORT)]
    arguments = [argument.replace(BEST, _best()) if BEST in argument else argument for argument in arguments]
    wanted = {"diff": (0, 1)}.get(arguments[0], (2,) if refused else (0,))
    assert main(arguments) in wanted, arguments


OWN = """\
from footplate import HOOKS, Hook


@HOOKS.register_module(force=True)
class Totals(Hook):
    total = 0.0

    def add(self, outputs):
        self.total += float(outputs["los"])

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 2:
            self.add(outputs)
"""


def test_error_of_user_code_is_printed_as_in_the_guide(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shown,) = [text for text in _texts("inspecting-runs.md") if text.startswith("error: KeyError")]
    Path("my_hooks.py").write_text(OWN)
    text = TINY.replace("tests.support", "my_hooks").replace("interval=4", "interval=2")
    Path("own.py").write_text(text.replace('type="Witness"', 'type="Totals"'))
    assert main(["train", "own.py", "--work-dir", "work"]) == 1
    assert capsys.readouterr().err.replace(f"{place}/", "") == shown
    sys.modules.pop("my_hooks")


def _texts(page: str) -> list[str]:
    return [each.text for each in blocks_of((DOCS / page).read_text(encoding="utf-8")) if each.kind == "text"]


@pytest.mark.slow
def test_check_prints_the_output_in_the_guide(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Speed, time and memory are not compared, because they depend on the machine."""
    blocks = [each.text for each in blocks_of((DOCS / "inspecting-runs.md").read_text(encoding="utf-8"))]
    place_of_check = next(at for at, text in enumerate(blocks) if "no problems found" in text)
    shown, mistake = blocks[place_of_check : place_of_check + 2]
    assert main(["check", "fashion-seg"]) == 0
    told = capsys.readouterr().out.splitlines()
    lines = [
        line for line in shown.splitlines()[1:] if not re.match("speed|time|memory|data  |bottleneck| +with ", line)
    ]
    assert [line for line in lines if line not in told] == []
    Path("my_config.py").write_text('_base_ = "footplate::fashion-seg.py"\n\nmodel = dict(num_classes=10)\n')
    assert main(["check", "my_config.py"]) == 2
    assert capsys.readouterr().err == mistake


def test_state_that_is_carried_over_batches_survives_a_resume(place: Path) -> None:
    (code,) = [
        block.text
        for block in blocks_of((DOCS / "training-steps.md").read_text(encoding="utf-8"))
        if "GRU" in block.text
    ]
    saving = "max_epochs=2, default_hooks=dict(checkpoint=dict(by_epoch=False, interval=1, max_keep_ckpts=-1))"
    finals = []
    for changes in ("", ", resume=True, load_from='work_dirs/series/iter_15.pth'"):
        torch.manual_seed(0)
        exec("import torch\nfrom footplate import Runner\n" + code.replace("max_epochs=2", saving + changes), {})
        finals.append(load_checkpoint("work_dirs/series/iter_20.pth")["state_dict"])
    torch.testing.assert_close(*finals, rtol=0, atol=0)


@pytest.mark.slow
def test_script_has_the_same_history_with_one_and_two_processes(place: Path) -> None:
    blocks = blocks_of((DOCS / "several-processes.md").read_text(encoding="utf-8"))
    (script,) = [block for block in blocks if block.title]
    (commands,) = [block.text.splitlines() for block in blocks if block.kind == "commands"]
    Path(script.title).write_text(script.text)
    # Another test may use torchrun's usual port.
    launchers = {"torchrun": ["-m", "torch.distributed.run", "--standalone"], "footplate": ["-m", "footplate"]}
    tables = []
    for program, *arguments in map(shlex.split, commands):
        command = [sys.executable, *launchers.get(program, []), *arguments]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
        header, *rows = done.stdout.splitlines()[-11:]  # after the log
        assert header.split() == ["epoch", "iter", "lr", "loss", "val/loss", "val/accuracy"]
        tables.append(np.array([row.split() for row in rows], dtype=float))
    assert len(tables) == 3
    for table in tables:
        np.testing.assert_allclose(table, tables[0], rtol=1e-3)
