import pytest

from footplate.errors import ArgumentError
from footplate.records import BaseVisBackend
from footplate.records.writers import Refused
from footplate.registry import HOOKS, VISBACKENDS


@pytest.mark.parametrize(
    ("registry", "name", "words", "advice"),
    [
        (VISBACKENDS, "NeptuneVisBackend", "no writer for Neptune", "register a BaseVisBackend of your own"),
        (VISBACKENDS, "AimVisBackend", "no writer for Aim", "register a BaseVisBackend of your own"),
        (HOOKS, "PaviLoggerHook", "no logger for Pavi", "derive from LoggerHook"),
    ],
)
def test_a_name_without_a_library_says_so_and_what_to_take(
    registry: object, name: str, words: str, advice: str
) -> None:
    with pytest.raises(ArgumentError, match=f"footplate has {words}") as raised:
        registry.build({"type": name, "init_kwargs": {"a": 1}})  # type: ignore[attr-defined]
    assert raised.value.notes == (f"take another of the writers in docs/records.md, or {advice}",)
    assert (raised.value.key, raised.value.found) == ("type", name)


def test_such_a_name_is_a_writer_to_those_that_ask_for_its_kind() -> None:
    kind = VISBACKENDS.get("AimVisBackend")
    assert isinstance(kind, type)
    assert issubclass(kind, BaseVisBackend)
    assert issubclass(kind, Refused)
