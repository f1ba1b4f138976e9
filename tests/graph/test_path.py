"""Paths and how they are written."""

import pytest

import graphstate.graph as g
from graphstate.graph._path import follow, part_order, show_path, split_key


def test_a_path_is_written_with_slashes():
    assert g.write_path(("layers", 0, "weight")) == "layers/0/weight"
    assert g.write_path(()) == ""
    assert show_path(()) == "`(root)`"


@pytest.mark.parametrize(
    ("key", "path"), [(("a", 0), ("a", 0)), ("a/0", ("a", "0")), ("", ()), (3, (3,)), (2.5, ("2.5",))]
)
def test_a_key_stands_for_a_path(key, path):
    assert split_key(key) == path


def test_numbers_are_ordered_by_size_and_before_text():
    assert sorted(["b", 10, 2, "a", 1], key=part_order) == [1, 2, 10, "a", "b"]


def test_a_written_path_is_followed_through_parts_with_slashes():
    children = {(0, "a"): 1, (0, "a/b"): 2, (2, "c/d"): 3, (1, "x"): 4}
    assert follow(children, 0, ["a", "b", "c", "d"], joined=True) == 3
    assert follow(children, 0, ["a", "x"], joined=True) == 4
    assert follow(children, 0, ["a", "b", "c"], joined=True) is None
    assert follow(children, 0, ["a", "b"], joined=False) is None
    assert follow(children, 0, [], joined=False) == 0
