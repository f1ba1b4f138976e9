"""What `graphstate.graph` offers."""

import graphstate.graph

NAMES = [
    "BatchState", "GraphDef", "GraphState", "HiddenState", "LongTermState", "Node", "ParamState", "ShortTermState",
    "State", "StateAxes", "Static", "abstract", "clone", "diff", "graphdef", "merge", "nodes", "pop",
    "register_node_type", "shared", "split", "stack", "state", "states", "take", "touch", "unstack", "update",
    "write_path",
]  # fmt: skip


def test_the_door_shows_these_names():
    assert graphstate.graph.__all__ == NAMES == sorted(NAMES)
    for name in NAMES:
        assert getattr(graphstate.graph, name).__doc__
