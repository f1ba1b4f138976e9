"""Temporary minimal text."""
from typing import Any
import jax
def summarize_value(value: Any) -> str:
    return str(jax.tree.map(lambda x: f"{getattr(x,'dtype',type(x).__name__)}{list(getattr(x,'shape',()))}", value))
def render_graphdef(graphdef: Any) -> str:
    return f"GraphDef({len(graphdef.heads)} places)"
def render_graphstate(state: Any) -> str:
    return f"GraphState({list(map(str, state._layout.rows))})"
def render_node(node: Any) -> str:
    return f"{type(node).__name__}()"
