import pytest

from footplate import Config
from footplate.registry import VISBACKENDS
from tests.records.writers.fakes import PICTURE, Library, put_in_place


def test_what_the_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    put_in_place(library, "trackio", monkeypatch)
    writer = VISBACKENDS.build({"type": "TrackioVisBackend", "init_kwargs": {"space_id": "s"}})
    writer.add_config(Config({"lr": 0.5}))
    writer.add_scalar("loss", 1.5, 3)
    writer.add_image("scene", PICTURE, 9)
    writer.close()
    writer.add_scalar("loss", 1.0, 4)
    assert library.told == [
        ("init", {"project": "footplate", "embed": False, "space_id": "s"}),
        ("config", {"lr": 0.5}),
        ("log", ({"loss": 1.5}, 3)),
        ("log", ({"scene": ((4, 6, 3), True)}, 9)),
        ("finish", None),
        # Later values resume the run by its name.
        ("init", {"resume": "allow", "project": "footplate", "embed": False, "space_id": "s", "name": "abc"}),
        ("log", ({"loss": 1.0}, 4)),
    ]
