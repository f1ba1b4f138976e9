"""One process fails as the first argument says, while the others wait for it in a computation."""

import os
import signal
import sys

import jax
import jax.numpy as jnp

import graphstate as gs

x = gs.parallel.shard(jnp.ones(jax.device_count()), gs.parallel.make_mesh())
jax.jit(jnp.sum)(x).block_until_ready()
if jax.process_index() == 1:
    match sys.argv[1]:
        case "raises":
            raise ValueError("the data of process 1 are gone")
        case "exits":
            sys.exit(3)
        case "returns":
            sys.exit()
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
while True:
    jax.jit(jnp.sum)(x).block_until_ready()
