"""A process that dies at any system call of a save leaves a complete checkpoint."""

from pathlib import Path

from tests.faults.disk import begin_death


def test_death_at_any_call_of_a_save_leaves_a_complete_checkpoint(tmp_path: Path) -> None:
    found = begin_death(tmp_path)(3, None)  # a large state after an older checkpoint, with torn writes
    assert found.wrong == ""
    assert found.figures["count"] > 20
