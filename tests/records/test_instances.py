import pytest

from footplate.records import Instances


@pytest.fixture
def board() -> type[Instances]:
    class Board(Instances):
        def __init__(self, name: str = "", size: int = 1) -> None:
            super().__init__(name)
            self.size = size

    return Board


def test_an_instance_is_made_once(board: type[Instances]) -> None:
    first = board.get_instance("a", size=3)
    assert board.get_instance("a") is first
    assert (first.instance_name, vars(first)["size"]) == ("a", 3)
    assert board.check_instance_created("a")
    assert not board.check_instance_created("b")


def test_the_current_instance_is_the_one_made_last(board: type[Instances]) -> None:
    assert board.get_current_instance().instance_name == "Board"
    board.get_instance("a")
    second = board.get_instance("b")
    board.get_instance("a")
    assert board.get_current_instance() is second


def test_an_instance_that_is_kept_becomes_the_current_one(board: type[Instances]) -> None:
    board.get_instance("a")
    board.get_instance("b")
    other = board("a")
    board.keep_instance(other)
    assert board.get_current_instance() is board.get_instance("a") is other


def test_a_family_shares_its_table_and_no_other(board: type[Instances]) -> None:
    class Wide(board):  # type: ignore[misc, valid-type]
        pass

    class Stranger(Instances):
        pass

    made = Wide.get_instance("a")
    assert board.get_instance("a") is made
    assert not Stranger.check_instance_created("a")
