import re

import pytest

from footplate.config.forms import read_form
from footplate.error_context import origin_of
from footplate.errors import ConfigSyntaxError, Origin


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a = 1\na = 2", "Cannot overwrite a value", 2),
        ("a = \n", "Invalid value", 1),
        ("a = 1\n[b", "Expected ']'", 2),
    ],
)
def test_wrong_texts_name_the_line(text: str, message: str, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="(?i)" + re.escape(message)) as caught:
        read_form(text, "main.toml", ".toml")
    assert caught.value.origin == Origin("main.toml", line)
    assert len(str(caught.value).splitlines()) <= 5


def test_toml_lines_are_found_in_every_notation() -> None:
    text = """\
"quoted key" = 1
a.b.'c d' = { x = 1, y = [ { z = 2 },
    { z = 3 } ] }  # comment = 4
text = \"\"\"
[no.table]
no = 1
\"\"\"
other = '''x = 1'''
date = 2024-01-02
[[t.u]]
v = 1
[t.u.w]
x = 1
[[t.u]]
v = 2
"""
    cfg = read_form(text, "f", ".toml")
    y = cfg["a"]["b"]["c d"]["y"]
    found = [
        origin_of(holder, key)
        for holder, key in [
            (cfg, "quoted key"),
            (cfg["a"]["b"], "c d"),
            (y[0], "z"),
            (y[1], "z"),
            (cfg, "other"),
            (cfg, "date"),
            (cfg["t"]["u"][0], "v"),
            (cfg["t"]["u"][0]["w"], "x"),
            (cfg["t"]["u"][1], "v"),
        ]
    ]
    assert [origin.line for origin in found if origin] == [1, 2, 2, 3, 8, 9, 11, 13, 15]
    assert cfg["date"] == "2024-01-02"
