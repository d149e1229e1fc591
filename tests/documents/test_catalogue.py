import ast
import importlib
from pathlib import Path

import pytest

from footplate.hosts.names import DISTRIBUTIONS
from tests.documents.catalogue import COUNTS, as_page, fragments_of, module_of
from tests.documents.support import Fragment

PAGE = Path(__file__).parent / "documents.md"

# What the documents' code and text name beside its import lines.
NAMED = [
    ("mmcv", "imfrombytes"),
    ("mmcv.runner", "CheckpointHook"),
    ("mmcv.runner", "EMAHook"),
    ("mmcv.utils", "Registry"),
    ("mmcv.utils", "get_logger"),
    ("mmengine.config", "Config"),
    ("mmengine.registry", "HOOKS"),
    ("mmengine.runner", "Runner"),
    *[(f"{package}.registry", "HOOKS") for package in ("mmseg", "mmdet", "mmselfsup")],
    *[
        (f"{package}.utils", name)
        for package in ("mmseg", "mmdet", "mmselfsup")
        for name in ("get_model", "get_root_logger")
    ],
]


def imports_of(fragment: Fragment) -> list[tuple[str, str]]:
    """Returns module and name of what a fragment imports of the old packages."""
    found = []
    for line in (line.strip() for line in fragment.text.splitlines()):
        if not line.startswith("from "):
            continue
        node = ast.parse(line).body[0]
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in DISTRIBUTIONS:
            found += [(node.module, each.name) for each in node.names if not node.level]
    return found


IMPORTS = sorted({pair for document in COUNTS for each in fragments_of(document) for pair in imports_of(each)})


@pytest.mark.parametrize("document", sorted(COUNTS))
def test_every_piece_of_a_document_has_its_test(document: str) -> None:
    fragments = fragments_of(document)
    assert [fragment.number for fragment in fragments] == list(range(1, COUNTS[document] + 1))
    module = module_of(document)
    assert [each.tests for each in fragments if not callable(getattr(module, each.tests, None))] == []


@pytest.mark.parametrize(("module", "name"), [*IMPORTS, *NAMED])
def test_what_the_documents_import_resolves(module: str, name: str) -> None:
    assert getattr(importlib.import_module(module), name) is not None


def test_the_imports_are_found() -> None:
    assert len(IMPORTS) == 18
    assert ("mmcv.utils", "_InstanceNorm") in IMPORTS
    assert ("mmselfsup.utils", "get_model") in IMPORTS


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == as_page(), "python -m tests.documents > tests/documents/documents.md"
