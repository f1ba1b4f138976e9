"""What was looked up for something that never changes."""

from graphstate.graph._kept import Kept


def test_an_answer_is_looked_up_once():
    kept, asked = Kept(), []
    for key in ("a", "b", "a"):
        assert kept.get(key, lambda key=key: asked.append(key) or key) == key
    assert asked == ["a", "b"]


def test_without_a_key_it_is_looked_up_each_time():
    kept, asked = Kept(), []
    for _ in range(2):
        kept.get(None, lambda: asked.append(1) or asked)
    assert len(asked) == 2


def test_what_raises_is_not_kept():
    kept = Kept()
    try:
        kept.get("a", lambda: 1 / 0)
    except ZeroDivisionError:
        assert kept.get("a", lambda: 1) == 1


def test_only_some_answers_are_kept():
    kept = Kept()
    for key in range(1000):
        assert kept.get(key, lambda key=key: key + 1) == key + 1
    assert len(kept._answers) < 100
