"""An ensemble of networks that reads handwritten digits, trained in one compiled call, and how well it knows what it knows.

    python examples/ensemble_digits.py --members 16 --epochs 30 --seed 0 --plot ensemble_digits.png

Every member starts and drops activations at random in its own way, and has an optimizer of its own. Their averaged
prediction is better than most members, and its entropy tells which answers to doubt.
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import graphstate as gs

BATCH, BINS, EPOCHS, MEMBERS, REQUIRED = 64, 6, 30, 16, 0.97


class MLP(gs.Node):
    def __init__(self, sizes=(64, 128, 128, 10), rate=0.3):
        self.layers = [gs.nn.Linear(inputs, outputs) for inputs, outputs in pairwise(sizes)]
        self.dropout = gs.nn.Dropout(rate)

    def __call__(self, x):
        for layer in self.layers[:-1]:
            x = self.dropout(gs.nn.relu(layer(x)))
        return self.layers[-1](x)


def clipped_adam(learning_rate, max_norm):
    return optax.chain(optax.clip_by_global_norm(max_norm), optax.adam(learning_rate))


def make(key):
    gs.random.seed(key)
    model = MLP()
    return model, gs.optim.Optimizer(model, clipped_adam, hyperparams={"learning_rate": 2e-3, "max_norm": 1.0})


def loss(model, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()


def step(model, optimizer, x, y):
    value, grads = gs.value_and_grad(loss)(model, x, y)
    optimizer.update(model, grads)
    return value


def predict(model, x):
    return gs.nn.softmax(model(x))


# Everything above is about one member; only these two lines are about many.
train_members = gs.jit(gs.vmap(step, in_axes=(0, 0, None, None)))
predict_members = gs.jit(gs.vmap(predict, in_axes=(0, None)))


def load(seed):
    """Images and labels for training, and those held back."""
    x, y = load_digits(return_X_y=True)
    split = train_test_split(x / 16, y, test_size=0.3, stratify=y, random_state=seed)
    return [jnp.asarray(part, dtype) for part, dtype in zip(split, ("float32", "float32", "int32", "int32"))]


def train(members, epochs, seed, x, y, x_test, y_test):
    """The trained members, stacked in one model."""
    models, optimizers = gs.vmap(make)(jax.random.split(jax.random.key(seed), members))
    generator = np.random.default_rng(seed)
    progress = tqdm(range(epochs), unit="epoch")
    for _ in progress:
        order = generator.permutation(len(x))
        with gs.environ.context(fit=True):
            for batch in order[: len(x) // BATCH * BATCH].reshape(-1, BATCH):
                losses = train_members(models, optimizers, x[batch], y[batch])
        accuracy = accuracy_of(predict_members(models, x_test).mean(0), y_test)
        progress.set_postfix(loss=f"{losses.mean():.3f}", accuracy=f"{accuracy:.3f}")
    return models


def accuracy_of(probabilities, y):
    return np.mean(np.argmax(probabilities, -1) == y, -1)


def calibration_of(probabilities, y):
    """Highest entropy, number of examples and accuracy of each bin, from the surest examples to the least sure."""
    entropy = np.asarray(-jax.scipy.special.xlogy(probabilities, probabilities).sum(-1))
    return [
        (entropy[part].max(), len(part), accuracy_of(probabilities[part], y[part]))
        for part in np.array_split(np.argsort(entropy), BINS)
    ]


def report(members, ensemble, bins):
    print("\nmember  accuracy")
    for number, accuracy in enumerate(members):
        print(f"{number:6}  {accuracy:8.3f}")
    print(f"{'mean':>6}  {members.mean():8.3f}\n{'all':>6}  {ensemble:8.3f}  (averaged prediction)")
    print("\nentropy up to  examples  accuracy")
    for highest, examples, accuracy in bins:
        print(f"{highest:13.3f}  {examples:8}  {accuracy:8.3f}")


def draw(path, members, ensemble, bins):
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.bar(range(len(members)), members, color="lightsteelblue")
    left.axhline(ensemble, color="crimson", label="averaged prediction")
    left.set(xlabel="member", ylabel="accuracy", ylim=(min(0.9, members.min() - 0.01), 1))
    left.legend(loc="lower right")
    right.plot(range(len(bins)), [accuracy for *_, accuracy in bins], "o-", color="crimson")
    right.set_xticks(range(len(bins)), [f"≤ {highest:.2g}" for highest, *_ in bins])
    right.set(xlabel="predictive entropy [nat]", ylabel="accuracy")
    figure.savefig(path, dpi=150)


def whole_number(least):
    def parse(text):
        if not text.isdecimal() or not least <= int(text) < 2**32:
            raise argparse.ArgumentTypeError(f"needs a whole number from {least} to {2**32 - 1}, but got {text!r}")
        return int(text)

    return parse


def writable_png(text):
    path = Path(text)
    if path.suffix != ".png":
        raise argparse.ArgumentTypeError(f"needs the name of a .png file, but got {text!r}")
    try:
        path.open("ab").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write {text!r}: {error.strerror}") from None
    return path


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=whole_number(1), default=MEMBERS, help="networks in the ensemble")
    parser.add_argument("--epochs", type=whole_number(1), default=EPOCHS, help="passes over the training data")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="decides the split of the data and all that is random")
    parser.add_argument("--plot", type=writable_png, default="ensemble_digits.png", help="where to save the figure")
    options = parser.parse_args(arguments)

    x, x_test, y, y_test = load(options.seed)
    models = train(options.members, options.epochs, options.seed, x, y, x_test, y_test)
    probabilities = np.asarray(predict_members(models, x_test))
    averaged, y_test = probabilities.mean(0), np.asarray(y_test)
    results = accuracy_of(probabilities, y_test), accuracy_of(averaged, y_test), calibration_of(averaged, y_test)
    report(*results)
    draw(options.plot, *results)
    print(f"\nfigure saved as {options.plot}")
    if options.members >= MEMBERS and options.epochs >= EPOCHS and results[1] < REQUIRED:
        sys.exit(f"the averaged prediction should reach an accuracy of {REQUIRED}, but got {results[1]:.3f}")


if __name__ == "__main__":
    main()
