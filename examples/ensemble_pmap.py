"""Sixty-four networks that learn to read digits, spread over eight devices, each of which trains its own eight.

    python examples/ensemble_pmap.py --members 64 --devices 8 --epochs 3 --seed 0
    python -m graphstate.launch --processes 2 --devices 4 examples/ensemble_pmap.py

The network, its optimizer and the step are those of ensemble_digits.py, written for one member: `pmap` stands where
`vmap` stood there. No device hears of another, and whatever their number, the members come out as they do on one
device; so they do in two processes with four devices each, where each process has its own members and prints what they
have come to. On a CPU the devices are virtual ones: they show what would run where, and make nothing faster.
"""

import argparse

import jax
import numpy as np
from ensemble_digits import BATCH, accuracy_of, make, step, whole_number
from jax.experimental.multihost_utils import process_allgather
from numpy import ndarray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import graphstate as gs

make_members = gs.pmap(make)
train_members = gs.pmap(step, in_axes=(0, 0, None, None), donate_states=True)
predict_members = gs.pmap(lambda model, x: gs.nn.softmax(model(x)), in_axes=(0, None))


def train(members: int, epochs: int, x: ndarray, x_test: ndarray, y: ndarray, y_test: ndarray) -> tuple[ndarray, dict]:
    """The accuracy of each trained member and of all together, and which members each device holds."""
    models, optimizers = make_members(gs.random.split_key(members))
    for _ in tqdm(range(epochs), unit="epoch"):
        with gs.environ.context(fit=True):
            for batch in gs.random.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
                train_members(models, optimizers, x[batch], y[batch])
    predicted = process_allgather(predict_members(models, x_test), tiled=True)
    shards = models.layers[0].weight.value.addressable_shards
    held = {shard.device: range(members)[shard.index[0]] for shard in shards}
    return np.append(accuracy_of(predicted, y_test), accuracy_of(predicted.mean(0), y_test)), held


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=whole_number, default=64, help="how many networks")
    parser.add_argument(
        "--devices", type=whole_number, default=8, help="how many virtual devices, if there is only a CPU"
    )
    parser.add_argument("--epochs", type=whole_number, default=3, help="passes over the training images")
    parser.add_argument(
        "--seed", type=lambda text: whole_number(text, least=0), default=0, help="decides all that is random"
    )
    options = parser.parse_args(arguments)

    gs.parallel.initialize()
    if not jax.distributed.is_initialized():
        jax.config.update("jax_num_cpu_devices", options.devices)
    gs.random.seed(options.seed)
    images, digits = load_digits(return_X_y=True)
    split = train_test_split(images / 16, digits, test_size=0.3, stratify=digits, random_state=options.seed)
    accuracies, held = train(options.members, options.epochs, *split)
    print("\n  device    members  their accuracies")
    for device, part in held.items():
        shown = " ".join(f"{accuracies[member]:.3f}" for member in part)
        print(f"{device.id:>8}  {part[0]:>3} to {part[-1]:>2}  {shown}")
    print(f"\ntogether {accuracies[-1]:.3f}")


if __name__ == "__main__":
    main()
