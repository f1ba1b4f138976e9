"""A residual network with batch norm reads digits: one of it, and an ensemble trained in one compiled call a step.

    python examples/resnet_digits.py --members 3 --epochs 6 --seed 0

The network is written once. As a member of the ensemble it has statistics and an optimizer of its own.
"""

import argparse

import numpy as np
import optax
from jax import Array
from numpy import ndarray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import graphstate as gs

MEMBERS, EPOCHS, BATCH, REQUIRED = 3, 6, 64, 0.97


class Residual(gs.Node):
    def __init__(self, features: int) -> None:
        self.convs = [gs.nn.Conv2d(features, features, 3, padding="SAME", use_bias=False) for _ in range(2)]
        self.norms = [gs.nn.BatchNorm(features, momentum=0.9) for _ in range(2)]

    def __call__(self, x: Array) -> Array:
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = conv(gs.nn.relu(norm(y)))
        return x + y


class ResNet(gs.Node):
    def __init__(self, features: int = 16) -> None:
        self.body = gs.nn.Sequential(
            gs.nn.Conv2d(1, features, 3, padding="SAME"),
            Residual(features),
            gs.nn.MaxPool2d(2),
            Residual(features),
            gs.nn.BatchNorm(features, momentum=0.9),
            gs.nn.relu,
            gs.nn.AdaptiveAvgPool2d(2),
        )
        self.head = gs.nn.Linear(4 * features, 10)

    def __call__(self, images: Array) -> Array:
        x = self.body(images[..., None])
        return self.head(x.reshape(*x.shape[:-3], -1))


def make() -> tuple[ResNet, gs.optim.Optimizer]:
    model = ResNet()
    return model, gs.optim.Optimizer(model, optax.adam, hyperparams={"learning_rate": 3e-3})


def step(model: ResNet, optimizer: gs.optim.Optimizer, images: Array, digits: Array) -> Array:
    def loss(model: ResNet) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(model(images), digits).mean()

    value, grads = gs.value_and_grad(loss)(model)
    optimizer.update(model, grads)
    return value


def predict(model: ResNet, images: Array) -> Array:
    return gs.nn.softmax(model(images))


def train(members: int | None, epochs: int, images: ndarray, test_images: ndarray, digits: ndarray) -> ndarray:
    """What one network predicts for the test images, or each of several does."""
    if members is None:
        (models, optimizers), train_step, predicting = make(), gs.jit(step), gs.jit(predict)
    else:
        models, optimizers = gs.vmap(make, axis_size=members)()
        train_step = gs.jit(gs.vmap(step, in_axes=(0, 0, None, None)))
        predicting = gs.jit(gs.vmap(predict, in_axes=(0, None)))
    for _ in tqdm(range(epochs), unit="epoch"):
        with gs.environ.context(fit=True):
            for batch in gs.random.permutation(len(images))[: len(images) // BATCH * BATCH].reshape(-1, BATCH):
                train_step(models, optimizers, images[batch], digits[batch])
    return np.asarray(predicting(models, test_images))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=MEMBERS, help="how many networks the ensemble has")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="passes over the training images")
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random")
    options = parser.parse_args(arguments)

    gs.random.seed(options.seed)
    images, digits = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32).reshape(-1, 8, 8)
    images, test_images, digits, test_digits = train_test_split(
        images, digits, test_size=0.3, stratify=digits, random_state=options.seed
    )
    single = train(None, options.epochs, images, test_images, digits)
    members = train(options.members, options.epochs, images, test_images, digits)
    reached = {"one network": single, "the ensemble": members.mean(0)}
    accuracies = {name: float(np.mean(each.argmax(-1) == test_digits)) for name, each in reached.items()}
    print("\n" + "\n".join(f"{name:<12}  {accuracy:.3f}" for name, accuracy in accuracies.items()))
    if (options.members, options.epochs) == (MEMBERS, EPOCHS) and min(accuracies.values()) < REQUIRED:
        raise SystemExit(f"\nEach should reach an accuracy of {REQUIRED}.")


if __name__ == "__main__":
    main()
