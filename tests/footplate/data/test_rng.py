import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from footplate.checkpoint import load_checkpoint, save_checkpoint
from footplate.data import capture_rng, mix_seed, preserve_random_state, restore_rng, seed_generators
from footplate.data.loader import SampleLoader
from footplate.data.rng import seed_albumentations


def drawn() -> tuple[float, float, float, float]:
    return random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(()))


def test_mix_seed_is_splitmix64() -> None:
    # From state 0, the generator's published first output.
    assert mix_seed(0) == 0xE220A8397B1DCDAF


def test_all_generators_are_seeded() -> None:
    seed_generators(2**64 - 1)
    first = drawn()
    seed_generators(2**64 - 1)
    assert drawn() == first
    seed_generators(1)
    assert all(one != other for one, other in zip(drawn(), first, strict=True))


class Compose:
    """Has its own generator, like `Compose` of Albumentations since version 1.4.19."""

    def __init__(self, seed: int | None = None) -> None:
        self.set_random_seed(seed)

    def set_random_seed(self, seed: int | None) -> None:
        self.seed = seed
        self.generator = random.Random(seed)

    def __call__(self, image: float) -> float:
        return image + self.generator.random()


class Randomizable(Compose):
    """Has its own generator, like the random transforms of MONAI."""

    def set_random_state(self, seed: int) -> None:
        self.set_random_seed(seed)


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("albumentations")
    module.Compose = type("Compose", (Compose,), {"__call__": Compose.__call__})  # type: ignore[attr-defined]
    module.Randomizable = Randomizable  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "albumentations", module)
    monkeypatch.setitem(sys.modules, "monai.transforms", module)


class Augmented(Dataset[float]):
    def __init__(self, transform: str) -> None:
        self.augment = [getattr(sys.modules["albumentations"], transform)()]

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        return float(self.augment[0](image=index))


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("transform", ["Compose", "Randomizable"])
def test_samples_augmented_by_a_library_can_be_read_again(transform: str, workers: int) -> None:
    dataset = Augmented(transform)
    first, second = (
        [batch.tolist() for batch in SampleLoader(dataset, batch_size=2, num_workers=workers).batches(start=start)]
        for start in (0, 2)
    )
    assert first[2:] == second
    assert len({value % 1 for batch in first for value in batch}) == 8


@pytest.mark.usefixtures("libraries")
def test_seed_that_the_user_has_set_for_albumentations_applies() -> None:
    seed_albumentations()
    seed_albumentations()  # has no effect
    compose = sys.modules["albumentations"].Compose(3)
    generator = random.Random(3)
    assert [compose(image=0) for _ in range(2)] == [generator.random() for _ in range(2)]


def test_the_random_state_is_restored_after_an_error() -> None:
    seed_generators(3)
    np.random.randn()  # leaves one of a pair of normal numbers in the state
    expected = drawn()
    seed_generators(3)
    np.random.randn()
    try:
        with preserve_random_state():
            seed_generators(9)
            drawn()
            raise KeyError
    except KeyError:
        pass
    assert drawn() == expected


def _draw() -> tuple[list[float], list[float], list[float]]:
    mine = [random.random(), random.gauss(0, 1)]
    return mine, np.random.standard_normal(3).tolist(), torch.randn(3).tolist()


@pytest.mark.parametrize("draws", [0, 1])
def test_generators_go_on_where_they_stood(tmp_path: Path, draws: int) -> None:
    for _ in range(draws):
        _draw()
    save_checkpoint({"random": capture_rng()}, tmp_path / "a.pth")
    expected = [_draw(), _draw()]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    restore_rng(load_checkpoint(tmp_path / "a.pth")["random"])
    assert [_draw(), _draw()] == expected
