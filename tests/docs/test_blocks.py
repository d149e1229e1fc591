"""Every block of code of the docs is tried: configs are read and trained, code runs, commands are taken or run."""

from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks_of, commands_within, pages
from tests.docs.trying import Page, check_words

_RULES = "\n## The rules\n"  # of docs/migration.md: `tests/migration/rules` tries each
PAGES = [each for each in pages() if blocks_of(each.read_text(encoding="utf-8"))]


def _named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", PAGES, ids=_named)
@pytest.mark.filterwarnings("default:::transformers")
def test_the_blocks_of_a_page(path: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = Page(path, capsys)
    for block in blocks_of(path.read_text(encoding="utf-8").partition(_RULES)[0]):
        try:
            page.try_block(block)
        except BaseException as error:
            raise AssertionError(f"{_named(path)}:{block.line}: {error}") from error


@pytest.mark.parametrize("path", [each for each in pages() if each.parent != DOCS / "decisions"], ids=_named)
def test_commands_within_sentences(path: Path) -> None:
    for command in commands_within(path.read_text(encoding="utf-8")):
        check_words(command)


@pytest.mark.parametrize(
    "text",
    [
        "```console\nfootplate trian config.py\n```",
        "```console\nfootplate train config.py --resum-from x.pth\n```",
        "```console\nmake tee\n```",
        "```console\ncd here && pip install 'footplate[tenserboard]'\n```",
        "```console\n$ footplate recipes\nfashion-sge\n```",
        "```sh\nsrun footplate train --work-dir work\n```",
        "```python\ntrain_dataloader = dict(batch_size=2, dataset=dict(type='Pints'))\n```",
        "```python\noptim_wrapper = dict(optimizer=dict(type='SGD', learning_rate=0.1))\n```",
        '```python title="mine.py"\n_base_ = "footplate::fashion-seg.py"\ntrain_cfg = dict(max_itres=3)\n```',
        "```python\nfrom footplate import Runer\n```",
        '```python title="my_module.py"\nclass Mine\n```',
        "```yaml\na: 1\n```",
    ],
)
def test_a_block_that_does_not_work_is_found(text: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = blocks_of(f"# Page\n\n{text}\n")
    with pytest.raises(BaseException):  # noqa: B017, PT011 - each in its own way
        Page(Path("page.md"), capsys).try_block(block)


@pytest.mark.parametrize("command", ["trian CONFIG", "explain CONFIG --plt FILE", "--verison"])
def test_a_command_that_does_not_exist_is_found_in_a_sentence(command: str) -> None:
    (found,) = commands_within(f"Use `footplate {command}` here.")
    with pytest.raises(AssertionError):
        check_words(found)
