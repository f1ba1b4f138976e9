"""One network, divided over eight devices in two ways by rules alone: its code names axes, and knows of no device.

    python examples/fsdp.py --devices 8 --epochs 4 --seed 0
    python -m graphstate.launch --processes 2 --devices 4 examples/fsdp.py

The axes of its parameters are called "embed" or "mlp". Along which axis of the mesh these lie is said once, beside it:
then each device builds and keeps its part of the network and of what Adam remembers of it, and XLA adds what has to be
sent. By "embed" alone the network is fully sharded; by "mlp" too its matrices are multiplied in parts. The accuracies
are those of one device, up to the order of sums. On a CPU the devices are virtual ones: they show what would lie where,
and make nothing faster.
"""

import argparse

import jax
import numpy as np
import optax
from ensemble_digits import BATCH, accuracy_of, step, whole_number
from jax import Array
from numpy import ndarray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import graphstate as gs

DEVICES, EPOCHS, TEST_IMAGES, REQUIRED = 8, 4, 512, 0.95
RULES = {
    "fully sharded": {"embed": "data"},
    "and by tensors": {"embed": "data", "mlp": "model"},
}


def dense(inputs: int, outputs: int, *axes: str | None) -> gs.nn.Linear:
    """A layer that names the axes of its weight and bias."""
    draw, zeros = gs.nn.initializers.lecun_normal(), gs.nn.initializers.zeros
    weight_init, bias_init = gs.nn.with_axes(draw, axes), gs.nn.with_axes(zeros, axes[1:])
    return gs.nn.Linear(inputs, outputs, weight_init=weight_init, bias_init=bias_init)


class Network(gs.Node):
    def __init__(self, embed: int = 64, mlp: int = 256) -> None:
        self.read = dense(64, embed, None, "embed")
        self.up = dense(embed, mlp, "embed", "mlp")
        self.down = dense(mlp, embed, "mlp", "embed")
        self.write = dense(embed, 10, "embed", None)

    def __call__(self, x: Array) -> Array:
        x = self.read(x)
        return self.write(x + self.down(gs.nn.relu(self.up(x))))


def make(key: Array) -> tuple[Network, gs.optim.Optimizer]:
    gs.random.seed(key)
    model = Network()
    return model, gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 3e-3})


def train(rules: dict, epochs: int, seed: int, x: ndarray, x_test: ndarray, y: ndarray, y_test: ndarray) -> tuple:
    """The accuracy, and how many of its numbers each device holds, of a network that lies as `rules` say."""
    columns = 2 if jax.device_count() % 2 == 0 else 1
    mesh = gs.parallel.make_mesh((jax.device_count() // columns, columns), ("data", "model"))
    model, optimizer = gs.parallel.init_sharded(make, mesh, rules)(jax.random.key(seed))
    train_together = gs.parallel.data_parallel(step, mesh, batch=(2, 3), rules=rules)
    predict_together = gs.parallel.data_parallel(lambda model, x: model(x), mesh, batch=1, rules=rules)
    order = np.random.default_rng(seed)
    for _ in range(epochs):
        for batch in order.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
            # Awaited: on virtual devices too many steps at once can wait for each other for ever.
            train_together(model, optimizer, x[batch], y[batch]).block_until_ready()
    predicted = gs.parallel.replicate(predict_together(model, x_test), mesh)
    arrays = jax.tree.leaves(gs.state((model, optimizer)))
    held = sum(array.addressable_data(0).size for array in arrays)
    return accuracy_of(np.asarray(predicted), y_test), held, sum(array.size for array in arrays)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=whole_number, default=DEVICES, help="how many virtual devices, on a CPU")
    parser.add_argument("--epochs", type=whole_number, default=EPOCHS, help="passes over the training images")
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random")
    options = parser.parse_args(arguments)

    gs.parallel.initialize()
    if not jax.distributed.is_initialized():
        jax.config.update("jax_num_cpu_devices", options.devices)
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    split = train_test_split(images, digits, test_size=TEST_IMAGES, stratify=digits, random_state=options.seed)
    print("the network is  on each device  accuracy")
    for name, rules in RULES.items():
        accuracy, held, total = train(rules, options.epochs, options.seed, *split)
        print(f"{name:<14}  {held:>6} of {total}  {accuracy:8.3f}")
        if options.epochs >= EPOCHS and accuracy < REQUIRED:
            raise SystemExit(f"\nThe network should reach an accuracy of {REQUIRED}, but reached {accuracy:.3f}.")


if __name__ == "__main__":
    main()
