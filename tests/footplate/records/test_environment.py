import math
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.records import describe_environment, save_changes


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


# Settings that git would execute with the commands of footplate, of the repository or of its submodule.
PROGRAMS = (
    "core.fsmonitor",
    "core.hooksPath",
    "core.pager",
    "core.sshCommand",
    "diff.external",
    "diff.x.command",
    "diff.x.textconv",
    "filter.x.clean",
    "filter.x.process",
    "pager.diff",
    "remote.origin.uploadpack",
)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]
    found = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return found.stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "a.txt").write_text("one\n")
    (folder / ".gitattributes").write_text("* filter=x diff=x\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.mark.parametrize("lacks_object", [False, True])
def test_nothing_that_a_repository_configures_is_executed(
    current_folder: Path, monkeypatch: pytest.MonkeyPatch, lacks_object: bool
) -> None:
    """`PROGRAMS` are those of all keys that `git help --config` lists which git executes with these commands."""
    ran, program = current_folder / "ran", current_folder / "program"
    program.write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
    program.chmod(0o755)
    inner, outer = repository(current_folder / "inner"), repository(current_folder / "outer")
    git(outer, "submodule", "add", "-q", str(inner), "sub")
    git(outer, "commit", "-qm", "second")
    if lacks_object:
        name = git(outer, "rev-parse", "HEAD:a.txt")
        (outer / ".git/objects" / name[:2] / name[2:]).unlink()
    for config in (outer / ".git/config", outer / ".git/modules/sub/config"):
        for key in PROGRAMS:
            git(current_folder, "config", "-f", str(config), key, str(program))
        for key, value in {"extensions.partialClone": "origin", "remote.origin.promisor": "true"}.items():
            git(current_folder, "config", "-f", str(config), key, value)
        git(current_folder, "config", "-f", str(config), "core.repositoryformatversion", "1")
        git(current_folder, "config", "-f", str(config), "remote.origin.url", ".")
        for hook in ("post-index-change", "post-checkout"):
            hooks = config.parent / "hooks"
            hooks.mkdir(exist_ok=True)
            (hooks / hook).symlink_to(program)
    for file in (outer / "a.txt", outer / "sub/a.txt"):
        file.write_text("two\n")
    monkeypatch.chdir(outer)
    save_changes(tree := describe_environment()["git tree"], "changes.patch")
    if lacks_object:  # git would have to fetch it to compare the file
        assert tree is None
    else:
        assert tree["changed"] == ["a.txt"]  # not the submodule, in which git would start another git
        assert b"\n-one\n+two\n" in Path("changes.patch").read_bytes()
    assert not ran.exists()
    subprocess.run(["git", "diff", "HEAD"], check=False, capture_output=True)
    assert ran.exists()  # by git itself


def test_links_and_modes_are_compared_as_the_repository_says(current_folder: Path, monkeypatch: Any) -> None:
    folder = repository(current_folder / "outer")
    git(folder, "config", "core.fileMode", "false")
    (folder / "a.txt").chmod(0o755)
    monkeypatch.chdir(folder)
    assert describe_environment()["git tree"]["changed"] == []
    git(folder, "worktree", "add", "-q", str(current_folder / "second"))
    monkeypatch.chdir(current_folder / "second")
    Path("a.txt").write_text("two\n")
    tree = describe_environment()["git tree"]
    assert (tree["branch"], tree["changed"]) == ("second", ["a.txt"])
