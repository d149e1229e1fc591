import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from footplate.records import describe_environment, memory_in_use, save_changes


def test_memory_is_in_mebibytes() -> None:
    before = memory_in_use(torch.device("cpu"))
    held = np.ones(before // 8 * (1 << 20) + (64 << 17))  # more than the peak so far
    after = memory_in_use(torch.device("cpu"))
    assert before + 32 < after < 4 * before + 256
    assert held[0] == 1


def test_environment_facts() -> None:
    facts = describe_environment()
    assert set(facts) >= {"platform", "python", "processors", "torch threads", "accelerator", "torch", "numpy"}
    assert facts["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert facts["packages"]["torch"] == facts["torch"]


def test_code_bases_are_part_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"mmdet": "3.3.0", "mmcv-lite": "2.2.0", "opencv-python": "5.0", "pip": "26.0"}
    monkeypatch.setattr("footplate.records.environment.installed_packages", lambda: installed)
    facts = describe_environment()
    assert {name: facts.get(name) for name in installed} == {**installed, "pip": None}


def test_git_tree(current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own.py", "unused.py"):
        Path(name).touch()
    monkeypatch.setattr(math, "__file__", str(current_folder / "own.py"), raising=False)
    facts = describe_environment()
    assert (facts["git tree"], facts["modules"]) == (None, {"math": "e3b0c44298fc"})
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=trunk"]
    Path("kept.txt").write_text("1")
    subprocess.run([*git, "init", "-q"], check=True)
    assert describe_environment()["git tree"] is None  # no commit yet
    for arguments in (["add", "kept.txt"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *arguments], check=True)
    Path("kept.txt").write_bytes(b"2\r\n")
    save_changes(tree := describe_environment()["git tree"], "changes.patch")
    assert (tree["branch"], tree["changed"], len(tree["commit"])) == ("trunk", ["kept.txt"], 40)
    assert tree["untracked"] == {"own.py": "e3b0c44298fc"}
    assert b"\n+2\r\n" in Path("changes.patch").read_bytes()


def test_git_runs_no_program_from_the_repository(current_folder: Path) -> None:
    program = f"touch {current_folder}/ran; false"
    for command in (["init", "-q"], ["config", "core.fsmonitor", program], ["config", "diff.external", program]):
        subprocess.run(["git", *command], check=True)
    (current_folder / "a").touch()
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.fsmonitor=false"]
    for command in (["add", "a"], ["commit", "-qm", "a"]):
        subprocess.run(["git", *identity, *command], check=True)
    (current_folder / "a").write_text("b")
    save_changes(tree := describe_environment()["git tree"], "changes.patch")
    assert tree["patch"]
    assert not (current_folder / "ran").exists()
