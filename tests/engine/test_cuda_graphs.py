"""Training with CUDA graphs gives the weights of training without them. A stand-in records operations of the CPU.

The tests `test_on_gpu_...` need a CUDA device: pytest tests/engine/test_cuda_graphs.py -k on_gpu
"""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from footplate import Hook, Runner, error_context
from footplate.config import Config
from footplate.data.structures import BaseDataElement
from footplate.engine import model_setup
from footplate.engine.model_setup import CudaGraphHook
from footplate.engine.run_config import check_config
from footplate.errors import ArgumentError, GraphCaptureError
from footplate.models import BaseModel
from footplate.models.graphed_step import GraphBackend
from footplate.registry import MODELS
from tests.engine import recorded_graphs
from tests.engine.recorded_graphs import RecordedGraphs
from tests.support import settings

AMP = {"type": "AmpOptimWrapper", "optimizer": {"type": "SGD", "lr": 0.1}}
CASES: dict[str, dict[str, Any]] = {
    "SGD": {},
    "AdamW": {"optim_wrapper": {"optimizer": {"type": "AdamW", "lr": 0.01}, "clip_grad": {"max_norm": 0.1}}},
    "accumulation": {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}, "accumulative_counts": 5}},
    "bfloat16": {"optim_wrapper": {**AMP, "dtype": "bfloat16"}},
    "float16": {"optim_wrapper": {**AMP, "dtype": "float16", "loss_scale": {"growth_interval": 3}}},
    "EMA": {"custom_hooks": [{"type": "EMAHook"}]},
    "frozen until iteration 5": {"custom_hooks": [{"type": "FreezeHook", "patterns": "stem", "until_iter": 5}]},
}
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@MODELS.register_module()
class Graphed(BaseModel):
    """A model with dropout, batch normalization, a shared layer, an unused one and a buffer that changes in place.

    The gradient of its two offsets is one tensor, which must not be clipped or unscaled twice.
    """

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.shared = nn.Linear(8, 8)
        self.head = nn.Linear(8, 2)
        self.unused = nn.Linear(2, 2)
        self.offsets = nn.ParameterList([torch.zeros(8), torch.zeros(8)])
        self.register_buffer("calls", torch.zeros(()))
        self.factor = 1.0
        self.seen: list[bool] = []  # for each forward pass in Python, whether autocast has a cache

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        features = self.shared(torch.tanh(self.shared(self.norm(self.stem(inputs)))))
        features = features + (self.offsets[0] + self.offsets[1])
        scores = self.factor * self.head(nn.functional.dropout(features, 0.3, self.training))
        if mode == "loss":
            self.seen.append(torch.is_autocast_cache_enabled())
            self.calls += 1
            accuracy = (scores.argmax(1) == labels).float().mean()
            return {"loss": nn.functional.cross_entropy(scores, labels) + 0.01 * self.calls.cos(), "acc": accuracy}
        return list(zip(scores.argmax(1), labels, strict=True)) if mode == "predict" else scores


