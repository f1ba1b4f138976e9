"""What functions refer to."""

import functools

from graphstate.graph._references import global_names, iter_reached, iter_references

MARK = object()


def names(function):
    return {reference.name for reference in iter_references(function)} - {"__code__"}


def test_closures_defaults_and_globals_are_found():
    inner = 1

    def function(x, y=2, *, z=3):
        return inner, MARK, x.attribute

    assert names(function) == {"inner", "y", "z", "MARK"}


def test_globals_of_nested_functions_are_found_and_attributes_are_not():
    def function(x):
        return [lambda: MARK for _ in x.names]

    assert global_names(function.__code__) == ("MARK",)


def test_methods_partials_and_wrappers_are_looked_into():
    class Owner:
        def method(self):
            return MARK

    owner = Owner()
    assert names(owner.method) == {"self", "method"}
    assert names(functools.partial(owner.method, 1, key=2)) == {"func", "args[0]", "key", "keywords"}
    wrapped = functools.wraps(owner.method)(functools.partial(len))
    assert "__wrapped__" in names(wrapped)


def test_an_empty_cell_and_a_missing_global_are_left_out():
    def make():
        def function():
            return later, missing_global  # noqa: F821 - this is what is tested

        def read():
            return {reference.name: reference.get() for reference in iter_references(function)}

        before = read()
        later = 1
        return before, read(), later

    before, after, _ = make()
    assert "missing_global" not in before
    assert repr(before["later"]) == "MISSING"
    assert after["later"] == 1


def test_everything_below_is_reached():
    def outer():
        deep = object()

        def inner():
            return deep

        table = {"f": [1], "g": inner}

        def function(x, *, items=(inner,)):
            return table, MARK

        return function, deep

    function, deep = outer()
    reached = [value for _, value in iter_reached(function)]
    assert deep in reached
    assert MARK in reached
    assert [1] in reached


def test_a_function_that_refers_to_itself_ends():
    def function():
        return function

    assert ("function", function) in list(iter_reached(function))


def test_the_object_of_a_builtin_method_is_reached():
    items = []
    assert ("self", items) in list(iter_reached(items.append))
