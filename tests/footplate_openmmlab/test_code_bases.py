"""Trains published configs of installed code bases with `footplate train`, in an environment of their own."""

import json
import pickle
import signal
from pathlib import Path

import pytest
import torch

from tests.footplate_openmmlab.environment import ENVIRONMENT, python_runs, run, same, train
from tests.footplate_openmmlab.host_configs import DETECTION, SEGMENTATION
from tests.support import free_port, summation_tolerance

# Each starts several processes that import a code base.
pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]


def test_scripts_of_code_bases_train_and_test(python: str, run_folder: Path) -> None:
    (run_folder / "config.py").write_text(DETECTION)
    tools = next(Path(python).parents[1].glob("lib/*/site-packages/mmdet/.mim/tools"))
    output = run(python, run_folder, "run", str(tools / "train.py"), "config.py", "--work-dir", "work")
    assert all(text in output for text in ("loss_rpn_bbox", "bbox_mAP"))
    words = [str(tools / "test.py"), "config.py", "work/epoch_1.pth", "--work-dir", "tested"]
    run(python, run_folder, "run", *words)
    (metrics,) = (run_folder / "tested").glob("2*/2*.json")
    assert any(key.endswith("bbox_mAP") for key in json.loads(metrics.read_text()))


def test_label_maps_that_do_not_fit_are_reported(python: str, run_folder: Path) -> None:
    config = SEGMENTATION.replace("['a', 'b', 'c']", "['a', 'b']").replace(", [0, 90, 0]]", "]")
    (run_folder / "config.py").write_text(config)
    output = " ".join(run(python, run_folder, "check", "config.py").split())
    assert ": label 2 in 'data/labels/" in output


KILLER = """
import os
import pickle
import signal
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module()
class Killer(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 4 and 'SURVIVES' not in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_killed_in_the_middle_of_an_epoch_resumes_bit_for_bit(
    python: str, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_folder / "killer.py").write_text(KILLER)
    # An epoch has two iterations, so that the run is killed and resumed in the middle of one.
    config = SEGMENTATION + "custom_imports = dict(imports=['killer'])\ncustom_hooks = [dict(type='Killer')]\n"
    config = config.replace("checkpoint=dict(interval=4)", "checkpoint=dict(interval=3)")
    (run_folder / "config.py").write_text(config)
    run(python, run_folder, "train", "config.py", "--work-dir", "killed", code=-signal.SIGKILL)
    assert [path.name for path in (run_folder / "killed").glob("*.pth")] == ["iter_3.pth"]
    monkeypatch.setitem(ENVIRONMENT, "SURVIVES", "1")
    output = run(python, run_folder, "train", "config.py", "--work-dir", "whole")
    assert "Using mmsegmentation 1.2.2" in output
    assert "mIoU" in output
    run(python, run_folder, "train", "config.py", "--work-dir", "killed", "--resume")
    for name in ("iter_6.pth", "iter_8.pth"):
        assert same(run_folder / "whole" / name, run_folder / "killed" / name)


def losses(work_dir: Path) -> list[float]:
    """Returns the losses of all iterations of a run."""
    (scalars,) = work_dir.glob("2*/vis_data/scalars.json")
    rows = map(json.loads, scalars.read_text().splitlines())
    return [row["loss"] for row in rows if "loss" in row]


# Starts two ranks as torchrun does; `test_memory_keys.py` starts them with --nproc.
RANKS = """
import os, runpy, sys
os.environ.update(WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=sys.argv.pop(1))
other = os.fork()
os.environ['RANK'] = os.environ['LOCAL_RANK'] = str(int(not other))
try:
    runpy.run_module('footplate', run_name='__main__', alter_sys=True)
finally:
    assert not other or os.waitpid(other, 0)[1] == 0
"""


def test_replicated_and_sharded_models_have_equal_losses(python: str, run_folder: Path) -> None:
    (run_folder / "config.py").write_text(SEGMENTATION.replace("num_workers=2", "num_workers=0"))
    (run_folder / "ranks.py").write_text(RANKS)
    settings = ["--set", "+train_dataloader.persistent_workers=False", "train_cfg.max_iters=4"]
    sharded = "+model_wrapper_cfg={type: FullyShard, shard: {classes: [ConvModule]}}"
    for name, options in (("replicated", []), ("sharded", [sharded])):
        words = ["train", "config.py", "--launcher", "pytorch", "--no-preflight", *settings, *options]
        python_runs(python, run_folder, "ranks.py", str(free_port()), *words, "--work-dir", name)
    replicated = losses(run_folder / "replicated")
    assert len(replicated) == 4
    assert losses(run_folder / "sharded") == pytest.approx(replicated, rel=summation_tolerance(9 * 64))  # a convolution


def test_augmented_tests_by_the_script_and_by_the_hook_agree(python: str, run_folder: Path) -> None:
    dumped = "test_evaluator = [val_evaluator, dict(type='DumpResults', out_file_path='results.pkl')]\n"
    config = SEGMENTATION + "val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])\n" + dumped
    train(
        python, run_folder, config, "--set", "train_cfg.max_iters=2", "train_cfg.val_interval=2", "--work-dir", "work"
    )
    tools = next(Path(python).parents[1].glob("lib/*/site-packages/mmseg/.mim/tools"))
    words = ["config.py", "work/iter_2.pth", "--work-dir"]
    run(python, run_folder, "run", str(tools / "test.py"), *words, "script", "--tta")
    run(python, run_folder, "test", *words, "hook", "--set", "+custom_hooks=[dict(type='PrepareTTAHook')]")
    run(python, run_folder, "test", *words, "plain")
    by_script, by_hook, plain = (first_logits(run_folder / name) for name in ("script", "hook", "plain"))
    assert torch.equal(by_script, by_hook)
    assert not torch.equal(by_hook, plain)


def first_logits(work_dir: Path) -> torch.Tensor:
    """Returns the logits of the first sample of a test run; if it is augmented, those of the last view."""
    (path,) = work_dir.rglob("results.pkl")
    logits: torch.Tensor = pickle.loads(path.read_bytes())[0]["seg_logits"]["data"]
    return logits
