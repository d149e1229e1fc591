import pytest

from footplate.registry import default_scope, set_default_scope, using_scope


def test_a_scope_holds_for_a_block() -> None:
    assert default_scope() is None
    with using_scope("mmseg"):
        with using_scope("mmdet"):
            assert default_scope() == "mmdet"
        with using_scope(None):
            assert default_scope() == "mmseg"
    assert default_scope() is None


def test_a_block_that_fails_gives_the_scope_back() -> None:
    with pytest.raises(ZeroDivisionError), using_scope("mmseg"):
        raise ZeroDivisionError
    assert default_scope() is None


def test_a_scope_holds_until_it_is_set_anew() -> None:
    set_default_scope("mmseg")
    assert default_scope() == "mmseg"
    set_default_scope(None)
    assert default_scope() is None
