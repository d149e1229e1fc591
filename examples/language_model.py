"""A small language model, trained on the Zen of Python character by character."""

import codecs
import io
import sys
from contextlib import redirect_stdout

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner

LENGTH = 32  # characters that the model sees


def read_text():
    with redirect_stdout(io.StringIO()):
        import this
    return codecs.decode(this.s, "rot13")


class LanguageModel(nn.Module):
    def __init__(self, characters, width=64):
        super().__init__()
        self.embedding, self.position = nn.Embedding(characters, width), nn.Embedding(LENGTH, width)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(width, characters)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(LENGTH), persistent=False)

    def forward(self, tokens):
        hidden = self.embedding(tokens) + self.position.weight[: tokens.shape[1]]
        return self.head(self.blocks(hidden, self.mask[: tokens.shape[1], : tokens.shape[1]], is_causal=True))


def cross_entropy(scores, targets):
    return nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten())


def main(work_dir="work_dirs/language_model", iters=600, batch_size=32, **settings):
    torch.manual_seed(0)
    text = read_text()
    characters = sorted(set(text))
    tokens = torch.tensor([characters.index(character) for character in text])
    windows = tokens.unfold(0, LENGTH + 1, 1)
    data = TensorDataset(windows[:, :-1], windows[:, 1:])
    model = LanguageModel(len(characters))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    settings = {
        "max_iters": iters,
        "train_cfg": {"val_interval": iters // 6},
        "resume": "auto",
        "randomness": {"seed": 0},
        **settings,
    }
    runner = Runner(
        model, work_dir, DataLoader(data, batch_size=batch_size, shuffle=True), loss=cross_entropy,
        optim_wrapper={"optimizer": optimizer, "clip_grad": {"max_norm": 1.0}},
        param_scheduler=torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=iters),
        **settings,
    )  # fmt: skip
    history = runner.train()
    sample = tokens[:8].tolist()
    for _ in range(100):
        scores = model.eval()(torch.tensor([sample[-LENGTH:]]))
        sample.append(int(scores[0, -1].argmax()))
    print("".join(characters[token] for token in sample))
    return history


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
