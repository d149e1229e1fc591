"""Reinforcement learning that makes its own data: an agent learns to balance a pole (REINFORCE with a baseline)."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from footplate import Runner

STEPS = 100


class Episodes(Dataset):
    """Yields the randomness of each episode: its start, and one number per decision."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return 0.1 * torch.randn(2, generator=generator), torch.rand(STEPS, generator=generator)


def play(model, batch):
    """Plays one episode per sample. Returns the log-probabilities of the actions and who was still up, ``(N, T)``."""
    state, numbers = batch
    logs, alive = [], []
    up = torch.ones(len(state))
    for number in numbers.unbind(1):
        push_right = model(state)[:, 0].sigmoid()
        action = (number < push_right).float()
        logs.append(torch.where(action > 0, push_right, 1 - push_right).clamp_min(1e-6).log())
        alive.append(up)
        angle, speed = state.unbind(1)
        speed = speed + 0.05 * (9.8 * angle.sin() - 4 * (2 * action - 1))
        state = torch.stack([angle + 0.05 * speed, speed], 1)
        up = up * (state[:, 0].abs() < 0.5)
    return torch.stack(logs, 1), torch.stack(alive, 1)


def training_step(model, batch, step):
    logs, alive = play(model, batch)
    step.log("steps_up", alive.sum(1).mean())
    returns = alive.flip(1).cumsum(1).flip(1)  # the number of steps that follow each action
    baseline = torch.arange(STEPS, 0, -1) / 2
    return -(logs * alive * (returns - baseline) / STEPS).sum(1).mean() / STEPS


def main(work_dir="work_dirs/reinforcement", iters=150, batch_size=64, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1))
    loader = DataLoader(Episodes(64 * iters), batch_size)
    settings = {
        "max_iters": iters,
        "train_cfg": {"val_interval": iters // 6},
        "resume": "auto",
        "randomness": {"seed": 0},
        **settings,
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    runner = Runner(model, work_dir, loader, training_step=training_step, optim_wrapper=optimizer, **settings)
    return runner.train()


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
