import io
import pickle
import pickletools
import struct
from collections import OrderedDict
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from footplate.checkpoint.memory_budget import Budget
from footplate.checkpoint.pickle_constructors import CONSTRUCTORS
from footplate.checkpoint.unpickler import Name, OpaqueObject, _Unpickler, unpickle
from footplate.errors import CheckpointDamagedError, CheckpointError


def run(data: bytes) -> Any:
    return unpickle(
        io.BytesIO(data),
        CONSTRUCTORS,
        constants={},
        persistent=lambda identity: ("stored", identity),
        budget=Budget(len(data)),
    )


_plain = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**90), 2**90), st.floats(allow_nan=False), st.text(), st.binary()
    ),
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.one_of(st.text(), st.integers(-999, 999)), inner),
        st.dictionaries(st.text(), inner).map(OrderedDict),
        st.sets(st.integers(0, 9)),
        st.frozensets(st.text()),
    ),
    max_leaves=20,
)


@settings(max_examples=200)
@given(value=_plain, protocol=st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_restored(value: Any, protocol: int) -> None:
    assert run(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", [0, 1])
def test_oldest_pickle_protocols_are_read(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True, "grün", (1, 2, 3, 4), {}, [], ()], 3: -(2**70)}
    assert run(pickle.dumps(value, protocol)) == value


def test_every_operation_is_known() -> None:
    assert {ord(opcode.code) for opcode in pickletools.opcodes} == _Unpickler.dispatch.keys()


class Shelf(dict[str, int]):
    pass


class Row(list[int]):
    pass


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_unknown_classes_become_opaque(protocol: int) -> None:
    shelf = Shelf(a=1)
    shelf.label = "top"  # type: ignore[attr-defined]
    shelf_found, row, point = run(pickle.dumps([shelf, Row([1, 2]), Point(3)], protocol))
    if protocol:
        assert (shelf_found.items, shelf_found.state) == ({"a": 1}, {"label": "top"})
        assert row.elements == [1, 2]
        assert repr(point) == f"<opaque {__name__}.Point>"
    assert point.state == {"x": 3}


def test_sharing_and_cycles_are_kept() -> None:
    inner: list[Any] = []
    value = {"a": inner, "b": inner}
    inner.append(value)
    found = run(pickle.dumps(value))
    assert found["a"] is found["b"]
    assert found["a"][0] is found


def test_persistent_ids_are_resolved() -> None:
    assert run(b"\x80\x02K\x05Q.") == ("stored", 5)
    assert run(b"Pname\n.") == ("stored", "name")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"0.",
        b"a.",
        b"(e.",
        b"t.",
        b"R.",
        b"N)R",
        b"K\x01K\x02R.",  # arguments that are not a tuple
        b"N(K\x01\x90.",
        b"NK\x01a.",
        b"NK\x01K\x02s.",
        b"}(K\x01u.",  # a key without a value
        b"cos\nsystem\nNb.",  # a state for a function
        b"h\x05.",
        b"\x93.",
        b"K\x01K\x02\x93.",
        b"\x82\x01.",
        b"\x98.",
        b"\xff.",
        b"X\xff\xff\xff\x7fabc.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"I12x\n.",
        b"\x8b\xff\xff\xff\x7f.",
        b"}]K\x01s.",  # a list as a key
        b"}\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01K\x01s.",  # a key that is slow to hash
    ],
)
def test_invalid_pickles_raise_only_our_error(data: bytes) -> None:
    with pytest.raises(CheckpointError):
        run(data)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_truncated_pickles_are_reported_as_truncated(protocol: int) -> None:
    whole = pickle.dumps({"a": [1, 2.5, -70000, 2**90, "grün" * 99, b"bytes" * 99, Point(3)]}, protocol)
    for length in range(len(whole)):
        with pytest.raises(CheckpointDamagedError, match="it is truncated in the middle of a pickle"):
            run(whole[:length])


def test_line_without_an_end_is_not_read() -> None:
    with pytest.raises(CheckpointDamagedError, match="truncated"):
        run(b"I12")
    with pytest.raises(CheckpointDamagedError, match="truncated"):
        run(b"Vabc")


def test_unknown_operation_is_reported() -> None:
    with pytest.raises(CheckpointDamagedError, match="unknown operation"):
        run(b"\x80\x02\xff.")


