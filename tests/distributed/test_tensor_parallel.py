"""Runs whose layers are split across processes."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.agreement import Seen, difference
from footplate import Runner
from footplate.checkpoint.serializable import gather_full_state
from footplate.distributed import get_data_rank, unwrap_model, wrap_model
from footplate.distributed.sharding import local_tensor, tensor_norms
from footplate.errors import ArgumentError
from footplate.evaluation import BaseMetric
from footplate.models import BaseModel
from footplate.registry import DATASETS, METRICS, MODELS
from tests.distributed.conftest import OnRanks


class Attention(nn.Module):
    """Attention that infers the number of heads from its input, as the models of transformers do."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.qkv = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(16, 16)

    def forward(self, inputs: Tensor) -> Tensor:
        query, key, value = (layer(inputs).unflatten(-1, (-1, 4)) for layer in self.qkv)
        parts = (each.transpose(1, 2) for each in (self.norm(query), key, value))
        mixed = nn.functional.scaled_dot_product_attention(*parts)
        return torch.as_tensor(self.out(mixed.transpose(1, 2).flatten(2)))


class Block(nn.Module):
    def __init__(self, drop: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(16)
        self.attention = Attention()
        self.fc1, self.fc2 = nn.Linear(16, 24), nn.Linear(24, 16)
        self.drop = nn.Dropout(drop)

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs + self.drop(self.attention(self.norm(inputs)))
        return torch.as_tensor(inputs + self.drop(self.fc2(torch.tanh(self.fc1(inputs)))))


@MODELS.register_module(force=True)
class SplitNet(BaseModel):
    """A float64 model that predicts the next word, whose word vectors are also the weights of the head."""

    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 16)  # 11 is not divisible by 2
        self.blocks = nn.ModuleList([Block(drop), Block(drop)])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 11, bias=False)
        self.head.weight = self.words.weight
        self.double()

    def forward(self, inputs: Tensor, ids: Tensor, mode: str = "tensor") -> Any:
        found = self.words(inputs[:, :-1])
        for block in self.blocks:
            found = block(found)
        scores = self.head(self.norm(found)).flatten(0, 1)
        if mode == "predict":
            return ids.tolist()
        return {"loss": nn.functional.cross_entropy(scores, inputs[:, 1:].flatten())}


@DATASETS.register_module(force=True)
class Words(Dataset[Any]):
    """Sequences of 6 words, each of which depends on the one before, some of them replaced at random."""

    def __len__(self) -> int:
        return 25

    def __getitem__(self, index: int) -> Any:
        words = (index + 3 * torch.arange(6)) % 11
        return {"inputs": torch.where(torch.rand(6) < 0.2, torch.randint(11, (6,)), words), "ids": index}


@METRICS.register_module(force=True)
class EachOnce(BaseMetric[int]):
    """Checks that every sample has one result, in order."""

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results += data_samples

    def compute_metrics(self, results: list[int]) -> dict[str, Any]:
        return {"in_order": float(results == list(range(25)))}


PLAN = {
    "words": "rowwise",
    "blocks.*.attention.qkv.*": "colwise",
    "blocks.*.attention.norm": "replicated_with_grad_allreduce",
    "blocks.*.attention.out": "rowwise",
    "blocks.*.fc1": "colwise",
    "blocks.*.fc2": "rowwise",
    "head": "colwise_gather_output",
}
SPLIT = {"type": "FullyShard", "shard": {"classes": ["Block"]}, "tensor_parallel": {"size": 2, "plan": PLAN}}


