"""One network that learns to read digits on eight devices, each of which computes with its part of every batch.

    python examples/data_parallel.py --devices 8 --epochs 8 --seed 0
    python -m graphstate.launch --processes 2 --devices 4 examples/data_parallel.py

The network, its optimizer and the step are those of ensemble_digits.py, written for whole batches, and nothing in them
is averaged by hand. Dropout draws for each image what it draws on one device, and the accuracies are those of one
device, up to the order of sums. On a CPU the devices are virtual ones: they make nothing faster.
"""

import argparse

import jax
import numpy as np
from ensemble_digits import BATCH, MLP, accuracy_of, make, step, whole_number
from jax import Array
from numpy import ndarray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import graphstate as gs

DEVICES, EPOCHS, TEST_IMAGES, REQUIRED = 8, 8, 512, 0.95


def predict(model: MLP, x: Array) -> Array:
    return gs.nn.softmax(model(x))


def train(epochs: int, seed: int, x: ndarray, x_test: ndarray, y: ndarray, y_test: ndarray) -> float:
    """Prints the mean loss of each epoch and the accuracy after it; returns the last."""
    mesh = gs.parallel.make_mesh()
    train_together = gs.parallel.data_parallel(step, mesh, batch=(2, 3))
    predict_together = gs.parallel.data_parallel(predict, mesh, batch=1)
    model, optimizer = make(jax.random.key(seed))
    order = np.random.default_rng(seed)
    print(f"{jax.device_count()} devices, each with {BATCH // jax.device_count()} of {BATCH} images of a batch")
    print("\n   epoch    loss  accuracy")
    for epoch in range(1, epochs + 1):
        with gs.environ.context(fit=True):
            batches = order.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH)
            # Each loss is awaited: on virtual devices too many steps at once can wait for each other for ever.
            loss = np.mean([float(train_together(model, optimizer, x[each], y[each])) for each in batches])
        predicted = gs.parallel.replicate(predict_together(model, x_test), mesh)
        accuracy = accuracy_of(np.asarray(predicted), y_test)
        print(f"{epoch:>8}  {loss:6.3f}  {accuracy:8.3f}")
    return float(accuracy)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--devices", type=whole_number, default=DEVICES, help="how many virtual devices, if there is only a CPU"
    )
    parser.add_argument("--epochs", type=whole_number, default=EPOCHS, help="passes over the training images")
    parser.add_argument(
        "--seed", type=lambda text: whole_number(text, least=0), default=0, help="decides all that is random"
    )
    options = parser.parse_args(arguments)

    gs.parallel.initialize()
    if not jax.distributed.is_initialized():
        jax.config.update("jax_num_cpu_devices", options.devices)
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    split = train_test_split(images, digits, test_size=TEST_IMAGES, stratify=digits, random_state=options.seed)
    accuracy = train(options.epochs, options.seed, *split)
    if options.epochs >= EPOCHS and accuracy < REQUIRED:
        raise SystemExit(f"\nThe network should reach an accuracy of {REQUIRED}, but reached {accuracy:.3f}.")


if __name__ == "__main__":
    main()
