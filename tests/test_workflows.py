"""Tests of the workflows in `.github/`."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
GITHUB = ROOT / ".github"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in GITHUB.glob("workflows/*.yml")}


def _steps() -> Iterator[dict[str, Any]]:
    for workflow in WORKFLOWS.values():
        for job in workflow["jobs"].values():
            yield from job["steps"]


def test_actions_are_pinned_to_commits() -> None:
    uses = [step["uses"] for step in _steps() if "uses" in step]
    assert len(uses) > 15
    assert [each for each in uses if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", each)] == []


def test_an_action_has_one_version() -> None:
    lines = "".join(path.read_text(encoding="utf-8") for path in GITHUB.glob("workflows/*.yml"))
    versions = dict(re.findall(r"uses: (actions/[\w-]+)@(.*)", lines))
    assert set(re.findall(r"uses: (actions/[\w-]+)@(.*)", lines)) == set(versions.items())
    assert all(re.fullmatch(r"[0-9a-f]{40} # v[\d.]+", each) for each in versions.values())


def test_installed_packages_have_digests() -> None:
    commands = [
        line
        for step in _steps()
        for line in step.get("run", "").splitlines()
        if re.search(r"pip\S* (install|download|wheel)", line)
    ]
    rules = (ROOT / "Makefile").read_text(encoding="utf-8")
    commands += re.findall(r"^\t.*-m pip (?:install|wheel) .*$", rules, re.MULTILINE)
    assert len(commands) == 5
    local = ("--no-index", "--no-build-isolation")
    assert [line for line in commands if "--require-hashes" not in line and not any(o in line for o in local)] == []


def test_permissions_are_granted_to_jobs_only() -> None:
    for workflow in WORKFLOWS.values():
        assert workflow["permissions"] == {}
    granted = {
        (name, job, scope)
        for name, workflow in WORKFLOWS.items()
        for job, each in workflow["jobs"].items()
        for scope, access in each["permissions"].items()
        if access == "write"
    }
    assert granted == {
        ("pages", "deploy", "id-token"),
        ("pages", "deploy", "pages"),
        ("release", "draft", "contents"),
        ("release", "publish", "attestations"),
        ("release", "publish", "id-token"),
    }
    assert WORKFLOWS["release"]["jobs"]["publish"]["environment"]["name"] == "pypi-${{ matrix.package }}"


def test_the_matrix_contains_the_versions_in_the_project_metadata() -> None:
    versions = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    assert WORKFLOWS["check"]["jobs"]["test"]["strategy"]["matrix"]["python"] == versions
    assert PROJECT["requires-python"] == f">={versions[0]}"


def _pins(path: Path) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([\w.-]+)==([^\s;\\]+)", line):
            pins.setdefault(canonicalize_name(match[1]), set()).add(match[2])
    return pins


def test_the_digests_belong_to_the_versions_of_the_constraints() -> None:
    constraints, locked = _pins(ROOT / "constraints.txt"), _pins(GITHUB / "requirements" / "check.txt")
    changed = {each for each in locked.keys() & constraints.keys() if not locked[each] <= constraints[each]}
    assert changed == set(), "run `python scripts/lock.py`"
    extras = re.findall(r"--editable '\.\[(.*)\]'", (ROOT / "Makefile").read_text(encoding="utf-8"))[0].split(",")
    texts = [text for extra in extras for text in PROJECT["optional-dependencies"][extra]]
    required = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"] + texts}
    assert required - locked.keys() == set(), "run `python scripts/lock.py`"


def test_issue_forms_ask_for_the_installation() -> None:
    forms = [path for path in GITHUB.glob("ISSUE_TEMPLATE/*.yml") if path.name != "config.yml"]
    assert len(forms) == 3
    for path in forms:
        (field,) = [each for each in yaml.safe_load(path.read_text(encoding="utf-8"))["body"] if each["id"] == "doctor"]
        assert field["attributes"]["label"] == "Output of `footplate doctor`"
        assert field["validations"]["required"]


def test_versions_agree() -> None:
    operators = tomllib.loads((ROOT / "operators" / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    module = re.findall(r'__version__ = "(.*)"', (ROOT / "src/footplate/__init__.py").read_text(encoding="utf-8"))
    assert {operators["version"], citation["version"], *module} == {PROJECT["version"]}


@pytest.mark.parametrize("command", ["zizmor --offline --persona pedantic .github", "actionlint"])
def test_the_linter_finds_nothing(command: str) -> None:
    words = command.split()
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
