"""Runs the programs on the pages about other engines, and compares what they train."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import programs
from tests.docs.pages import DOCS, blocks_of
from tests.footplate_openmmlab.environment import ENVIRONMENT, create_environment

LIGHTNING = ["lightning==2.6.6", "pytorch-lightning==2.6.6", "lightning-utilities==0.15.3", "torchmetrics==1.9.0"]
# The engines shuffle differently, so the programs read the samples in order. The rest is what a machine without
# accelerators needs. accelerate keeps the precision of the Trainer for a later program in the same process.
IN_ORDER = {
    "shuffle=True": "shuffle=False",
    "bf16=True": 'bf16=True, use_cpu=True, report_to=[], train_sampling_strategy="sequential"',
    "accelerator = Accelerator()": "Accelerator().state._reset_state(True)\naccelerator = Accelerator(cpu=True)",
}
SHARE = 'DistributedSampler(range(192), 2, int(os.environ.get("LOCAL_RANK", 0)), shuffle=False)'
SHARED = {
    "import torch\n": "import os\nimport torch\nfrom torch.utils.data import DistributedSampler\n",
    "shuffle=True": f"sampler={SHARE}",
    "L.Trainer(": 'L.Trainer(accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true", '
    "use_distributed_sampler=False, ",
}
SAVED = "[*net.state_dict().values(), *{}.state_dict().values(), torch.as_tensor(scores).argmax(1)]"


def program(page: str, engine: str, changes: dict[str, str]) -> str:
    """Returns the program of an engine on a page, with changes."""
    blocks = blocks_of((DOCS / f"coming-from-{page}.md").read_text(encoding="utf-8"))
    text = "\n\n".join(block.text for block in blocks if block.title in ("", engine))
    for before, after in changes.items():
        text = text.replace(before, after)
    return text


def trained(
    folder: Path, page: str, engine: str, launcher: list[str] | None, changes: dict[str, str], *, gan: str = "gan"
) -> list[torch.Tensor]:
    """Runs the program of an engine, by default in this environment; returns the weights and the predicted classes."""
    folder /= engine
    folder.mkdir()
    saving = f"torch.save({SAVED.format(gan)}, f\"{{os.environ.get('LOCAL_RANK', 0)}}.pt\")"
    (folder / "program.py").write_text(f"{program(page, engine, changes)}\n\nimport os\n{saving}\n")
    if launcher is None:
        done = programs.run("program.py", folder=folder, environment=ENVIRONMENT)
    else:
        done = subprocess.run([*launcher, "program.py"], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results: list[torch.Tensor] = torch.load(folder / "0.pt")
    return results


def test_footplate_trains_the_weights_of_a_loop(current_folder: Path) -> None:
    results = []
    for engine in ("Loop", "footplate"):
        names: dict[str, Any] = {}
        exec(program("a-loop", engine, IN_ORDER), names)
        results.append(eval(SAVED.format("gan"), names))
    loop, ours = results
    assert len(loop) == 9
    assert all(torch.equal(one, other) for one, other in zip(loop, ours, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_footplate_trains_the_weights_of_lightning_in_two_processes(tmp_path: Path) -> None:
    python = create_environment(tmp_path / "environment", LIGHTNING)
    launcher = [sys.executable, "-m", "footplate", "run", "--nproc", "2"]
    theirs = trained(tmp_path, "lightning", "Lightning", [python, "-W", "ignore"], SHARED)
    ours = trained(tmp_path, "lightning", "footplate", launcher, SHARED)
    assert len(ours) == 9
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_footplate_trains_the_weights_of_the_trainer(tmp_path: Path) -> None:
    gan = "nn.ModuleList([generator, critic])"
    theirs = trained(tmp_path, "transformers", "Trainer", None, IN_ORDER, gan=gan)
    ours = trained(tmp_path, "transformers", "footplate", None, IN_ORDER, gan=gan)
    assert len(ours) == 9
    torch.testing.assert_close(ours[:-1], theirs[:-1], rtol=0, atol=1e-6)
    # The Trainer predicts in bfloat16, so samples between two classes may get the other one.
    assert (ours[-1] != theirs[-1]).sum() <= 2
