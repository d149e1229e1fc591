from typing import Any

import pytest

from footplate.checkpoint.run_checkpoints import checked_template, is_considered, number_in
from footplate.errors import ArgumentError


@pytest.mark.parametrize("template", ["iter_{}.pth", "epoch_{0}.pt", "{}.ckpt", "a-{:06d}.pth", "模_{}.pth", "2{}.pth"])
def test_template_names_are_found_when_resuming(template: str) -> None:
    assert checked_template(template) == template
    for number in (0, 7, 123_456):
        assert is_considered(template.format(number))
        assert number_in(template, template.format(number)) == number


@pytest.mark.parametrize(
    "template",
    [
        "best_{}.pth",
        "{}.sharded",
        "iter.pth",
        "a/{}.pth",
        "{0.__class__}.pth",
    ],
)
def test_template_with_names_that_resuming_ignores_is_rejected(template: Any) -> None:
    with pytest.raises(ArgumentError, match="filename_tmpl must be a file name with") as caught:
        checked_template(template)
    assert caught.value.key == "filename_tmpl"


@pytest.mark.parametrize("name", ["precious.pth", "iter_04.pth", "iter_" + "9" * 5000 + ".pth"])
def test_names_that_do_not_match_have_no_number(name: str) -> None:
    assert number_in("iter_{}.pth", name) is None
