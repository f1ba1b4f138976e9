"""Optimizers: an optax transformation with its state and hyperparameters, as a Node beside the model."""

from ._optimizer import Optimizer

__all__ = ["Optimizer"]
