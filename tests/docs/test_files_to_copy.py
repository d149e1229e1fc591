"""Tests the files for SLURM and Kubernetes that users copy from the pages; srun is replaced with a script.

The Chinese pages have the same blocks (`test_languages.py`).
"""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

_DOCS = Path(__file__).parents[2] / "docs"


def _block(page: str, begins: str) -> str:
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```$", (_DOCS / f"{page}.md").read_text(), re.M | re.S)
    (found,) = [each for each in blocks if each.startswith(begins)]
    return str(found)


@pytest.mark.parametrize(("code", "queued"), [(143, True), (0, False), (1, False)])
def test_stopped_job_is_requeued(tmp_path: Path, code: int, queued: bool) -> None:
    (tmp_path / "train.sbatch").write_text(_block("clusters", "#!/bin/bash"))
    for name, ends in (("srun", code), ("scontrol", 0)):
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\necho {name} $SRUN_CPUS_PER_TASK "$@" >> said\nexit {ends}\n')
        tool.chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711", "SLURM_CPUS_PER_TASK": "8"}
    found = subprocess.run(["bash", "train.sbatch"], cwd=tmp_path, env=env, check=False)
    assert found.returncode == code
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0].startswith("srun 8 --kill-on-bad-exit=1 footplate train my_config.py --launcher slurm ")
    assert said[1:] == (["scontrol 8 requeue 4711"] if queued else [])


@pytest.mark.parametrize("state", ["time limit", "finished"])
def test_job_that_reached_its_time_limit_is_requeued(tmp_path: Path, state: str) -> None:
    block = _block("resuming", "srun ")
    tools = f"srun() {{ echo '{json.dumps({'state': state}, indent=2)}'; }}; scontrol() {{ touch queued; }}\n"
    subprocess.run(["bash", "-c", tools + block], cwd=tmp_path, check=False)
    assert (tmp_path / "queued").exists() == (state == "time limit")


def test_kubernetes_job_is_complete() -> None:
    job: dict[str, Any] = yaml.safe_load(_block("clusters", "apiVersion: kubeflow"))
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v1", "PyTorchJob")
    pods = job["spec"]["pytorchReplicaSpecs"]
    assert set(pods) == {"Master", "Worker"}
    for pod in pods.values():
        spec = pod["template"]["spec"]
        (container,) = spec["containers"]
        assert container["name"] == "pytorch"  # the one that the operator gives its variables
        assert "; exec torchrun -m footplate train " in container["command"][2]
        assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in spec["volumes"]}
        waits = {each["name"]: each["value"] for each in container["env"]}["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"]
        assert int(waits) < spec["terminationGracePeriodSeconds"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == int(job["spec"]["nprocPerNode"])
