"""A GAN that draws rings. Two optimizers; each epoch saves a picture in the work_dir."""

import sys

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner


def draw_rings(number):
    generator = torch.Generator().manual_seed(0)
    x, y, radius = (4 + 8 * torch.rand(3, number, 1, 1, generator=generator)).unbind()
    line = torch.arange(16.0)
    distance = ((line - x) ** 2 + (line[:, None] - y) ** 2).sqrt() - radius / 2
    return 2 * torch.exp(-(distance**2)) - 1  # (N, 16, 16), from -1 to 1


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        hidden = [nn.Linear(8, 128), nn.LayerNorm(128), nn.ReLU(), nn.Linear(128, 256), nn.LayerNorm(256), nn.ReLU()]
        self.generator = nn.Sequential(*hidden, nn.Linear(256, 256), nn.Tanh(), nn.Unflatten(1, (16, 16)))
        hidden = [nn.Linear(256, 256), nn.LeakyReLU(0.2), nn.Linear(256, 128), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, 1))


def training_step(model, batch, optimizers, step):
    images, noise = batch
    fakes = model.generator(noise)
    scores = model.discriminator(torch.cat([images, fakes.detach()]))
    truth = torch.cat([torch.full((len(images), 1), 0.9), torch.zeros(len(fakes), 1)])
    discriminator_loss = binary_cross_entropy_with_logits(scores, truth)
    optimizers["discriminator"].update_params(discriminator_loss)
    scores = model.discriminator(fakes)
    generator_loss = binary_cross_entropy_with_logits(scores, torch.ones_like(scores))
    optimizers["generator"].update_params(generator_loss)
    step.log("fooled", (scores > 0).float().mean())
    return {"discriminator_loss": discriminator_loss, "generator_loss": generator_loss}


def main(work_dir="work_dirs/gan", epochs=80, number=1024, batch_size=64, **settings):
    torch.manual_seed(0)
    model, noise = GAN(), torch.randn(number, 8)
    loader = DataLoader(TensorDataset(draw_rings(number), noise), batch_size=batch_size, shuffle=True)
    rates = {"generator": 1e-3, "discriminator": 5e-4}
    optimizers = {
        name: torch.optim.Adam(model.get_submodule(name).parameters(), lr, (0.5, 0.99)) for name, lr in rates.items()
    }
    settings = {"max_epochs": epochs, "resume": "auto", "randomness": {"seed": 0}, **settings}
    runner = Runner(model, work_dir, loader, training_step=training_step, optim_wrapper=optimizers, **settings)

    @runner.on("after_train_epoch")
    def draw(runner):
        with torch.no_grad():
            rings = model.generator(noise[:64]).reshape(8, 8, 16, 16).transpose(1, 2).reshape(128, 128)
        if runner.rank == 0:
            Image.fromarray(((rings + 1) * 127.5).byte().numpy()).save(f"{work_dir}/epoch_{runner.epoch + 1}.png")

    return runner.train()


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
