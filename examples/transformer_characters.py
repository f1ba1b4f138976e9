"""A small transformer learns to write Python's own documentation, one character at a time.

    python examples/transformer_characters.py --steps 600 --seed 0 --prompt "The " --length 200

The text comes with Python. The blocks are one stacked Node, applied by a scan and checkpointed, so that compile time
and memory hardly grow with their number; what is written is decoded with a cache of keys and values.
"""

import argparse
import math
from pydoc_data import topics

import numpy as np
import optax
from jax import Array
from numpy import ndarray
from tqdm import tqdm

import graphstate as gs

STEPS, BATCH, CONTEXT, REQUIRED = 600, 16, 96, 1.6


class Block(gs.Node):
    def __init__(self, features: int, heads: int) -> None:
        rotary = gs.nn.RotaryEmbedding(features // heads)
        self.read_norm = gs.nn.RMSNorm(features)
        self.attention = gs.nn.MultiHeadAttention(
            features, heads, kv_heads=heads // 2, rotary=rotary, cache_length=1024, use_bias=False
        )
        self.think_norm = gs.nn.RMSNorm(features)
        self.think = gs.nn.Sequential(
            gs.nn.Linear(features, 4 * features), gs.nn.gelu, gs.nn.Linear(4 * features, features)
        )

    def __call__(self, x: Array, *, decode: bool = False) -> Array:
        x = x + self.attention(self.read_norm(x), is_causal=True, decode=decode)
        return x + self.think(self.think_norm(x))


class Transformer(gs.Node):
    def __init__(self, characters: int, features: int = 96, heads: int = 4, blocks: int = 4) -> None:
        self.embedding = gs.nn.Embedding(characters, features)
        self.blocks = gs.nn.Repeat(lambda: Block(features, heads), blocks, checkpoint=True)
        self.norm = gs.nn.RMSNorm(features)

    def __call__(self, ids: Array, *, decode: bool = False) -> Array:
        """The logits of the character after each one, with the embedding's vectors as weights."""
        return self.embedding.attend(self.norm(self.blocks(self.embedding(ids), decode=decode)))


def loss(model: Transformer, ids: Array) -> Array:
    return optax.softmax_cross_entropy_with_integer_labels(model(ids[:, :-1]), ids[:, 1:]).mean()


@gs.jit
def step(model: Transformer, optimizer: gs.optim.Optimizer, ids: Array) -> Array:
    value, grads = gs.value_and_grad(loss)(model, ids)
    optimizer.update(model, grads)
    return value


def clipped_adam(learning_rate: Array) -> optax.GradientTransformation:
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(learning_rate))


def read() -> tuple[ndarray, ndarray, str]:
    """The text as numbers, its last tenth apart for testing, and the characters that the numbers stand for."""
    text = "\n".join(topics.topics[name] for name in sorted(topics.topics))
    characters = "".join(sorted(set(text)))
    ids = np.array([characters.index(character) for character in text])
    split = len(ids) * 9 // 10
    return ids[:split], ids[split:], characters


def windows(ids: ndarray, count: int, rng: np.random.Generator) -> ndarray:
    starts = rng.integers(0, len(ids) - CONTEXT - 1, count)
    return ids[starts[:, None] + np.arange(CONTEXT + 1)]


def train(model: Transformer, steps: int, ids: ndarray, rng: np.random.Generator) -> None:
    optimizer = gs.optim.Optimizer(model, clipped_adam, hyperparams={"learning_rate": 0.0})
    for number in (progress := tqdm(range(steps), unit="step")):
        rate = 4e-3 * min(1, (number + 1) / 20) * 0.5 * (1 + math.cos(math.pi * number / steps))
        optimizer.hyperparams["learning_rate"].value = np.float32(rate)
        progress.set_postfix(loss=f"{step(model, optimizer, windows(ids, BATCH, rng)):.3f}")


@gs.jit(static_argnames="length")
def write(model: Transformer, prompt: Array, length: int) -> Array:
    """As many characters as `length` says after each prompt, drawn one after the other."""
    gs.nn.reset_state(model, batch_size=prompt.shape[0])

    def draw(logits: Array, _: None) -> tuple[Array, Array]:
        character = gs.random.categorical(logits / 0.8)
        return model(character[:, None], decode=True)[:, -1], character

    return gs.scan(draw, model(prompt, decode=True)[:, -1], length=length)[1].T


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="how many batches to train on")
    parser.add_argument("--seed", type=int, default=0, help="decides all that is random")
    parser.add_argument("--prompt", default="The ", help="what the text that is written begins with")
    parser.add_argument("--length", type=int, default=200, help="how many characters are written")
    options = parser.parse_args(arguments)

    gs.random.seed(options.seed)
    rng = np.random.default_rng(options.seed)
    ids, held_out, characters = read()
    model = Transformer(len(characters))
    train(model, options.steps, ids, rng)
    reached = float(gs.jit(loss)(model, windows(held_out, 64, rng)))
    prompt = np.array([[characters.index(character) for character in options.prompt]])
    written = "".join(characters[number] for number in np.asarray(write(model, prompt, options.length))[0])
    print(f"\n{options.prompt}{written}\n\nloss of held-out text: {reached:.3f} nats a character")
    if options.steps == STEPS and reached > REQUIRED:
        raise SystemExit(f"The loss should be {REQUIRED} at most.")


if __name__ == "__main__":
    main()
