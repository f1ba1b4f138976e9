"""A recurrent network learns to repeat what it has seen some steps ago, across the borders of windows.

    python examples/recurrent_windows.py --steps 300 --seed 0

Sequences are cut into windows, and gradients end at their borders. A stateful `RNN` goes on where the window before
has ended; one that begins anew cannot know what came before, and guesses in the first steps of each window.
"""

import argparse

import numpy as np
import optax
from jax import Array
from numpy import ndarray
from tqdm import tqdm

import graphstate as gs

STEPS, BATCH, WINDOW, DELAY, REQUIRED = 300, 32, 12, 4, 0.99


class Recaller(gs.Node):
    def __init__(self, *, stateful: bool) -> None:
        self.rnn = gs.nn.RNN(gs.nn.GRUCell(1, 48), stateful=stateful)
        self.read_out = gs.nn.Linear(48, 1)

    def __call__(self, bits: Array) -> Array:
        """The logit of what was seen `DELAY` steps ago, at each step."""
        return self.read_out(self.rnn(2 * bits[..., None] - 1))[..., 0]


def loss(model: Recaller, bits: Array, targets: Array) -> tuple[Array, Array]:
    logits = model(bits)
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(), (logits > 0) == (targets > 0.5)


@gs.jit
def step(model: Recaller, optimizer: gs.optim.Optimizer, bits: Array, targets: Array) -> Array:
    (_, right), grads = gs.value_and_grad(loss, has_aux=True)(model, bits, targets)
    optimizer.update(model, grads)
    return right.mean(0)


def make_windows(count: int, rng: np.random.Generator) -> list[tuple[ndarray, ndarray]]:
    """Consecutive windows of long sequences of bits, and of the same sequences `DELAY` steps later."""
    bits = rng.integers(0, 2, (BATCH, count * WINDOW + DELAY)).astype(np.float32)
    pairs = bits[:, DELAY:], bits[:, :-DELAY]
    return list(zip(*(np.split(each, count, 1) for each in pairs), strict=True))


def train(steps: int, *, stateful: bool, seed: int) -> ndarray:
    """The accuracy at each step of a window, once trained."""
    gs.random.seed(seed)
    model = Recaller(stateful=stateful)
    optimizer = gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 5e-3})
    gs.nn.reset_state(model, batch_size=BATCH)
    accuracies = []
    for bits, targets in tqdm(make_windows(steps, np.random.default_rng(seed)), unit="window"):
        accuracies.append(step(model, optimizer, bits, targets))
    return np.mean(accuracies[-20:], axis=0)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="how many windows to train on")
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random")
    options = parser.parse_args(arguments)

    with_state = train(options.steps, stateful=True, seed=options.seed)
    without = train(options.steps, stateful=False, seed=options.seed)
    print("\nstep of the window  " + "  ".join(f"{number:4}" for number in range(WINDOW)))
    for name, accuracies in (("state is carried", with_state), ("state is reset", without)):
        print(f"{name:<18}  " + "  ".join(f"{accuracy:.2f}" for accuracy in accuracies))
    if options.steps == STEPS and with_state.min() < REQUIRED:
        raise SystemExit(f"\nWith its state carried it should be right in {REQUIRED} of all cases at every step.")


if __name__ == "__main__":
    main()
