from pathlib import Path

import pytest

from tests.footplate.cli.conftest import Command


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["train", "tiny.py", "--resume", "no.pth"], "key load_from"),
        (["test", "tiny.py", "no.pth"], "key CHECKPOINT"),
    ],
)
def test_missing_checkpoint_is_an_error(tiny: Path, footplate: Command, command: list[str], place: str) -> None:
    code, _, errors = footplate(*command, "--work-dir", "work")
    assert code == 2
    assert errors.startswith(f"error: checkpoint 'no.pth' does not exist\n  {place}\n  tried {tiny.parent}/no.pth; ")
    assert errors.endswith(f"\n  the folder '{tiny.parent}' has no 'no.pth'\n")


def test_missing_config_is_reported(tiny: Path, footplate: Command) -> None:
    assert footplate("train", "tin.py")[::2] == (
        2,
        "error: there is no config file or recipe 'tin.py'\n"
        "  did you mean 'tiny.py'?\n"
        "  `footplate recipes` lists the recipes.\n",
    )
    assert "did you mean 'fashion-seg'?" in footplate("train", "fashion-sge")[2]
