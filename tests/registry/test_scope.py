import pytest

from footplate.registry import default_scope, set_default_scope, using_scope


def test_scope_applies_within_block() -> None:
    assert default_scope() is None
    with using_scope("mmseg"):
        with using_scope("mmdet"):
            assert default_scope() == "mmdet"
        with using_scope(None):
            assert default_scope() == "mmseg"
    assert default_scope() is None


def test_scope_is_restored_after_error() -> None:
    with pytest.raises(ZeroDivisionError), using_scope("mmseg"):
        raise ZeroDivisionError
    assert default_scope() is None


def test_set_default_scope() -> None:
    set_default_scope("mmseg")
    assert default_scope() == "mmseg"
    set_default_scope(None)
    assert default_scope() is None
