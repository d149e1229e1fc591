import os
from pathlib import Path

import pytest

from footplate.errors import ArgumentError
from footplate.first_generation.rewriting import MigratedFile, check_output_file, check_output_folder, write_files


def migrated(folder: Path, name: str, text: str | None = "b = 1\n", old: bytes = b"a = 1\n") -> MigratedFile:
    source = folder / f"old_{Path(name).name}"
    source.write_bytes(old)
    return MigratedFile(source, folder / name, text, True, ())


def test_missing_folders_are_created(tmp_path: Path) -> None:
    write_files(
        [migrated(tmp_path, "x/y/a.py"), migrated(tmp_path, "b.py"), migrated(tmp_path, "c.py", None)], replace=False
    )
    assert (tmp_path / "x/y/a.py").read_text() == (tmp_path / "b.py").read_text() == "b = 1\n"
    assert {each.name for each in tmp_path.iterdir()} == {"x", "b.py", "old_a.py", "old_b.py", "old_c.py"}


@pytest.mark.parametrize(("old", "new"), [(b"a = 1\r\n", b"b = 1\r\n"), (b"a = 1\n", b"b = 1\n")])
def test_line_endings_are_kept(tmp_path: Path, old: bytes, new: bytes) -> None:
    write_files([migrated(tmp_path, "a.py", old=old)], replace=False)
    assert (tmp_path / "a.py").read_bytes() == new


def test_permissions_are_kept(tmp_path: Path) -> None:
    each = migrated(tmp_path, "a.py")
    each.source.chmod(0o644)
    write_files([each], replace=False)
    assert (tmp_path / "a.py").stat().st_mode & 0o777 == 0o644


def test_existing_files_are_replaced_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("mine")
    found = [migrated(tmp_path, "a.py"), migrated(tmp_path, "b.py")]
    with pytest.raises(ArgumentError, match=r"b.py' already exists"):
        write_files(found, replace=False)
    assert not (tmp_path / "a.py").exists()
    write_files(found, replace=True)
    assert (tmp_path / "b.py").read_text() == "b = 1\n"


@pytest.mark.parametrize("fails", ["mkstemp", "replace"])
def test_full_disk_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    found = [migrated(tmp_path, "new/a.py"), migrated(tmp_path, "new/sub/b.py")]
    before = {each.name for each in tmp_path.iterdir()}
    calls = []

    def raise_disk_full(*args: object, **options: object) -> None:
        calls.append(args)
        raise OSError(28, "No space left on device", "b.py")

    if fails == "replace":
        monkeypatch.setattr(os, "replace", raise_disk_full)
    else:
        (tmp_path / "new").mkdir()
        before.add("new")
        monkeypatch.setattr("tempfile.mkstemp", raise_disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_files(found, replace=False)
    assert calls
    assert {each.name for each in tmp_path.iterdir()} == before
    assert not [each for each in tmp_path.rglob("*") if each.name.startswith(".") or each.parent.name == "sub"]


def test_file_in_place_of_the_folder_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArgumentError, match="'.*file' is a file, not a folder"):
        write_files([migrated(tmp_path, "file/a.py")], replace=False)


def test_check_output_file_raises_for_unusable_paths(tmp_path: Path) -> None:
    old = tmp_path / "old.py"
    old.write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.py").symlink_to("old.py")
    (tmp_path / "circle.py").symlink_to("circle.py")
    for output, message in (
        (tmp_path / "folder", "is a folder"),
        (tmp_path / "new.txt", "the output file needs the same suffix as the input"),
        (old, "is the old config itself"),
        (tmp_path / "link.py", "is the old config itself"),
    ):
        with pytest.raises(ArgumentError, match=message):
            check_output_file(old, output)
    with pytest.raises(ArgumentError, match="a symbolic link to a file that does not exist"):
        check_output_file(tmp_path / "circle.py", None)
    check_output_file(old, tmp_path / "new.py")


def test_check_output_folder_raises_for_unusable_paths(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "file.py").write_text("")
    for folder, output, message in (
        ("treee", "new", "there is no folder"),
        ("file.py", "new", "is a file, not a folder"),
        ("tree", "file.py", "--tree needs an output folder"),
        ("tree", "tree", "is inside the old tree"),
        ("tree", "tree/new", "is inside the old tree"),
    ):
        with pytest.raises(ArgumentError, match=message):
            check_output_folder(tmp_path / folder, tmp_path / output)
    check_output_folder(tmp_path / "tree", tmp_path / "tree_new")
