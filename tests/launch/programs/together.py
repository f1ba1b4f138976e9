"""What many processes do together; prints what came out, as JSON, for comparison with one process."""

import hashlib
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import NamedSharding, PartitionSpec

import graphstate as gs

gs.parallel.initialize()
mesh = gs.parallel.make_mesh()
found = {"process": jax.process_index(), "devices": jax.device_count(), "arguments": sys.argv[1:]}


class Net(gs.Node):
    def __init__(self, key) -> None:
        rng = gs.random.RandomState(key)
        self.layers = [gs.nn.Linear(3, 8, rng=rng), gs.nn.Linear(8, 1, rng=rng)]
        self.layers[0].weight = gs.ParamState(self.layers[0].weight.value, axes=(None, "wide"))
        self.dropout = gs.nn.Dropout(0.5, fit=True)

    def __call__(self, x):
        return self.layers[1](self.dropout(gs.nn.relu(self.layers[0](x))))


def digest(value) -> str:
    return hashlib.sha256(process_allgather(value, tiled=True).tobytes()).hexdigest()


def step(model, optimizer, x, y, scale):
    def loss(model):
        return scale * jnp.mean((model(x) - y) ** 2)

    value, grads = gs.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


def make(key):
    model = Net(key)
    return model, gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 0.01})


def batches():
    rows = np.random.default_rng(0).normal(size=(2, 16, 4)).astype(np.float32)
    return [(batch[:, :3], batch[:, 3:]) for batch in rows]


# An ensemble, whose lanes draw from the default stream.
models, optimizers = gs.pmap(make)(gs.random.split_key(8))
train = gs.pmap(step, in_axes=(0, 0, None, None, None), donate_states=True)
for x, y in batches():
    losses = train(models, optimizers, x, y, 0.5)
found["ensemble"] = [digest(losses), *(digest(state.value) for state in models.states(gs.ParamState).values())]
found["losses"] = process_allgather(losses, tiled=True).tolist()
found["spread"] = [shard.data.shape[0] for shard in models.layers[0].weight.value.addressable_shards]
found["drawn"] = float(gs.random.normal())
try:
    np.asarray(losses)
    found["read"] = "whole"
except RuntimeError as error:
    found["read"] = "process_allgather" if "process_allgather" in str(error) else str(error)

# One model: its batch divided, its States copied, or divided by rules.
for rules in ({}, {"wide": "batch"}):
    model, optimizer = make(0)
    gs.parallel.place((model, optimizer), mesh, rules)
    fit = gs.parallel.data_parallel(step, mesh, (2, 3), rules)
    found[f"data {bool(rules)}"] = [float(fit(model, optimizer, x, y, 0.5)) for x, y in batches()]
    found[f"shard {bool(rules)}"] = model.layers[0].weight.value.addressable_shards[0].data.shape

# One model, built in its parts; its parameters are drawn from the default stream.
model, optimizer = gs.parallel.init_sharded(make, mesh, {"wide": "batch"})(gs.random.split_key())
found["shard built"] = model.layers[0].weight.value.addressable_shards[0].data.shape
found["built"] = [float(jnp.sum(jnp.sin(state.value))) for state in model.states(gs.ParamState).values()]
like = gs.parallel.abstract(make, mesh, {"wide": "batch"})(jax.random.key(0))[0].layers[0].weight.value
found["like"] = like.sharding.is_equivalent_to(model.layers[0].weight.value.sharding, 2)
gs.parallel.init_sharded(lambda: gs.nn.Linear(3, 8), mesh, {})()
inside = gs.jit(lambda: gs.parallel.init_sharded(lambda: gs.nn.Linear(3, 8), mesh, {})())()
found["built"].append(float(jnp.sum(jnp.sin(inside.weight.value))))
found["built"].append(float(gs.random.normal()))

# A part of the batch in each process.
x, y = batches()[0]
part = slice(16 * jax.process_index() // jax.process_count(), 16 * (jax.process_index() + 1) // jax.process_count())
rows = NamedSharding(mesh, PartitionSpec("batch"))
x, y = (jax.make_array_from_process_local_data(rows, each[part]) for each in (x, y))
found["parts"] = float(fit(model, optimizer, x, y, 0.5))

# Arrays of all kinds.
keys = gs.parallel.shard(jax.random.split(jax.random.key(3), 8), mesh)
found["keys"] = digest(jax.random.key_data(keys))
weak = gs.parallel.replicate(jnp.asarray(0.5), mesh)
found["kinds"] = [
    str(weak.weak_type),
    str(gs.parallel.replicate(np.arange(3.0), mesh).dtype),
    str(gs.parallel.replicate(jnp.ones(2, jnp.bfloat16), mesh).dtype),
    str(gs.parallel.replicate(True, mesh)),
    float(gs.parallel.replicate(gs.parallel.shard(np.arange(8.0), mesh), mesh)[3]),
]
found["inside"] = digest(
    gs.jit(lambda x: gs.pmap(lambda x: jnp.sin(x) * 2)(x))(gs.parallel.shard(jnp.arange(8.0), mesh))
)
found["traced"] = float(
    gs.jit(lambda x: gs.parallel.replicate(x * 2, mesh).sum())(gs.parallel.shard(jnp.arange(8.0), mesh))
)

# Meshes of some of the devices: of this process alone, and of the last one alone.
own = gs.parallel.make_mesh(devices=jax.local_devices())
alone = gs.pmap(lambda x: x + jax.process_index(), mesh=own)(jnp.arange(8.0)) - jax.process_index()
found["local"] = np.asarray(alone).tolist()
errors = []
for mesh_of, value in ((own, keys), (gs.parallel.make_mesh(devices=jax.devices()[-1:]), 1.0)):
    try:
        gs.parallel.replicate(value, mesh_of)
    except gs.errors.ShardingError as error:
        errors.append(str(error))
found["errors"] = errors
print(json.dumps(found))
