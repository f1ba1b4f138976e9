"""Drawn programs: whatever transforms a program is made of, it does what it does without them.

A program is a list of operations on a handful of Nodes whose States are partly shared. Some operations call a
further program through a transform, with some of the Nodes as arguments; the States are reached through arguments
and through the closure alike, in any order and at any depth. The oracle runs the same program with every transform
replaced by a plain call or a Python loop; afterwards all values, all structure and all sharing must agree.
"""

from typing import Any, NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import graphstate as gs

pytestmark = pytest.mark.no_leak_check("runs very many eager operations")

NODES = 3
LANES = 2
LOOPS = ("scan", "for_loop")
TRANSFORMS = ("jit", "vmap", "grad", "eval_shape", *LOOPS)


class Box(gs.Node):
    """Two States, one of which may be another Box's, a list, an array and a static value."""

    def __init__(self, a, b, seed):
        self.a, self.b = a, b
        self.items = []
        self.array = 1.0 + 0.5 * jnp.float32(seed)
        self.rng = gs.random.RandomState(seed)
        self.count = 1


def build(shares, seed):
    """Some States, and Boxes that hold and share them."""
    states = [gs.State(jnp.float32(seed) + jnp.float32(number + 1)) for number in range(2 * NODES)]
    return states, [Box(states[2 * i], states[shares[i]], seed) for i in range(NODES)]


class World:
    """The Nodes of one run, its States in the order in which they were made, and a stream that is shared with a Box."""

    def __init__(self, states, boxes):
        self.states, self.boxes, self.rng = states, boxes, boxes[0].rng

    def outcome(self, lane=()):
        """All that can be seen of this world, or of one lane; objects are told by the order in which they are met."""
        order = {id(state): number for number, state in enumerate(self.states)}
        values = [float(state.value[lane]) for state in self.states]
        values += [float(jax.random.uniform(box.rng.value[lane])) for box in self.boxes]
        for box in self.boxes:
            for state in [
                box.a,
                box.b,
                *box.items,
                *(value for name, value in sorted(vars(box).items()) if name.startswith("new")),
            ]:
                values.append((order.setdefault(id(state), len(order)), float(state.value[lane])))
            values.append((box.count, float(box.array[lane]), sorted(vars(box))))
        return values


class Ref(NamedTuple):
    """A State: of the closure by its number, or of a Box that is an argument here by its attribute."""

    box: int | None
    part: Any


class Write(NamedTuple):
    target: Ref
    source: Ref
    factor: float


class Read(NamedTuple):
    source: Ref


class Draw(NamedTuple):
    box: int | None


class Restructure(NamedTuple):
    box: int
    other: int
    kind: str


class SetArray(NamedTuple):
    box: int


class Call(NamedTuple):
    transform: str
    boxes: tuple[int, ...]
    body: tuple[Any, ...]


class Scope(NamedTuple):
    """Where a program stands.

    Attributes:
        boxes: the Boxes that are arguments.
        depth: how many more transforms may be nested.
        may_restructure: not inside of a loop.
        may_draw: not inside of a map of unmapped Boxes, whose lanes have streams of their own.
        is_mapped: inside of lanes, of which the Boxes have one each, while the closed-over States have none.
    """

    boxes: tuple[int, ...]
    depth: int = 3
    may_restructure: bool = True
    may_draw: bool = True
    is_mapped: bool = False

    def kinds(self):
        kinds = ["write", "write", "read", *["call"] * (2 if self.depth else 0)]
        kinds += ["draw"] if self.may_draw and (self.boxes or not self.is_mapped) else []
        kinds += ["array"] if self.boxes else []
        return [*kinds, "restructure"] if self.boxes and self.may_restructure else kinds

    def inside(self, transform, boxes):
        return self._replace(
            boxes=tuple(dict.fromkeys(boxes)),
            depth=self.depth - 1,
            may_restructure=self.may_restructure and transform not in LOOPS,
            may_draw=self.may_draw and transform != "vmap",
        )


def refs(boxes):
    closed = st.builds(Ref, st.none(), st.integers(0, 2 * NODES - 1))
    return closed | st.builds(Ref, st.sampled_from(boxes), st.sampled_from(["a", "b"])) if boxes else closed


@st.composite
def bodies(draw, scope):
    box = st.sampled_from(scope.boxes) if scope.boxes else st.none()
    operations = []
    for _ in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(scope.kinds())):
            case "write":
                target = draw(refs(scope.boxes))
                source = draw(refs(() if scope.is_mapped and target.box is None else scope.boxes))
                operations.append(Write(target, source, draw(st.sampled_from([0.5, -0.25, 1.0]))))
            case "read":
                operations.append(Read(draw(refs(scope.boxes))))
            case "draw":
                operations.append(Draw(draw(box if scope.is_mapped else st.none() | box)))
            case "array":
                operations.append(SetArray(draw(box)))
            case "restructure":
                kind = draw(st.sampled_from(["new", "append", "exchange", "share", "count", "replace"]))
                operations.append(Restructure(draw(box), draw(box), kind))
            case "call":
                transform = draw(st.sampled_from(TRANSFORMS))
                # `for_loop` has nothing that is carried as an argument; what it reaches, it closes over.
                passes = bool(scope.boxes) and transform != "for_loop"
                boxes = tuple(draw(st.lists(box, max_size=2))) if passes else ()
                operations.append(Call(transform, boxes, draw(bodies(scope.inside(transform, boxes)))))
    return tuple(operations)


