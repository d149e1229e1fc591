import re

import pytest

from footplate.config.data_formats import read_data
from footplate.errors import ConfigSyntaxError, Origin


@pytest.mark.parametrize(
    ("suffix", "text", "message", "line"),
    [
        (".yaml", "a: 1\na: 2", "the key 'a' occurs twice in one mapping, first on line 1", 2),
        (".yaml", "- a", "a config must be a mapping of keys to values", 1),
        (".yaml", "a: 1\n2: 3", "a top-level key must be a string", 2),
        (".yaml", "a: !!python/object/apply:os.system ['true']", "could not determine a constructor", 1),
        (".yaml", "a: 1\n---\nb: 2", "expected a single document", 2),
        (".json", '{\n"a": 1,\n"a": 2}', "the key 'a' occurs twice in one object", 0),
        (".json", '{"a": 1\n"b": 2}', "expecting ',' delimiter", 2),
    ],
)
def test_invalid_data_reports_the_line(suffix: str, text: str, message: str, line: int) -> None:
    with pytest.raises(ConfigSyntaxError, match="(?i)" + re.escape(message)) as caught:
        read_data(text, f"main{suffix}", suffix)
    assert caught.value.origin == Origin(f"main{suffix}", line)
    assert len(str(caught.value).splitlines()) <= 5
