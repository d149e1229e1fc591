import json
from pathlib import Path

import pytest

from footplate.data.annotations import joined, load_annotations, read_lines
from footplate.errors import DataError

CONTENT = {"metainfo": {"classes": ["a"]}, "data_list": [{"img_path": "1.png"}]}


@pytest.mark.parametrize("name", ["a.json", "a.yaml", "A.YML"])
def test_annotation_files(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(CONTENT))
    assert load_annotations(str(tmp_path / name)) == (CONTENT["metainfo"], CONTENT["data_list"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", None, "a.json' does not exist\n  '.*' has no 'a.json'"),
        ("a.json", "{", "a.json' cannot be parsed: Expecting property name"),
        ("a.yaml", "a: [", "a.yaml' cannot be parsed"),
        ("a.json", '{"images": []}', r"lacks the keys 'metainfo' and 'data_list'\n  found: \['images'\]\n.*overrides"),
        ("a.json", "[1]", "lacks the keys"),
        ("a.pkl", "", "a.pkl' is none of .json, .yaml, .yml\n.*overrides load_data_list"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        load_annotations(str(tmp_path / name))


def test_lines_have_no_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat\ndog\n")
    assert read_lines(str(tmp_path / "a.txt")) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        ("root", "a/b", "root/a/b"),
        ("root", "", "root"),
        ("", "a", "a"),
        ("", "", ""),
        ("root", "/a", "/a"),
        ("root", "C:/a", "C:/a"),
        ("root", "s3://bucket/a", "s3://bucket/a"),
        ("s3://bucket/root", "a", "s3://bucket/root/a"),
    ],
)
def test_paths_are_joined(root: str, path: str, expected: str) -> None:
    assert joined(root, path) == expected


def _doubling(kind: str) -> str:
    """Returns a YAML text in which each of 40 lines refers to the previous one nine times."""
    if kind == "merges":
        lines = ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 40))]
    else:
        lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.yaml", _doubling("merges"), "its references (`*`) stand for more than 100000 values"),
        ("a.yaml", _doubling("lists"), "its references (`*`) stand for more than 100000 values"),
        ("a.yaml", "a: &a [*a]", "its references (`*`) stand for more than 100000 values"),
        ("a.yaml", "[" * 5000, "it is nested too deeply"),
        ("a.json", "[" * 200_000, "it is nested too deeply"),
        ("a.yaml", "a: 1" + ":59" * 500, "a number in it has more than 1000 characters"),
        ("a.json", f"[{'9' * 5000}]", "Exceeds the limit (4300 digits)"),
    ],
)
def test_a_short_file_that_stands_for_much_is_refused(name: str, text: str, reason: str, tmp_path: Path) -> None:
    path = str(tmp_path / name)
    Path(path).write_text(text)
    with pytest.raises(DataError) as caught:
        load_annotations(path)
    assert caught.value.message.startswith(f"the annotation file '{path}' cannot be parsed: {reason}")


def test_references_within_reason_are_followed(tmp_path: Path) -> None:
    text = "base: &base {width: 4}\nmetainfo: {}\ndata_list:\n- {<<: *base, img_path: 1.png}\n- *base\n"
    (tmp_path / "a.yaml").write_text(text)
    assert load_annotations(str(tmp_path / "a.yaml")) == ({}, [{"width": 4, "img_path": "1.png"}, {"width": 4}])