def train(folder: Path, changes: dict[str, Any] | None = None) -> tuple[dict[str, Tensor], Any, float]:
    """Trains 8 iterations and returns the full weights and averages, the samples seen and the metric."""
    is_distributed = dist.is_initialized()
    wrapper = (changes or {}).get("model_wrapper_cfg", SPLIT)
    groups = dist.get_world_size() // (2 if "tensor_parallel" in wrapper else 1) if is_distributed else 1
    seen = Seen()
    loader = {"dataset": {"type": "Words"}, "collate_fn": {"type": "default_collate"}, "batch_size": 4}
    settings: dict[str, Any] = {
        "model": {"type": "SplitNet"},
        "work_dir": str(folder),
        "train_dataloader": {
            **loader,
            "batch_size": 12 // groups,
            "sampler": {"type": "InfiniteSampler", "shuffle": True},
        },
        "val_dataloader": {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
        "val_cfg": {},
        "val_evaluator": {"type": "EachOnce"},
        "train_cfg": {"by_epoch": False, "max_iters": 8, "val_interval": 8},
        "optim_wrapper": {
            "optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9},
            "clip_grad": {"max_norm": 0.5},
            "accumulative_counts": 2,
        },
        "custom_hooks": [{"type": "EMAHook", "momentum": 0.2}, seen],
        "default_hooks": {"checkpoint": {"by_epoch": False, "interval": 5, "save_last": False}},
        "model_wrapper_cfg": wrapper,
        "randomness": {"seed": 1},
        "launcher": "pytorch" if is_distributed else "none",
        "visualizer": {"vis_backends": []},
        "log_level": "ERROR",
    }
    runner = Runner(**(settings | (changes or {})))
    runner.train()
    (average,) = (each.ema_model for each in runner.hooks if hasattr(each, "ema_model"))
    state = {**unwrap_model(runner.model).state_dict(), **average.state_dict(prefix="average.")}
    weights = {name: each.clone() for name, each in gather_full_state(state).items() if each.is_floating_point()}
    return weights, seen.ids, float(runner.message_hub.scalar("val/in_order").current())


def test_split_layers_train_the_same_weights_as_one_process(tmp_path: Path, on_ranks: OnRanks) -> None:
    alone, _, _ = train(tmp_path / "alone")
    found = on_ranks(2, train, tmp_path / "two")
    assert difference(found[0][0], alone) < 1e-12
    assert found[0][1] == found[1][1]  # both see all samples
    assert [metric for *_, metric in found] == [1.0, 1.0]


def _resuming(path: Path, **wrapper: Any) -> dict[str, Any]:
    return {"load_from": str(path), "resume": True, "model_wrapper_cfg": {**SPLIT, **wrapper}}


def test_split_layers_resume_exactly_and_on_other_processes(tmp_path: Path, on_ranks: OnRanks) -> None:
    name = "iter_5.sharded"  # 5 iterations end with half an accumulation
    whole = on_ranks(2, train, tmp_path / "whole")[0]
    again = on_ranks(2, train, tmp_path / "two", _resuming(tmp_path / "whole" / name))[0]
    assert all(torch.equal(again[0][key], value) for key, value in whole[0].items())
    assert again[1] == {at: whole[1][at] for at in (5, 6, 7)}
    alone, seen, _ = train(tmp_path / "one", _resuming(tmp_path / "whole" / name))
    assert difference(alone, whole[0]) < 1e-12
    assert seen == again[1]


def test_layers_are_split_within_shards_and_replicas(tmp_path: Path, on_ranks: OnRanks) -> None:
    wrapper = {**SPLIT, "mesh": (1, 2)}
    whole = on_ranks(4, train, tmp_path / "four", {"model_wrapper_cfg": wrapper})
    assert difference(whole[0][0], train(tmp_path / "one")[0]) < 1e-12
    assert whole[0][1] == whole[1][1] != whole[2][1] == whole[3][1]
    assert [metric for *_, metric in whole] == [1.0] * 4
    alone = train(tmp_path / "again", _resuming(tmp_path / "four/iter_5.sharded"))[0]
    assert difference(alone, whole[0][0]) < 1e-12


def _forms() -> None:
    torch.manual_seed(0)
    plain, model = SplitNet(), SplitNet()
    plain.load_state_dict(model.state_dict())
    wrap_model(model, SPLIT)
    assert model.head.weight is model.words.weight
    assert local_tensor(model.blocks[0].fc1.weight).shape == (12, 16)  # type: ignore[union-attr, arg-type]
    assert local_tensor(model.blocks[0].fc2.weight).shape == (16, 12)  # type: ignore[union-attr, arg-type]
    assert get_data_rank() == 0
    found = tensor_norms(each.detach() for each in model.parameters())
    expected = torch.stack([each.detach().norm() for each in plain.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_layers_are_split_and_keep_shared_weights(on_ranks: OnRanks) -> None:
    on_ranks(2, _forms)


@pytest.mark.parametrize(
    ("plan", "key", "message"),
    [
        ({"blocks.*.fc1": "column"}, "plan.blocks.*.fc1", "must be one of colwise, rowwise"),
        ({"blocks.fc1": "colwise"}, "plan.blocks.fc1", "no module in the model matches 'blocks.fc1'"),
        (None, "plan", "the model has no plan for tensor parallelism"),
        ({}, "plan", "plan must be a non-empty dict"),
        ({"blocks.*.fc1": "colwise"}, "plan.blocks.*.fc1", "out_features of 'blocks.0.fc1' is "),
    ],
)
def test_plan_that_does_not_fit_raises(plan: Any, key: str, message: str) -> None:
    wrapper = {"type": "FullyShard", "tensor_parallel": {"size": 16, "plan": plan}}
    with pytest.raises(ArgumentError, match=re.escape(message)) as caught:
        wrap_model(SplitNet(), wrapper)
    assert caught.value.key == f"model_wrapper_cfg.tensor_parallel.{key}"


def _errors(folder: Path) -> list[tuple[str, str]]:
    found = []
    for changes in (
        {"model_wrapper_cfg": {**SPLIT, "tensor_parallel": {"size": 4, "plan": PLAN}}},
        {"model_wrapper_cfg": {**SPLIT, "mesh": (2, 1)}},
        {"model_wrapper_cfg": {**SPLIT, "tensor_parallel": {"size": 2, "plan": {"words": "rowwise"}}}},
        {"model_wrapper_cfg": {**SPLIT, "tensor_parallel": {"size": 2, "plan": {"norm": "colwise"}}}},
        {"sync_bn": "torch"},
        {"randomness": {"seed": 1, "diff_rank_seed": True}},
        {"train_dataloader": torch.utils.data.DataLoader(Words())},
    ):
        with pytest.raises(ArgumentError) as caught:
            train(folder, changes)
        found.append((caught.value.key, caught.value.message))
    return found


def test_what_cannot_be_combined_raises(tmp_path: Path, on_ranks: OnRanks) -> None:
    start = "model_wrapper_cfg."
    for errors in on_ranks(2, _errors, tmp_path):
        assert errors == [
            (f"{start}tensor_parallel", "tensor_parallel=4 does not match the number of processes, 2"),
            (f"{start}mesh", "mesh=(2, 1) with tensor_parallel=2 does not match the number of processes, 2"),
            (
                f"{start}tensor_parallel.plan",
                "the plan must apply the same split to all layers that share a weight: words.weight, head.weight",
            ),
            (f"{start}tensor_parallel.plan", "ColwiseParallel currently only support nn.Linear and nn.Embedding!"),
            (f"{start}tensor_parallel", "sync_bn='torch' cannot be combined with tensor_parallel"),
            ("randomness.diff_rank_seed", "diff_rank_seed cannot be combined with tensor_parallel"),
            ("train_dataloader", "tensor_parallel requires data loaders that are built from a config"),
        ]


def _gradients(sizes: dict[str, Any]) -> tuple[float, dict[str, Tensor]]:
    """Returns the loss and the gradients of a model of transformers with its own plan, which is split if possible."""
    import transformers

    warnings.simplefilter("ignore", UserWarning)  # raised by FSDP2, because the scores are a view
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        vocab_size=33, hidden_size=16, head_dim=4, intermediate_size=24, num_hidden_layers=2, **sizes
    )
    model = transformers.Qwen3ForCausalLM(config).double()
    wrap_model(model, {"type": "FullyShard", "shard": {"classes": ["Qwen3DecoderLayer"]}, "tensor_parallel": 2})
    words = torch.arange(20).view(2, 10) % 33
    loss = model(input_ids=words, labels=words).loss
    loss.backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return float(loss.detach()), {name: each.clone() for name, each in gather_full_state(gradients).items()}


def test_models_of_transformers_are_split_by_their_plan(on_ranks: OnRanks) -> None:
    pytest.importorskip("transformers")
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    loss, gradients = _gradients(heads)
    found, split = on_ranks(2, _gradients, heads)[0]
    assert found == pytest.approx(loss, rel=1e-14)
    assert difference(split, gradients) < 1e-12
