import logging
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from footplate.config import Config, LazyObject
from footplate.errors import FootplateError


@pytest.fixture
def folder(current_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (current_folder / "fp_mine.py").write_text("class Own:\n    pass\n")
    (current_folder / "fp_host.py").write_text("import mmengine\n")
    (current_folder / "fp_broken.py").write_text("raise OSError('a\\nb')\n")
    (current_folder / "fp_leaving.py").write_text("raise SystemExit(0)\n")
    return current_folder


def config_of(folder: Path, section: str) -> Config:
    (folder / "main.py").write_text(f"custom_imports = {section}\n")
    return Config.fromfile("main.py")


@pytest.mark.parametrize("imports", ["'fp_mine'", "['fp_mine']", "('json', 'fp_mine')"])
def test_modules_are_imported_from_the_current_folder(folder: Path, imports: str) -> None:
    config_of(folder, f"dict(imports={imports}, allow_failed_imports=False)")
    assert "fp_mine" in sys.modules


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("dict(imports=['fp_nope'])", "cannot import 'fp_nope'"),
        ("dict(imports=['xml.sxa'])", "'xml' was found, but does not contain this module."),
        ("dict(imports=['mmtrack.models'])", "`footplate doctor mmtrack` shows how to install it"),
        ("dict(imports=['fp_host'])", "footplate replaces mmengine if you start your script with `footplate run`"),
        ("dict(imports=['fp_mine.Own'])", "'Own' is not a module. List its module 'fp_mine' in custom_imports"),
        ("dict(imports=['fp_broken'])", "cannot import 'fp_broken': OSError: a\nb"),
        ("dict(imports=['fp_leaving'])", "cannot import 'fp_leaving': SystemExit: 0"),
        ("dict(import_=['json'])", "unknown key 'import_' in `custom_imports`"),
    ],
)
def test_failed_imports_report_the_reason(folder: Path, section: str, message: str) -> None:
    with pytest.raises(FootplateError) as caught:
        config_of(folder, section)
    assert message in str(caught.value)
    assert caught.value.origin is not None
    assert caught.value.origin.line == 1


def test_failures_may_be_allowed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "footplate.config"):
        config_of(folder, "dict(imports=['fp_nope', 'fp_mine'], allow_failed_imports=True)")
    assert "fp_mine" in sys.modules
    assert "cannot import 'fp_nope'" in caplog.records[0].getMessage()


def test_attribute_of_a_config_is_the_imported_object() -> None:
    cfg = Config(dict(number=dict(type=LazyObject("decimal.Decimal"))))
    assert cfg.number.type is Decimal
    assert cfg.number["type"] == LazyObject("decimal.Decimal")
    assert cfg.to_dict() == {"number": {"type": "decimal.Decimal"}}
