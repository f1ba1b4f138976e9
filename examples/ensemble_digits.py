"""Sixteen networks that learn to read digits in one compiled call, and how well they know what they do not know.

    python examples/ensemble_digits.py --members 16 --epochs 30 --seed 0 --plot ensemble_digits.png

Each has weights, dropout and an optimizer of its own; the entropy of their averaged prediction tells what to doubt.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import optax
from jax import Array
from matplotlib.figure import Figure
from numpy import ndarray
from scipy.special import entr
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import graphstate as gs

MEMBERS, EPOCHS, BATCH, REQUIRED = 16, 30, 64, 0.97
ENTROPIES = [0.0, 0.1, 0.3, 0.6, 1.0, np.log(10)]


class MLP(gs.Node):
    def __init__(self, sizes: tuple[int, ...] = (64, 128, 128, 10), rate: float = 0.3) -> None:
        self.layers = [gs.nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
        self.dropout = gs.nn.Dropout(rate)

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = self.dropout(gs.nn.relu(layer(x)))
        return self.layers[-1](x)


def clipped_adam(learning_rate: Array, max_norm: Array) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.adam(learning_rate))


def make(key: Array) -> tuple[MLP, gs.optim.Optimizer]:
    gs.random.seed(key)
    model = MLP()
    return model, gs.optim.Optimizer(model, clipped_adam, hyperparams={"learning_rate": 2e-3, "max_norm": 1.0})


def loss(model: MLP, x: Array, y: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


def step(model: MLP, optimizer: gs.optim.Optimizer, x: Array, y: Array) -> Array:
    value, grads = gs.value_and_grad(loss)(model, x, y)
    optimizer.update(model, grads)
    return value


# All of the above is written for one member; `vmap` makes it many.
make_members = gs.vmap(make)
train_members = gs.jit(gs.vmap(step, in_axes=(0, 0, None, None)))
predict_members = gs.jit(gs.vmap(lambda model, x: gs.nn.softmax(model(x)), in_axes=(0, None)))


def train(members: int, epochs: int, x: ndarray, x_test: ndarray, y: ndarray, y_test: ndarray) -> ndarray:
    """What each trained member predicts for the test images: its probabilities of the ten digits."""
    models, optimizers = make_members(gs.random.split_key(members))
    for _ in (progress := tqdm(range(epochs), unit="epoch")):
        with gs.environ.context(fit=True):
            for batch in gs.random.permutation(len(x))[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
                losses = train_members(models, optimizers, x[batch], y[batch])
        predicted = np.asarray(predict_members(models, x_test))
        progress.set_postfix(loss=f"{losses.mean():.3f}", accuracy=f"{accuracy_of(predicted.mean(0), y_test):.3f}")
    return predicted


def accuracy_of(predicted: ndarray, y: ndarray) -> ndarray:
    return np.mean(predicted.argmax(-1) == y, -1)


def calibration_of(predicted: ndarray, y: ndarray) -> list[tuple[str, int, float, float]]:
    """For each bin of the predictive entropy that is not empty: its name, size, mean confidence and accuracy."""
    bins = np.digitize(entr(predicted).sum(-1), ENTROPIES[1:-1])
    names = [f"{low:.1f} to {high:.1f}" for low, high in pairwise(ENTROPIES)]
    parts = [(names[number], predicted[bins == number], y[bins == number]) for number in np.unique(bins)]
    return [(name, len(part), part.max(-1).mean(), accuracy_of(part, labels)) for name, part, labels in parts]


def report(members: ndarray, together: float, calibration: list) -> None:
    print("\n  member  accuracy")
    for member, accuracy in [*enumerate(members), ("together", together)]:
        print(f"{member:>8}  {accuracy:8.3f}")
    print("\n   entropy  examples  confidence  accuracy")
    for name, examples, confidence, accuracy in calibration:
        print(f"{name:>10}  {examples:8}  {confidence:10.3f}  {accuracy:8.3f}")


def draw(path: Path, members: ndarray, together: float, calibration: list) -> None:
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(range(len(members)), members, color="lightsteelblue", label="accuracy of a member")
    left.axhline(together, color="crimson", label="accuracy together")
    left.set(xlabel="member", ylabel="accuracy", ylim=(min(0.9, *members), 1))
    names, _, confidences, accuracies = zip(*calibration, strict=True)
    right.plot(names, accuracies, "o-", color="crimson", label="accuracy in the bin")
    right.plot(names, confidences, "o--", color="steelblue", label="confidence in the bin")
    right.set(xlabel="predictive entropy [nat]", ylim=(0, 1.05))
    figure.legend(loc="outside upper center", ncols=4)
    figure.savefig(path, dpi=150, format="png")


def whole_number(text: str, least: int = 1) -> int:
    if not text.isdecimal() or not least <= int(text) < 2**32:
        raise argparse.ArgumentTypeError(f"needs a whole number from {least} to {2**32 - 1}, but got {text!r}")
    return int(text)


def writable_png(text: str) -> Path:
    try:
        Path(text).open("ab").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from None
    return Path(text)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=whole_number, default=MEMBERS, help="how many networks")
    parser.add_argument("--epochs", type=whole_number, default=EPOCHS, help="passes over the training images")
    parser.add_argument(
        "--seed", type=lambda text: whole_number(text, least=0), default=0, help="decides all that is random"
    )
    parser.add_argument("--plot", type=writable_png, default="ensemble_digits.png", help="where to save the figure")
    options = parser.parse_args(arguments)

    gs.random.seed(options.seed)
    images, digits = load_digits(return_X_y=True)
    split = train_test_split(images / 16, digits, test_size=0.3, stratify=digits, random_state=options.seed)
    predicted, y_test = train(options.members, options.epochs, *split), split[-1]
    together = accuracy_of(predicted.mean(0), y_test)
    results = accuracy_of(predicted, y_test), together, calibration_of(predicted.mean(0), y_test)
    report(*results)
    draw(options.plot, *results)
    if (options.members, options.epochs) == (MEMBERS, EPOCHS) and together < REQUIRED:
        raise SystemExit(f"\nTogether the members should reach an accuracy of {REQUIRED}, but reached {together:.3f}.")


if __name__ == "__main__":
    main()