def run(states, rng, body, boxes, x, calls):
    """Runs a program; `boxes` are those that are arguments here, by number."""

    def find(ref):
        return states[ref.part] if ref.box is None else getattr(boxes[ref.box], ref.part)

    total = x
    for operation in body:
        match operation:
            case Write(target, source, factor):
                find(target).value = factor * find(source).value + x
            case Read(source):
                total = total + find(source).value
            case Draw(box):
                total = total + (rng if box is None else boxes[box].rng).uniform()
            case SetArray(box):
                boxes[box].array = 0.5 * boxes[box].array + x
                total = total + boxes[box].array
            case Restructure(box, other, kind):
                restructure(boxes[box], boxes[other], kind, total)
                total = total + boxes[box].count
            case Call(transform, numbers, inner):

                def function(*arguments, x, inner=inner, numbers=numbers):
                    return run(states, rng, inner, dict(zip(numbers, arguments, strict=True)), x, calls)

                total = 0.5 * total + calls[transform](function, [boxes[number] for number in numbers], x)
    return total


def restructure(box, other, kind, value):
    match kind:
        case "new":
            setattr(box, f"new{len(vars(box))}", gs.State(0.125 * value))
        case "append":
            box.items.append(gs.State(0.25 * value))
        case "exchange":
            box.a, box.b = box.b, box.a
        case "share":
            box.a = other.b
        case "count":
            box.count += 1
        case "replace":
            box.b = gs.State(0.5 * value)


TRANSFORMED = {
    "jit": lambda f, boxes, x: gs.jit(lambda boxes, x: f(*boxes, x=x))(boxes, x),
    "vmap": lambda f, boxes, x: gs.vmap(lambda boxes, x: f(*boxes, x=x), in_axes=None, axis_size=2)(boxes, x)[0],
    "grad": lambda f, boxes, x: gs.value_and_grad(lambda x, boxes: f(*boxes, x=x))(x, boxes)[0],
    "scan": lambda f, boxes, x: gs.scan(lambda boxes, x: (boxes, f(*boxes, x=x)), boxes, jnp.stack([x, 0.5 * x]))[
        1
    ].sum(),
    "for_loop": lambda f, boxes, x: gs.for_loop(lambda x: f(x=x), jnp.stack([x, 0.5 * x])).sum(),
    "eval_shape": lambda f, boxes, x: gs.eval_shape(lambda boxes, x: f(*boxes, x=x), boxes, x).size * x,
}
PLAIN = {
    **dict.fromkeys(["jit", "vmap", "grad"], lambda f, boxes, x: f(*boxes, x=x)),
    **dict.fromkeys(["scan", "for_loop"], lambda f, boxes, x: f(*boxes, x=x) + f(*boxes, x=0.5 * x)),
    "eval_shape": lambda f, boxes, x: x,
}


shares = st.lists(st.integers(0, 2 * NODES - 1), min_size=NODES, max_size=NODES)


@hypothesis.settings(max_examples=20)
@hypothesis.given(
    body=bodies(Scope(tuple(range(NODES)))),
    shares=shares,
    outermost=st.sampled_from(["jit", "plain"]),
)
def test_a_program_does_what_it_does_without_transforms(body, shares, outermost):
    world, plain = World(*build(shares, 0)), World(*build(shares, 0))
    states, rng = world.states, world.rng

    def program(boxes, x):
        return run(states, rng, body, dict(enumerate(boxes)), x, TRANSFORMED)

    compiled = gs.jit(program) if outermost == "jit" else program
    for number in range(3):  # the second call finds the program of the first where nothing has changed
        x = jnp.float32(0.5 + number)
        result = compiled(world.boxes, x)
        expected = run(plain.states, plain.rng, body, dict(enumerate(plain.boxes)), x, PLAIN)
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)
        agree(world.outcome(), plain.outcome())
        # Between two calls: another value, and two States that change places.
        for each in (world, plain):
            each.states[number].value = each.states[number].value + 1.0
            each.boxes[0].a, each.boxes[1].b = each.boxes[1].b, each.boxes[0].a


def agree(mine, theirs):
    assert len(mine) == len(theirs)
    for one, other in zip(mine, theirs, strict=True):
        if isinstance(one, float):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        else:
            assert one[0] == other[0]
            assert one[2:] == other[2:]
            np.testing.assert_allclose(one[1], other[1], rtol=1e-4, atol=1e-4)


@hypothesis.settings(max_examples=20)
@hypothesis.given(body=bodies(Scope(tuple(range(NODES)), 2, is_mapped=True)), shares=shares, compiled=st.booleans())
def test_a_program_in_lanes_does_what_it_does_for_each_member(body, shares, compiled):
    """Boxes are mapped, each lane has its own; the States of the closure are not: all lanes write them alike."""
    common = [gs.State(jnp.float32(number)) for number in range(2 * NODES)]
    members = [World(*build(shares, seed)) for seed in range(LANES)]
    stacked = World(*gs.vmap(lambda seed: build(shares, seed))(jnp.arange(LANES)))

    def program(boxes, x):
        return run(common, None, body, dict(enumerate(boxes)), x, TRANSFORMED)

    mapped = gs.vmap(program, in_axes=(0, None))
    mapped = gs.jit(mapped) if compiled else mapped
    for number in range(2):
        x = jnp.float32(0.5 + number)
        before = [state.value for state in common]
        result = mapped(stacked.boxes, x)
        for lane, member in enumerate(members):
            plain = [gs.State(value) for value in before]
            expected = run(plain, None, body, dict(enumerate(member.boxes)), x, PLAIN)
            np.testing.assert_allclose(result[lane], expected, rtol=1e-4, atol=1e-4)
            agree(stacked.outcome(lane), member.outcome())
            agree([float(state.value) for state in common], [float(state.value) for state in plain])
