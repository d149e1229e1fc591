import sys
from pathlib import Path

import pytest

from benchmarks import suites

TESTS = """
import sys
import pytest

def test_of_both(): pass
def test_of_footplate(): assert "footplate" in sys.modules

class TestOfReference:
    @pytest.mark.parametrize("value", [1])
    def test_of_reference(self, value): assert "footplate" not in sys.modules, "footplate runs"
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--together"]])
def test_the_tests_that_pass_on_the_reference_only_are_listed_by_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    (tmp_path / "suite/tests").mkdir(parents=True)
    (tmp_path / "suite/tests/test_engine.py").write_text(TESTS)
    (tmp_path / "suite/tests/test_broken.py").write_text("import a_missing_module")
    (tmp_path / "suite/mmengine").mkdir()
    (tmp_path / "suite/mmengine/__init__.py").write_text("raise RuntimeError('the checkout is not what is tested')")
    (tmp_path / "page.md").write_text("`test_of_both` passes")
    command = ["suites", str(tmp_path / "suite"), "--reference", sys.executable, "--footplate", sys.executable]
    monkeypatch.setattr(sys, "argv", [*command, *options, "--page", str(tmp_path / "page.md")])
    suites.main()
    assert capsys.readouterr().out.splitlines() == [
        "2 tests pass on the reference, 1 of them on footplate",
        "",
        "1 x AssertionError: footplate runs",
        "  tests/test_engine.py::TestOfReference::test_of_reference[1]  (no reason on the page)",
    ]
