"""A GAN that draws rings. Two optimizers; each epoch saves an image in the work_dir: data left, generated right."""

import sys

import torch
from PIL import Image
from torch import nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, TensorDataset

from footplate import Runner


def draw_rings(number):
    x, y, radius = torch.rand(3, number, 1, 1, generator=torch.Generator().manual_seed(0)).unbind()
    line = torch.arange(16.0)
    distance = ((line - 5 - 6 * x) ** 2 + (line[:, None] - 5 - 6 * y) ** 2).sqrt() - 2 - 3 * radius
    return 2 * torch.exp(-(distance**2))[:, None] - 1  # (N, 1, 16, 16), from -1 to 1


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        layers = [nn.Linear(4, 768), nn.Unflatten(1, (48, 4, 4)), nn.ReLU()]
        for inputs, outputs in ((48, 24), (24, 12)):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
        self.generator = nn.Sequential(*layers, nn.Conv2d(12, 1, 3, padding=1))
        layers = [nn.Conv2d(1, 24, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(24, 48, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.discriminator = nn.Sequential(*layers, nn.Flatten(), nn.Linear(768, 1))


def training_step(model, batch, optimizers, step):
    images, noise = batch[0].requires_grad_(), batch[1]
    fakes = model.generator(noise)
    real, fake = model.discriminator(images), model.discriminator(fakes.detach())
    (slopes,) = torch.autograd.grad(real.sum(), images, create_graph=True)
    penalty = slopes.square().sum((1, 2, 3)).mean()  # keeps the discriminator smooth
    discriminator_loss = softplus(-real).mean() + softplus(fake).mean() + 0.1 * penalty
    optimizers["discriminator"].update_params(discriminator_loss)
    fake = model.discriminator(fakes)
    generator_loss = softplus(-fake).mean()
    optimizers["generator"].update_params(generator_loss)
    step.log("fooled", (fake > 0).float().mean())
    return {"discriminator_loss": discriminator_loss, "generator_loss": generator_loss}


def main(work_dir="work_dirs/gan", epochs=75, number=1024, batch_size=32, **settings):
    torch.manual_seed(0)
    model, rings, noise = GAN(), draw_rings(number), torch.randn(number, 4)
    loader = DataLoader(TensorDataset(rings, noise), batch_size=batch_size, shuffle=True)
    parts = {name: getattr(model, name).parameters() for name in ("generator", "discriminator")}
    optimizers = {name: torch.optim.Adam(part, 2e-3, (0.0, 0.99)) for name, part in parts.items()}
    settings = {"max_epochs": epochs, "resume": "auto", "randomness": {"seed": 0}, **settings}
    runner = Runner(model, work_dir, loader, training_step=training_step, optim_wrapper=optimizers, **settings)

    @runner.on("after_train_epoch")
    def draw(runner):
        with torch.no_grad():
            tiles = torch.stack([rings[:64], model.generator(noise[:64])]).unflatten(1, (8, 8))
        if runner.rank == 0:
            picture = tiles[:, :, :, 0].permute(1, 3, 0, 2, 4).reshape(128, 256).clamp(-1, 1)
            image = Image.fromarray(((picture + 1) * 127.5).byte().numpy())
            image.resize((768, 384), Image.Resampling.NEAREST).save(f"{work_dir}/epoch_{runner.epoch + 1}.png")

    return runner.train()


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
