"""Processes that do not do the same; prints each error."""

import jax
import jax.numpy as jnp

import graphstate as gs

mesh = gs.parallel.make_mesh()
me = jax.process_index()


class Net(gs.Node):
    def __init__(self, width=4, act=jax.nn.relu, seed=0, label="net") -> None:
        rng = gs.random.RandomState(seed)
        self.layers = [gs.nn.Linear(2, width, rng=rng), gs.nn.Linear(width, 1, rng=rng)]
        self.act = act
        self.words = frozenset({"one", "two", "three"})
        self.label = gs.ParamState(jnp.zeros(()), tags={label, "b", "c"}, role=label)

    def __call__(self, x):
        return self.layers[1](self.act(self.layers[0](x)))


def copied(**different) -> None:
    gs.parallel.replicate(Net(**different), mesh)


def loss(model, x, y):
    return jnp.mean((model(x) - y) ** 2)


def closed(x):
    return ours(x)


def scaled(x):
    jax.debug.callback(lambda: me)
    return x * (1 + me)


def noisy(x):
    return x * 2 if gs.environ.get("fit") else x


def keyed(x):
    return x + jax.random.normal(key)


def try_it(name, function, *args, **kwargs) -> None:
    try:
        function(*args, **kwargs)
        print(f"{name}: no error")
    except gs.errors.ProcessError as error:
        print(f"{name}:", str(error).replace("\n", " | "))


x, y = jnp.ones((8, 2)), jnp.ones((8, 1))
ours = Net(4 + me)
fit = gs.parallel.data_parallel(loss, mesh)
try_it("same", copied)
try_it("width", copied, width=4 + me)
try_it("function", copied, act=[jax.nn.relu, jax.nn.tanh][me])
try_it("code", copied, act=[lambda x: x + 1, lambda x: x - 1][me])
try_it("closure", copied, act=(lambda scale: lambda x: scale * x)(me))
try_it("tag", copied, label="net"[me:])
try_it("values", copied, seed=me)
try_it("argument", fit, Net(4 + me), x, y)
try_it("batch", fit, Net(), x * me, y)
kept = Net()
try_it("step", fit, kept, x, y)
try_it("later batch", fit, kept, x * me, y)
try_it("later model", fit, Net(seed=me), x, y)
try_it("captured", gs.pmap(closed), x)
try_it("program", gs.pmap(scaled), x)
key = jax.random.key(me)
try_it("constant", gs.jit(gs.pmap(keyed)), gs.parallel.shard(x, mesh))
with gs.environ.context(fit=bool(me)):
    try_it("setting", gs.pmap(noisy, donate_states=True), x)
try_it("built", gs.parallel.init_sharded(lambda: gs.ParamState(jnp.zeros((4, 4 + 4 * me))), mesh, {}))
try_it("drawn", gs.parallel.init_sharded(lambda: gs.ParamState(jax.random.normal(jax.random.key(me), (4,))), mesh, {}))
try_it("call", gs.parallel.shard if me else gs.parallel.replicate, y, mesh)
if me == 0:
    try_it("alone", copied)