def test_error_without_text_is_reported_by_its_type() -> None:
    def fail(_: Any) -> None:
        raise MemoryError

    with pytest.raises(CheckpointError, match="its pickle is invalid: MemoryError$"):
        unpickle(io.BytesIO(b"K\x01Q."), {}, constants={}, persistent=fail, budget=Budget(0))


def _text(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def test_long_names_of_opaque_objects_count_towards_the_limit() -> None:
    name = b"]" + _text(b"a") + _text(b"m" * 100_000) + b"\x93q\x000"
    assert len(run(name + b"(" + b"h\x00)R" * 1000 + b"e.")) == 1000
    with pytest.raises(CheckpointError, match="more memory"):
        run(name + b"(" + b"h\x00)R" * 4000 + b"e.")


def test_class_of_a_tensor_that_is_not_a_name_is_not_formatted() -> None:
    nested = b"]q\x000" + b"".join(b"]q%c(h%ch%ce0" % (level + 1, level, level) for level in range(20)) + b"h\x14"
    found = run(b"ctorch._tensor\n_rebuild_from_type_v2\n(N" + nested + b")NtR.")
    assert isinstance(found, OpaqueObject)
    assert found.name == "tensor"


@pytest.mark.parametrize("kind", ["text", "bytes", "name", "tuple"])
def test_long_keys_are_rejected(kind: str) -> None:
    long = b"k" * 5000
    key = {
        "text": _text(long),
        "bytes": b"B" + struct.pack("<I", len(long)) + long,
        "name": _text(b"m") + _text(long) + b"\x93",
        "tuple": _text(long[:2500]) + _text(long[:2500]) + b"\x86",
    }[kind]
    with pytest.raises(CheckpointError, match="key longer than 4096 characters"):
        run(b"}" + key + b"Ns.")
    shorter = pickle.dumps({"k" * 4096: 1, ("k" * 2000, 3, b"k" * 2000): 2, int: 3, (int, 1): 4}, 2)
    assert len(run(shorter)) == 4


@pytest.mark.parametrize("key", [2**53, 1e300])
def test_large_numbers_are_rejected_as_keys(key: float) -> None:
    message = f"a key of type '{type(key).__name__}' that is too large or not supported"
    with pytest.raises(CheckpointError, match=message):
        run(pickle.dumps({key: 1}, 2))


def test_nested_tuples_are_rejected_as_keys() -> None:
    bomb: Any = ()
    for _ in range(60):
        bomb = (bomb, bomb)
    with pytest.raises(CheckpointError, match="that is too large or not supported"):
        run(b"\x80\x02}" + pickle.dumps(bomb, 2)[2:-1] + b"K\x01s.")


@pytest.mark.parametrize(
    "body",
    [b"]" * 3_000_000, b"\x8f" * 2_000_000, b"}" * 3_000_000, b"N)R" * 500_000, b"(" * 1_000_000],
)
def test_short_pickle_that_needs_too_much_memory_is_rejected(body: bytes) -> None:
    with pytest.raises(CheckpointError, match="more memory|no sense|nested too deeply"):
        run(b"\x80\x02" + body + b".")


def test_copies_by_allowed_functions_count_towards_the_limit() -> None:
    large = pickle.dumps(list(range(100_000)), 2)[:-1] + b"q\x00"
    calls = b"c__builtin__\nset\nq\x01" + b"h\x01h\x00\x85R" * 1000
    with pytest.raises(CheckpointError, match="more memory"):
        run(large + calls + b".")


def test_long_lists_of_numbers_are_accepted() -> None:
    assert len(run(pickle.dumps([0.5] * 500_000 + list(range(500_000)), 2))) == 1_000_000


def test_names_of_earlier_versions_are_translated() -> None:
    assert run(b"c__builtin__\nopen\n.") == Name("builtins", "open")
    assert run(b"cnumpy.core.multiarray\nscalar\n.") == Name("numpy._core.multiarray", "scalar")
    assert str(Name("os", "system")) == "os.system"


def test_opaque_objects_keep_their_arguments_and_are_named() -> None:
    found = run(b"cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")
    assert isinstance(found, OpaqueObject)
    assert found.args == ("ls",)
    assert Budget(0).check_copies({"a": [found, found]}) == ["os.system"]
