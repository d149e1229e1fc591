"""Predicts house prices from a table: a validation set, a metric, averaged weights and early stopping."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner


def make_table(rows, seed):
    """Returns columns (area, rooms, age, distance) and prices in thousands."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(rows, 4, generator=generator)
    columns = uniform * torch.tensor([150.0, 6.0, 80.0, 30.0]) + torch.tensor([30.0, 1.0, 0.0, 0.0])
    area, rooms, age, distance = columns.unbind(1)
    prices = area * (4 - distance / 15) + 10 * rooms - age + 5 * torch.randn(rows, generator=generator)
    return columns, prices


def mean_error(prices, batch):
    return (prices - batch[1]).abs().mean()


class Prices(nn.Module):
    def __init__(self, columns, prices):
        super().__init__()
        self.register_buffer("mean", columns.mean(0))
        self.register_buffer("std", columns.std(0))
        self.scale = float(prices.std())
        self.layers = nn.Sequential(nn.Linear(4, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, columns):
        return self.scale * self.layers((columns - self.mean) / self.std)[:, 0]


def main(work_dir="work_dirs/table", epochs=30, rows=2048, batch_size=128, **settings):
    torch.manual_seed(0)
    table, validation = make_table(rows, seed=0), make_table(rows // 4, seed=1)
    model = Prices(*table)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    settings = {"max_epochs": epochs, "resume": "auto", "randomness": {"seed": 0}, **settings}
    hooks = [{"type": "EMAHook", "momentum": 0.05}, {"type": "EarlyStoppingHook", "monitor": "error", "rule": "less"}]
    runner = Runner(
        model, work_dir,
        DataLoader(TensorDataset(*table), batch_size=batch_size, shuffle=True),
        DataLoader(TensorDataset(*validation), batch_size=batch_size),
        loss=nn.HuberLoss(delta=50.0), val_evaluator={"error": mean_error}, optim_wrapper=optimizer,
        param_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs),
        custom_hooks=hooks, default_hooks={"checkpoint": {"interval": 1, "save_best": "error", "rule": "less"}},
        **settings,
    )  # fmt: skip
    return runner.train()


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