class Outputs(Hook):
    """Keeps the outputs and the gradients of all iterations without copying them."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.gradients: list[Tensor | None] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        assert outputs is not None
        self.losses += outputs.values()
        self.gradients.append(runner.model.head.weight.grad)


class DoubleTheScores(Hook):
    def before_train_epoch(self, runner: Runner) -> None:
        runner.model.factor = 1.0 + runner.epoch


def run(
    folder: Path,
    backend: GraphBackend | None = None,
    *,
    hooks: Sequence[Hook] = (),
    model: Any = None,
    keeps_gradients: bool = False,
    **changes: Any,
) -> Runner:
    """Trains, with graphs if there is a backend. Without graphs, autocast does not cache the shared weights either."""
    cfg = settings(folder, model=model or {"type": "Graphed"}, **changes)
    graphs = [] if backend is None else [CudaGraphHook(lambda: backend)]
    cfg["custom_hooks"] = [*cfg.get("custom_hooks", ()), *hooks, *graphs]
    torch.set_autocast_cache_enabled(bool(graphs) or "cuda_graphs" in changes)
    try:
        runner = Runner(**cfg)
        runner.optim_wrapper.keeps_gradients = keeps_gradients
        runner.train()
    finally:
        torch.set_autocast_cache_enabled(True)
    return runner


def assert_same(found: Runner, expected: Runner) -> None:
    states = found.model.state_dict(), expected.model.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, value in states[1].items():
        assert torch.equal(states[0][name], value), name


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_weights_and_buffers_are_bit_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    backend = RecordedGraphs()
    plain, graphed = run(tmp_path / "a", **changes), run(tmp_path / "b", backend, **changes)
    assert_same(graphed, plain)
    count = 4 if "custom_hooks" in changes and "until_iter" in changes["custom_hooks"][0] else 2
    warm_ups = 3 * count // 2
    assert (backend.warm_ups, sum(backend.replays)) == (warm_ups, 2 * (12 - warm_ups))
    assert len(backend.replays) == count
    assert len(graphed.model.seen) == warm_ups + count // 2  # Python runs no more
    assert not any(graphed.model.seen)  # the cache of autocast is off


def test_outputs_and_kept_gradients_of_earlier_iterations_keep_their_values(tmp_path: Path) -> None:
    plain, graphed = Outputs(), Outputs()
    run(tmp_path / "a", hooks=[plain], keeps_gradients=True)
    run(tmp_path / "b", RecordedGraphs(), hooks=[graphed], keeps_gradients=True)
    assert torch.equal(torch.stack(graphed.losses), torch.stack(plain.losses))
    assert len(graphed.losses) == 24
    for found, expected in zip(graphed.gradients, plain.gradients, strict=True):
        assert found is not None
        assert expected is not None
        assert torch.equal(found, expected)


@pytest.mark.parametrize("changes", [{}, CASES["accumulation"]], ids=["SGD", "accumulation"])
def test_resumed_run_is_bit_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = run(tmp_path / "a", **changes)
    saving: dict[str, Any] = {
        "default_hooks": {"checkpoint": {"by_epoch": False, "interval": 6}}
    }  # within the second epoch
    run(tmp_path / "b", RecordedGraphs(), **changes, **saving)
    backend = RecordedGraphs()
    resumed = run(tmp_path / "b", backend, resume=True, load_from=str(tmp_path / "b" / "iter_6.pth"), **changes)
    assert_same(resumed, plain)
    assert (backend.warm_ups, backend.replays) == (3, [3, 3])


def test_smaller_last_batch_has_its_own_graph(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"train_cfg": {"by_epoch": True, "max_epochs": 6}}
    changes["train_dataloader"] = settings(tmp_path)["train_dataloader"]
    changes["train_dataloader"]["dataset"]["size"] = 14
    backend = RecordedGraphs()
    assert_same(run(tmp_path / "b", backend, **changes), run(tmp_path / "a", **changes))
    assert backend.replays == [15, 15, 3, 3]


def test_graphs_are_captured_again_when_a_hook_changes_an_attribute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    length: dict[str, Any] = {"train_cfg": {"by_epoch": True, "max_epochs": 3}}
    plain = run(tmp_path / "a", hooks=[DoubleTheScores()], **length)
    backend = RecordedGraphs()
    assert_same(run(tmp_path / "b", backend, hooks=[DoubleTheScores()], log_level="INFO", **length), plain)
    assert backend.replays == [1] * 6
    assert "Recapturing the CUDA graphs, because the attribute 'factor' has changed." in caplog.messages


def test_train_step_is_restored_after_training(tmp_path: Path) -> None:
    runner = run(tmp_path, RecordedGraphs())
    assert runner.model.train_step.__func__ is BaseModel.train_step


class Sampled(Graphed):
    """Takes its labels from data samples, which also have metadata."""

    def __init__(self, reads: str = "") -> None:
        super().__init__()
        self.reads = reads

    def forward(self, inputs: Any, samples: Any, mode: str = "tensor") -> Any:
        if self.reads:
            height, _ = samples[0].get(self.reads)
            inputs = inputs * height
        return super().forward(inputs, torch.stack([each.label for each in samples]), mode)


def sample_batches(rows: Sequence[int]) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    samples = [BaseDataElement(metainfo={"img_shape": (1, 2)}, label=torch.tensor(each % 2)) for each in range(20)]
    return [
        {"inputs": torch.randn(count, 4, generator=generator), "samples": samples[index : index + count]}
        for index, count in enumerate(rows)
    ]


ONE_PASS: dict[str, Any] = {
    **dict.fromkeys(("val_dataloader", "val_cfg", "val_evaluator", "test_dataloader", "test_cfg", "test_evaluator")),
    "train_cfg": {"by_epoch": True, "max_epochs": 1},
}


def test_tensors_of_data_samples_are_copied(tmp_path: Path) -> None:
    changes = {**ONE_PASS, "train_dataloader": sample_batches([4] * 8)}
    torch.manual_seed(0)
    plain = run(tmp_path / "a", model=Sampled(), **changes)
    torch.manual_seed(0)
    backend = RecordedGraphs()
    assert_same(run(tmp_path / "b", backend, model=Sampled(), **changes), plain)
    assert backend.replays == [5, 5]


def test_metadata_that_the_loss_uses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="the training step uses 'samples.0.img_shape' from the batch") as caught:
        run(tmp_path, RecordedGraphs(), model=Sampled("img_shape"), **ONE_PASS, train_dataloader=sample_batches([4]))
    assert caught.value.key == "cuda_graphs"


def test_batches_of_many_shapes_are_refused(tmp_path: Path) -> None:
    batches = sample_batches([2, 3, 4, 5, 6, 7, 8, 9, 10])
    with pytest.raises(ArgumentError, match="at most 8 kinds of batches") as caught:
        run(tmp_path, RecordedGraphs(), model=Sampled(), **ONE_PASS, train_dataloader=batches)
    assert "differ in inputs: (2, 4) and (10, 4); samples.2.label: None and ()." in str(caught.value)


class Counting(Graphed):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.factor += 1
        return super().forward(*args, **kwargs)


class Drawing(Graphed):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        _ = random.random()
        return super().forward(*args, **kwargs)


class DrawingWithNumpy(Graphed):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        _ = np.random.rand()
        return super().forward(*args, **kwargs)


class Replacing(Graphed):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        self.calls = self.calls * 0.9
        return super().forward(*args, **kwargs)


class Constant(Graphed):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = super().forward(*args, **kwargs)
        return {**found, "constant": torch.zeros((), device="meta")} if kwargs["mode"] == "loss" else found


@pytest.mark.parametrize(
    ("model", "part"),
    [
        (Counting(), "the attribute 'factor'"),
        (Drawing(), "the random state of Python"),
        (DrawingWithNumpy(), "the random state of NumPy"),
        (Replacing(), "the tensor 'calls'"),
        (Constant(), "the value 'constant' to log"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_step_that_changes_python_values_is_refused_before_a_capture(tmp_path: Path, model: Any, part: str) -> None:
    backend = RecordedGraphs()
    with pytest.raises(ArgumentError, match=f"a CUDA graph would not update {part}"):
        run(tmp_path, backend, model=model)
    assert (backend.warm_ups, backend.replays) == (3, [])


class Waiting(Graphed):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = super().forward(*args, **kwargs)
        if kwargs["mode"] == "loss" and found["loss"].item() < 0:
            raise AssertionError("a loss is positive")
        return found


class Sparse(Graphed):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(3, 4, sparse=True)

    def forward(self, inputs: Tensor, labels: Tensor, mode: str = "tensor") -> Any:
        return super().forward(inputs + self.table(labels), labels, mode)


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        (Waiting(), r"test_cuda_graphs.py:\d+: RuntimeError: CUDA error: operation not permitted when stream is"),
        (Sparse(), r"graphed_step.py:\d+: ArgumentError: gradients must not be sparse"),
    ],
    ids=["item", "sparse"],
)
def test_failed_capture_stops_the_run_without_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any, cause: str
) -> None:
    monkeypatch.setattr(error_context, "NOT_USER_CODE", (*error_context.NOT_USER_CODE, recorded_graphs.__file__))
    with pytest.raises(GraphCaptureError, match="the CUDA context may be damaged") as caught:
        run(tmp_path, RecordedGraphs(), model=model, on_nonfinite={"grad": "warn"} if isinstance(model, Sparse) else {})
    assert caught.match(cause)
    assert caught.value.exit_code == 2
    assert not list(tmp_path.rglob("*.pth"))


class OwnStep(Graphed):
    def train_step(self, data: Any, optim_wrapper: Any) -> Any:
        return super().train_step(data, optim_wrapper)


def hooked() -> Graphed:
    model = Graphed()
    model.stem.weight.register_post_accumulate_grad_hook(lambda _: None)  # type: ignore[no-untyped-call]
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (OwnStep(), "the model 'OwnStep', because it has its own train_step"),
        (hooked(), "the parameter 'stem.weight': its gradient hooks would not be called"),
    ],
    ids=["train_step", "hook"],
)
def test_models_that_graphs_cannot_train_are_refused(tmp_path: Path, model: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        run(tmp_path, RecordedGraphs(), model=model)


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({}, "cuda_graphs", "`cuda_graphs` needs a CUDA device"),
        ({"activation_checkpointing": "stem"}, "cuda_graphs", "a graph cannot restore random states"),
        ({"compile": {"mode": "reduce-overhead"}}, "compile", "a compiler that creates its own CUDA graphs"),
        ({"compile": {"backend": "cudagraphs"}}, "compile", "a compiler that creates its own CUDA graphs"),
        (
            {"compile": {"options": {"triton.cudagraphs": True}}},
            "compile",
            "a compiler that creates its own CUDA graphs",
        ),
    ],
)
def test_unusable_settings_are_refused_by_check_and_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], key: str, message: str
) -> None:
    monkeypatch.setattr(model_setup, "pick_device", lambda: torch.device("cpu"))
    cfg = Config(settings(tmp_path / "work", cuda_graphs=True, **changes))
    # `footplate check` builds its trial without graphs, so the config must be refused before.
    for build in (check_config, partial(check_config, built_next=True), Runner.from_cfg):
        with pytest.raises(ArgumentError, match=message) as caught:
            build(cfg)
        assert caught.value.key == key


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_setup, "get_world_size", lambda: 2)
    with pytest.raises(ArgumentError, match="`cuda_graphs` supports only one process"):
        Runner(**settings(tmp_path, cuda_graphs=True))


def test_none_is_the_default(tmp_path: Path) -> None:
    cfg = check_config(Config(settings(tmp_path, cuda_graphs=None)))
    assert not any(isinstance(each, CudaGraphHook) for each in Runner.from_cfg(cfg).hooks)


def test_key_works_in_first_generation_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_setup, "pick_device", lambda: torch.device("cpu"))
    cfg = {"model": {"type": "ToyModel"}, "work_dir": str(tmp_path), "cuda_graphs": True}
    cfg |= {"optimizer": {"type": "SGD", "lr": 0.1}, "runner": {"type": "EpochBasedRunner", "max_epochs": 1}}
    cfg |= {"lr_config": {"policy": "fixed"}, "data": {"samples_per_gpu": 4, "train": {"type": "Points"}}}
    with pytest.raises(ArgumentError, match="`cuda_graphs` needs a CUDA device"):
        check_config(Config(cfg))


@on_gpu
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_on_gpu_weights_are_bit_equal(tmp_path: Path, changes: dict[str, Any]) -> None:
    settled = {**changes, "randomness": {"seed": 7, "deterministic": True}}
    assert_same(run(tmp_path / "b", cuda_graphs=True, **settled), run(tmp_path / "a", **settled))


@on_gpu
def test_on_gpu_resumed_run_is_bit_equal(tmp_path: Path) -> None:
    settled: dict[str, Any] = {"randomness": {"seed": 7, "deterministic": True}, "cuda_graphs": True}
    whole = run(tmp_path / "a", **settled)
    saving: dict[str, Any] = {"default_hooks": {"checkpoint": {"by_epoch": False, "interval": 6}}}
    run(tmp_path / "b", **settled, **saving)
    resumed = run(tmp_path / "b", resume=True, load_from=str(tmp_path / "b" / "iter_6.pth"), **settled)
    assert_same(resumed, whole)


@on_gpu
def test_on_gpu_failed_capture_stops_the_run(tmp_path: Path) -> None:
    # In a process of its own, because the CUDA context may be damaged afterwards.
    context = torch.multiprocessing.get_context("spawn")
    process = context.Process(target=_fail_to_capture, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert not list(tmp_path.rglob("*.pth"))


def _fail_to_capture(folder: Path) -> None:
    with pytest.raises(GraphCaptureError, match=r"test_cuda_graphs.py:\d+"):
        run(folder, cuda_graphs=True, model=Waiting())
