"""A GPT-2 of transformers trains to the same weights with Trainer and with footplate, on labels of uneven number."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import programs
from tests.footplate_openmmlab.environment import ENVIRONMENT

COMMON = """
import os
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel

counts, ranks = int(sys.argv[1]), int(os.environ.get("WORLD_SIZE", 1))
torch.manual_seed(0)
config = GPT2Config(
    vocab_size=20, n_positions=64, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
    resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
)
model = GPT2LMHeadModel(config)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
texts = [torch.randint(20, (3 + 7 * index % 58,)) for index in range(48)]
data = [{"input_ids": text, "labels": text.where(torch.arange(len(text)) > index % 3, -100)}
        for index, text in enumerate(texts)]


def collate(rows):
    width = max(len(row["input_ids"]) for row in rows)

    def padded(key, value):
        return torch.stack([torch.nn.functional.pad(row[key], (0, width - len(row[key])), value=value) for row in rows])

    mask = torch.stack([(torch.arange(width) < len(row["input_ids"])).long() for row in rows])
    return {"input_ids": padded("input_ids", 0), "labels": padded("labels", -100), "attention_mask": mask}
"""
TRAINER = """
from transformers import Trainer, TrainingArguments

arguments = TrainingArguments(
    "output", num_train_epochs=2, per_device_train_batch_size=4 // ranks, gradient_accumulation_steps=counts,
    max_grad_norm=1.0, use_cpu=True, report_to=[], train_sampling_strategy="sequential", save_strategy="no",
    remove_unused_columns=False,
)
constant = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
trainer = Trainer(model, arguments, data_collator=collate, train_dataset=data, optimizers=(optimizer, constant))
trainer.train()
"""
FOOTPLATE = """
from torch.utils.data import DataLoader
from footplate import Runner, Weighted


def training_step(model, batch):
    return Weighted(model(**batch).loss, (batch["labels"][:, 1:] != -100).sum())


model.train()
train = DataLoader(data, batch_size=4 // ranks, collate_fn=collate)
wrapper = dict(optimizer=optimizer, accumulative_counts=counts, clip_grad=dict(max_norm=1.0))
Runner(model, "work", train, max_epochs=2, training_step=training_step, optim_wrapper=wrapper).train()
"""
SAVE = """
if int(os.environ.get("RANK", 0)) == 0:
    torch.save([weight.detach() for weight in model.parameters()], "weights.pt")
"""


def trained(folder: Path, body: str, counts: int, ranks: int) -> list[torch.Tensor]:
    folder.mkdir(parents=True)
    (folder / "program.py").write_text(COMMON + body + SAVE)
    program = ["program.py", str(counts)]
    if ranks == 1:
        done = programs.run(*program, folder=folder, environment=ENVIRONMENT)
    else:
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={ranks}", "--standalone"]
        command = [sys.executable, *launcher, *program]
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    weights: list[torch.Tensor] = torch.load(folder / "weights.pt")
    return weights


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_weights_equal_those_of_trainer(tmp_path: Path) -> None:
    for counts, ranks in ((4, 1), (4, 2)):
        folder = tmp_path / f"{counts}{ranks}"
        theirs = trained(folder / "trainer", TRAINER, counts, ranks)
        ours = trained(folder / "footplate", FOOTPLATE, counts, ranks)
        difference = max((one - other).abs().max().item() for one, other in zip(theirs, ours, strict=True))
        print(f"accumulation {counts}, processes {ranks}: {difference:.1e}")
        assert difference < 1e-6
