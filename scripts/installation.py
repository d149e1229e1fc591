"""Switches the README, the pages and the notebooks from a clone to PyPI: set `PUBLISHED`, and run this script."""

import re
from collections.abc import Iterator
from pathlib import Path

PUBLISHED = False

ROOT = Path(__file__).resolve().parents[1]
# What is true until footplate is on PyPI, and what replaces it.
SENTENCES = {
    # README
    ". It isn't on PyPI yet, so run these commands in a clone of the repository:": ":",
    "。它尚未发布到 PyPI，请先克隆代码，再在克隆得到的目录中运行：": "：",
    "make train    # installs footplate in .venv and trains fashion-seg, with its own data\n"
    "source .venv/bin/activate    # for the commands below\n": "pip install footplate\nfootplate train fashion-seg\n",
    "Version 0.1.0 has not been released yet.": "Names may change until version 1.0 ([public API]"
    "(docs/public-api.md)).",
    "0.1.0 版尚未发布。": "1.0 版之前，名称可能会变化（[公开接口](docs/public-api.md)，英文）。",
    # Install
    "footplate is not published on PyPI or any other package index. Clone the repository, and run all install commands "
    "on this site in the clone.": "To work on footplate itself, clone the repository and run `make setup`.",
    "footplate 没有发布到 PyPI 或其他软件源。请先克隆代码，本站所有安装命令都在克隆得到的目录中运行。": (
        "要修改 footplate 本身，请克隆代码并运行 `make setup`。"
    ),
    # Code bases
    "install the matching extra from a clone of footplate": "install the matching extra",
    "请在克隆的 footplate 目录中通过可选依赖": "请通过可选依赖",
    "`-c constraints.txt` selects the versions that footplate is tested with, including PyTorch 2.13.0. ": "",
    "To keep a different PyTorch, replace it with that version": "To keep a different PyTorch, add its version",
    "in a new environment, in a clone of footplate.": "in a new environment.",
    "加上 `-c constraints.txt` 会安装 footplate 测试时使用的版本，其中包括 PyTorch 2.13.0。": "",
    "请把它换成该版本": "请加上该版本",
    "请在克隆的 footplate 目录中，把每个代码库": "请把每个代码库",
    "请在[克隆的 footplate 目录](install.zh.md)中，把代码库": "请把代码库",
    ", from a [clone of footplate](install.md):": ":",
    # Notebooks
    "footplate isn't on PyPI yet, so run this notebook in a clone of the repository.": "It also runs in Colab.",
}
_COMMAND = re.compile(
    r"pip install( -q)?(?: -c (?:\.\./\.\./)?constraints\.txt)? -e ('?)\.(?:\./\.\.)?(?:(\[[\w,]+\])')?"
)


def files() -> Iterator[Path]:
    """Yields the files that tell how to install footplate."""
    yield from (ROOT / "README.md", ROOT / "README.zh.md")
    for name in ("install", "hosts", "first-generation", "research-code"):
        yield from sorted(ROOT.glob(f"docs/{name}*.md"))
    yield from sorted(ROOT.glob("docs/notebooks/*.ipynb"))


def published(text: str) -> str:
    """Returns a text as it reads once footplate is on PyPI."""
    for sentence, replacement in SENTENCES.items():
        text = text.replace(sentence, replacement)
    return _COMMAND.sub(lambda command: _install(command[1] or "", command[3]), text)


def _install(option: str, extras: str | None) -> str:
    return f"pip install{option} 'footplate{extras}'" if extras else f"pip install{option} footplate"


if __name__ == "__main__" and PUBLISHED:
    for path in files():
        path.write_text(published(path.read_text(encoding="utf-8")), encoding="utf-8")
