import uuid

import pytest

from footplate import storage
from footplate.storage import remote


def test_unknown_protocol_raises() -> None:
    with pytest.raises(ValueError, match="nowhere"):
        remote.file_system("nowhere://a")


def test_failed_remote_move_keeps_old_file(monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"memory://{uuid.uuid4()}/a"
    storage.commit_bytes(path, b"one")
    system, _ = remote.file_system(path)

    def refuse(*args: object) -> None:
        raise OSError("no")

    monkeypatch.setattr(type(system), "mv", refuse)
    with pytest.raises(OSError, match="no"):
        storage.commit_bytes(path, b"two")
    assert storage.read_bytes(path) == b"one"
    assert storage.list_dir(storage.parent(path)) == ["a"]
