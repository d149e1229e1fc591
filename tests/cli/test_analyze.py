import json
from collections.abc import Callable
from pathlib import Path


def test_a_run_is_analyzed(tiny: Path, footplate: Callable[..., tuple[int, str, str]]) -> None:
    assert footplate("train", tiny, "--work-dir", "run")[0] == 0
    code, text, _ = footplate("analyze", "run", "--plot", "curves.png", "--csv", "curves.csv")
    assert (code, text.splitlines()[0]) == (0, "run: 8 iterations")
    assert (tiny.parent / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "run,train,loss,8," in (tiny.parent / "curves.csv").read_text()
    assert json.loads(footplate("analyze", "run", "--json")[1])["run"]["iterations"] == 8
    assert footplate("analyze", "nowhere")[0] == 2
