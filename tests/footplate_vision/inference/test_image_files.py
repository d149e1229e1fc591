from pathlib import Path

import cv2
import numpy as np
import pytest

from footplate.errors import ArgumentError
from footplate_vision.inference.predicted_files import Failure, find_files, read_files


@pytest.fixture
def pictures(current_folder: Path) -> Path:
    for name in (
        "a/2.png",
        "a/1.png",
        "a/1.jpg",
        "a/b/3.PNG",
        "a/.hidden.png",
        "a/out/4.png",
        "a/notes.txt",
        "a/b.mp4",
    ):
        path = current_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return current_folder


def test_folders_and_patterns_name_pictures_in_order(pictures: Path) -> None:
    (pictures / "link").symlink_to("a")
    found = find_files(["link", "a/**/*.png", "a/notes.txt"], skipped=["a/out"])
    found = [(name, path.replace("link", "a")) for name, path in found]
    assert found == [
        ("1", "a/1.jpg"),
        ("1_2", "a/1.png"),
        ("2", "a/2.png"),
        ("b_2", "a/b.mp4"),  # its frames must not overwrite the pictures of the folder b
        ("b/3", "a/b/3.PNG"),
        ("1_3", "a/1.png"),
        ("2_2", "a/2.png"),
        ("notes", "a/notes.txt"),
    ]


def test_links_to_folders_are_followed(pictures: Path) -> None:
    (pictures / "b").mkdir()
    (pictures / "b" / "real.png").touch()
    for name, target in (("a", "."), ("images", "../a/b"), ("up", "..")):
        (pictures / "b" / name).symlink_to(target)
    (pictures / "a" / "link").symlink_to("b")
    assert find_files(["b"]) == [("real", "b/real.png"), ("images/3", "b/images/3.PNG")]
    assert find_files(["a"], skipped=["a/out"])[-1] == ("b/3", "a/b/3.PNG")


def test_current_folder_its_parent_and_a_link_to_it_can_be_the_input(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "a" / "b" / "up").symlink_to("..")
    monkeypatch.chdir("a/b")
    assert find_files(["."]) == [("3", "./3.PNG")]
    for folder in ("..", "up"):
        assert ("b/3", f"{folder}/b/3.PNG") in find_files([folder])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no", "the file 'no' does not exist"),
        ("a/*.gif", r"no file matches 'a/\*.gif'"),
        ("empty", "the folder 'empty' contains no images or videos"),
    ],
)
def test_paths_without_pictures_are_errors(pictures: Path, path: str, message: str) -> None:
    (pictures / "empty").mkdir()
    with pytest.raises(ArgumentError, match=message):
        find_files([path])


def test_video_is_read_frame_by_frame(tmp_path: Path) -> None:
    path = str(tmp_path / "film.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 5, (32, 16))
    for _ in range(2):
        writer.write(np.full((16, 32, 3), (200, 0, 0), np.uint8))
    writer.release()
    frame, last = read_files([("film", path)], [])
    assert (frame.name, last.name, last.frame) == ("film/000000", "film/000001", 1)
    np.testing.assert_allclose(np.asarray(frame.image), np.full((16, 32, 3), (0, 0, 200)), atol=8)


def test_video_that_ends_early_is_reported_after_its_frames(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.avi", tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(whole), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 64))
    for seed in range(40):
        writer.write(np.random.default_rng(seed).integers(0, 255, (64, 64, 3), np.uint8))
    writer.release()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    failures: list[Failure] = []
    frames = list(read_files([("cut", str(cut))], failures))
    assert 10 < len(frames) < 30
    problem = f"the video '{cut}' ends early: OpenCV can decode only {len(frames)} of 40 frames"
    assert failures == [Failure(str(cut), problem)]
