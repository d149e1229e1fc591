"""The pieces of code that the documents print, with the test that runs each."""

import importlib
from collections.abc import Iterator
from types import ModuleType

from tests.documents.support import Fragment

DOCUMENTS = {
    "000": "教程 6: 自定义运行设定 (MMSegmentation 0.x)",
    "001": "自定义运行 (MMSelfSup 1.x)",
    "002": "Customize Runtime Settings (MMSegmentation 1.x)",
    "003": "自定义优化器、训练策略、工作流和钩子 (MMDetection 2.x)",
    "004": "训练引擎 (MMSegmentation 1.x)",
}
# How many pieces each prints; in 003, whose code stands in the text, a piece is what one sentence introduces.
COUNTS = {"000": 17, "001": 11, "002": 22, "003": 23, "004": 10}
_MODULES = {
    "000": "test_000_runtime_v0",
    "001": "test_001_runtime_selfsup",
    "002": "test_002_runtime_seg",
    "003": "test_003_runtime_det",
    "004": "test_004_engine_seg",
}


def module_of(document: str) -> ModuleType:
    """Returns the module with the tests of a document."""
    return importlib.import_module(f"tests.documents.{_MODULES[document]}")


def fragments_of(document: str) -> list[Fragment]:
    """Returns the pieces of a document in their order."""
    return sorted(_found(module_of(document)), key=lambda fragment: fragment.number)


def as_page() -> str:
    """Returns the list as a page of the docs."""
    lines = [
        "# The documents' code, and the tests that run it",
        "",
        "Written by `python -m tests.documents`. Each config trains a few iterations on the shipped scenes; each class"
        " runs as printed where that is valid Python, else with the mend that the table names."
        " Two long sources, 003 number 8 and 004 number 1, are tested by what they do.",
    ]
    for document, title in DOCUMENTS.items():
        lines += ["", f"## {document}: {title}", "", "| | section | begins with | test | mend |", "|-|-|-|-|-|"]
        lines += [_row(document, fragment) for fragment in fragments_of(document)]
    return "\n".join(lines) + "\n"


def _found(module: ModuleType) -> Iterator[Fragment]:
    for value in vars(module).values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, Fragment) and each.number:
                yield each


def _row(document: str, fragment: Fragment) -> str:
    lines = [line.strip() for line in fragment.text.splitlines()]
    first = next(line for line in lines if line and not line.startswith("#") and line != "...")
    cells = [
        str(fragment.number),
        fragment.section,
        f"`{first}`",
        f"`{_MODULES[document]}::{fragment.tests}`",
        fragment.why,
    ]
    return f"| {' | '.join(cells)} |"
