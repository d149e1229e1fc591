"""Writes the requirements of the workflows, with the digests of all files for Linux. Needs uv."""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / ".github" / "requirements"
RUNNER = "sys_platform == 'linux' and platform_machine == 'x86_64' and implementation_name == 'cpython'"


def lock(name: str, *, python: str, requirements: Sequence[str], constraints: Sequence[str] = ()) -> None:
    """Writes one file of requirements."""
    # Only a lock of uv leaves out the files for other systems, which are four fifths of all.
    project = f"""
        [project]
        name = "locked"
        version = "0"
        requires-python = "{python}"
        dependencies = {json.dumps(requirements)}
        [tool.uv]
        constraint-dependencies = {json.dumps(constraints)}
        environments = ["{RUNNER}"]
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "pyproject.toml").write_text(project, encoding="utf-8")
        subprocess.run(["uv", "lock", "--quiet", "--no-config"], cwd=folder, check=True)
        export = [
            "uv",
            "export",
            "--quiet",
            "--no-config",
            "--frozen",
            "--no-emit-project",
            "--no-annotate",
            "--no-header",
        ]
        text = subprocess.run(export, cwd=folder, check=True, capture_output=True, text=True).stdout
    runner = " and ".join(sorted(RUNNER.split(" and ")))
    text = text.replace(f" ; {runner}", "").replace(f" and {runner}", "")
    (FOLDER / name).write_text(text, encoding="utf-8")


def main() -> None:
    """Writes all files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extras,) = re.findall(r"--editable '\.\[(.*)\]'", (ROOT / "Makefile").read_text(encoding="utf-8"))
    requirements = [text for extra in extras.split(",") for text in project["optional-dependencies"][extra]]
    versions = [int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", "\n".join(project["classifiers"]))]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = [line for line in lines if line and not line.startswith("#")]
    python = f">=3.{min(versions)},<3.{max(versions) + 1}"
    lock("check.txt", python=python, requirements=project["dependencies"] + requirements, constraints=constraints)
    tools = (FOLDER / "release.in").read_text(encoding="utf-8").splitlines()[1:]
    lock("release.txt", python=python, requirements=tools)


if __name__ == "__main__":
    main()
