from typing import Any

import pytest

from tests.footplate_openmmlab.first_generation.translation.support import EPOCHS, sections


@pytest.mark.parametrize(
    ("resume", "expected"),
    [
        ({"resume_from": "a.pth", "load_from": "b.pth"}, {"load_from": "a.pth", "resume": True}),
        ({"resume_from": None, "load_from": "b.pth"}, {"load_from": "b.pth"}),
        ({"auto_resume": True, "load_from": "b.pth"}, {"load_from": "b.pth", "resume": "auto"}),
        ({"resume_from": "a.pth", "resume": True, "load_from": None}, {"load_from": None, "resume": True}),
    ],
)
def test_resume(resume: dict[str, Any], expected: dict[str, Any]) -> None:
    found = sections({**EPOCHS, **resume})
    assert {key: found[key] for key in ("load_from", "resume") if key in found} == expected
