"""Contrastive learning with an own sampler: triplets of signals, of which one class is drawn more often."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from footplate import Runner

CLASSES = 8


class Triplets(Dataset):
    """Yields noisy signals: an anchor, a positive of the same class, and a negative of another class."""

    def __init__(self, size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.patterns = torch.randn(CLASSES, 32, generator=torch.Generator().manual_seed(0))
        self.labels = torch.randint(CLASSES, (size,), generator=generator)
        self.others = (self.labels + torch.randint(1, CLASSES, (size,), generator=generator)) % CLASSES
        self.noise = 1.5 * torch.randn(size, 3, 32, generator=generator)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        classes = torch.stack([self.labels[index], self.labels[index], self.others[index]])
        return self.patterns[classes] + self.noise[index]


class ClassSampler(Sampler):
    """Draws class 0 three times as often as the others, in a new order in each epoch."""

    def __init__(self, labels, seed=0):
        self.labels, self.seed, self.epoch = labels, seed, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return len(self.labels)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        weights = 1.0 + 2.0 * (self.labels == 0)
        yield from torch.multinomial(weights, len(self), replacement=True, generator=generator).tolist()


def triplet_loss(model, triplets):
    anchor, positive, negative = model(triplets.flatten(0, 1)).unflatten(0, (-1, 3)).unbind(1)
    return nn.functional.triplet_margin_loss(anchor, positive, negative)


def ranks_right(embeddings, triplets):
    anchor, positive, negative = embeddings.unflatten(0, (-1, 3)).unbind(1)
    return ((anchor - positive).norm(dim=1) < (anchor - negative).norm(dim=1)).float().mean()


def main(work_dir="work_dirs/contrastive", epochs=8, size=2048, batch_size=64, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
    train, val = Triplets(size, seed=1), Triplets(size // 4, seed=2)
    settings = {"max_epochs": epochs, "resume": "auto", "randomness": {"seed": 0}, **settings}
    loader = DataLoader(train, batch_size=batch_size, sampler=ClassSampler(train.labels))
    runner = Runner(
        model, work_dir, loader, DataLoader(val, batch_size=batch_size),
        training_step=triplet_loss, validation_step=lambda model, triplets: model(triplets.flatten(0, 1)),
        val_evaluator={"right": ranks_right}, optim_wrapper=torch.optim.Adam(model.parameters(), lr=1e-3),
        **settings,
    )  # fmt: skip
    return runner.train()


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
