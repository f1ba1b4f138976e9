"""Items of a sequence by their numbers."""

import pytest

from graphstate.graph._picker import picker


@pytest.mark.parametrize("numbers", [[], [0], [2], [1, 2, 3], [3, 2, 1], [0, 2, 1, 3], [2, 2], [0, 0, 2]])
def test_the_items_come_in_the_order_of_the_numbers(numbers):
    items = list("abcd")
    assert list(picker(numbers)(items)) == [items[number] for number in numbers]
