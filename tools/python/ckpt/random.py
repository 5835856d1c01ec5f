"""The random numbers of ckpt and what is drawn by them, to the bit of `format-spec/random.md`: which samples a round trains on, in
which order, and how far a shuffled weak model's logits are rotated. Swift's WeakTraining gives the same lists.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from typing import Any, Callable, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAW, SHUFFLE, WEIGHTS, GENERATE, ROTATE = range(5)
"""Purposes of streams."""

_MASK = 2**32 - 1


def philox(counter: Sequence[ArrayLike], key: tuple[int, int]) -> tuple[NDArray[np.uint64], ...]:
    """Philox 4x32-10.

    Args:
        counter: c0 to c3, words of 32 bits: each a number or an array, of shapes that broadcast.
        key: k0 and k1.

    Returns:
        Four arrays of words, uint64 with values below 2^32.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in counter))
    k0, k1 = key
    half, mask = np.uint64(32), np.uint64(_MASK)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ np.uint64(k0), b & mask, (a >> half) ^ c3 ^ np.uint64(k1), a & mask
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


class Stream:
    """The words of one name, one after the other; each call goes on where the one before stopped.

    Args:
        seed: 0 ..< 2^64.
        purpose, round, pass_: 0 ..< 2^32.
    """

    def __init__(self, seed: int, purpose: int, round: int = 0, pass_: int = 0) -> None:
        _check_range("seed", seed, 64)
        for name, value in (("purpose", purpose), ("round", round), ("pass", pass_)):
            _check_range(name, value, 32)
        self._key = (seed & _MASK, seed >> 32)
        self._name = (purpose, round, pass_)
        self._position = 0

    def words(self, count: int) -> NDArray[np.uint64]:
        """(count,) uint64, each below 2^32."""
        first, skipped = divmod(self._position, 4)
        self._position += count
        blocks = np.arange(first, -(-self._position // 4), dtype=np.uint64) & np.uint64(_MASK)
        words = np.stack(philox((blocks, *self._name), self._key), axis=1).reshape(-1)
        return words[skipped:skipped + count]

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """(count,) float64 in 0 ..< 1. Two words each."""
        pairs = self.words(2 * count).reshape(count, 2)
        return _uniform(pairs[:, 0], pairs[:, 1])

    def indices(self, bounds: ArrayLike) -> NDArray[np.int64]:
        """An index below each of `bounds`, which are 1 ... 2^53: int64, of their shape (n,). One uniform each."""
        bounds = np.atleast_1d(np.asarray(bounds, np.int64))
        return _index(self.uniforms(bounds.size), bounds)

    def permutation(self, count: int) -> NDArray[np.int64]:
        """0 ..< count in another order: (count,) int64.

        Complexity: O(count), under a second for a million.
        """
        places = np.arange(count - 1, 0, -1)
        order = list(range(count))
        for place, other in zip(places.tolist(), self.indices(places + 1).tolist()):
            order[place], order[other] = order[other], order[place]
        return np.array(order, np.int64)


def rotation_offsets(vocabulary: int, seed: int, samples: ArrayLike, positions: ArrayLike) -> NDArray[np.int64]:
    """How far logits that are not the target's are rotated, in 1 ..< vocabulary - 1.

    Args:
        vocabulary: at least 3.
        samples: places of the samples among all.
        positions: of the targets among the sample's tokens, of a shape that broadcasts with `samples`.

    Complexity: O(1) each, all at once.
    """
    if vocabulary < 3:
        raise ValueError(f"logits of {vocabulary} tokens cannot be rotated: at least 3")
    _check_range("seed", seed, 64)
    words = philox((0, ROTATE, samples, positions), (seed & _MASK, seed >> 32))
    return 1 + _index(_uniform(words[0], words[1]), vocabulary - 2)


def is_usable(total: float) -> bool:
    """Whether samples can be drawn by weights of this sum: it is finite and above the least normal double, so that every uniform
    number times it stays below it."""
    return math.isfinite(total) and total > sys.float_info.min


class SampleDraw:
    """Samples drawn with replacement, each as often as its share of the weights.

    Args:
        weights: (n,) at least one, finite, not negative, of a sum that `is_usable`.
    """

    def __init__(self, weights: ArrayLike) -> None:
        weights = np.asarray(weights, np.float64)
        if weights.ndim != 1 or weights.size == 0:
            raise ValueError(f"weights of the shape {weights.shape}")
        if not (np.isfinite(weights) & (weights >= 0)).all():
            place = int(np.argmin(np.isfinite(weights) & (weights >= 0)))
            raise ValueError(f"sample {place}: a weight of {weights[place]}")
        # Added from the first to the last, which is what accumulate does and np.sum does not.
        with np.errstate(over="ignore"):
            self._prefix = np.add.accumulate(weights)
        if not is_usable(float(self._prefix[-1])):
            raise ValueError(f"weights of the sum {self._prefix[-1]}")

    def indices(self, count: int, stream: Stream) -> NDArray[np.int64]:
        """(count,) int64: each the first whose prefix sum is above a uniform number times the whole.

        Complexity: O(count log n).
        """
        wanted = stream.uniforms(count) * self._prefix[-1]
        return np.searchsorted(self._prefix, wanted, side="right").astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Batch:
    """What one step trains on."""

    pass_: int
    place: int
    """Which of the pass's batches."""
    samples: NDArray[np.int64]
    """Places among all samples: from one to the batch size; one that was drawn again is there again."""


class BatchOrder:
    """Which samples a round trains on, in which order. Any step's batch can be had by its number alone, so that a run that goes on
    after a stop needs to keep nothing but the step.

    Args:
        select: "uniform", "v1", "v2", "code", "formula", or a callable, which is the same as "formula": how a pass is made.
        weights: (n,) as `curriculum_weights` makes them; of "uniform" their number alone counts.
        multiplier: draws in a pass over samples, rounded to a whole number of draws, halves up, at least one; 1 for "uniform" and
            "v2".
        round: of the loop, from 0.
        batch_size: samples a step, at least 1.
    """

    def __init__(
        self, select: Union[str, Callable[..., Any]], weights: ArrayLike, *, multiplier: float = 1.0, seed: int, round: int = 0,
        batch_size: int,
    ) -> None:
        if callable(select):
            select = "formula"
        if select not in ("uniform", "v1", "v2", "code", "formula"):
            raise ValueError(f"select={select!r}: uniform, v1, v2, code, formula or a callable")
        if batch_size < 1:
            raise ValueError(f"a batch size of {batch_size}")
        if not (multiplier > 0 and math.isfinite(multiplier)) or (multiplier != 1 and select in ("uniform", "v2")):
            raise ValueError(f"a multiplier of {multiplier} for {select}")
        self.select, self.seed, self.round, self.batch_size = select, seed, round, batch_size
        self._draw = SampleDraw(weights)
        self._count = np.size(weights)
        exact = self._count * multiplier
        self._draws = max(1, math.floor(exact) + (exact - math.floor(exact) >= 0.5))
        # First step of each pass that was looked at, and of the one after them.
        self._starts = [0]
        self._latest: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def samples(self, pass_: int) -> NDArray[np.int64]:
        """(draws,) int64: the samples of a pass in the order of training.

        Complexity: O(draws log n); the pass that was made last is kept.
        """
        if self._latest[0] != pass_:
            self._latest = (pass_, self._made(pass_))
        return self._latest[1]

    def batch(self, step: int) -> Batch:
        """Of step `step`, counted from 0 at the start of the round.

        Complexity: O(batch size) within the pass of the call before; else that of a pass, for "v2" of every pass up to it.
        """
        if step < 0:
            raise IndexError(f"step {step}")
        while self._starts[-1] <= step:
            self._add_pass()
        # No pass is empty, so starts rise.
        pass_ = int(np.searchsorted(self._starts, step, side="right")) - 1
        place = step - self._starts[pass_]
        first = place * self.batch_size
        return Batch(pass_, place, self.samples(pass_)[first:first + self.batch_size])

    def steps(self, passes: int) -> int:
        """Of the first `passes` passes.

        Complexity: O(passes); of "v2" that of making every one of them.
        """
        while len(self._starts) <= passes:
            self._add_pass()
        return self._starts[passes]

    def _add_pass(self) -> None:
        pass_ = len(self._starts) - 1
        count = {"uniform": self._count, "v2": None}.get(self.select, self._draws)
        if count is None:
            count = len(self.samples(pass_))
        self._starts.append(self._starts[pass_] + -(-count // self.batch_size))

    def _made(self, pass_: int) -> NDArray[np.int64]:
        drawing = Stream(self.seed, DRAW, self.round, pass_)
        shuffling = Stream(self.seed, SHUFFLE, self.round, pass_)
        if self.select == "uniform":
            return shuffling.permutation(self._count)
        drawn = self._draw.indices(self._draws, drawing)
        if self.select != "v2":
            return drawn
        _, first = np.unique(drawn, return_index=True)
        kept = drawn[np.sort(first)]
        return kept[shuffling.permutation(len(kept))]


def _uniform(x: NDArray[np.uint64], y: NDArray[np.uint64]) -> NDArray[np.float64]:
    high, low = (x >> np.uint64(5)).astype(np.float64), (y >> np.uint64(6)).astype(np.float64)
    return (high * 2.0**26 + low) / 2.0**53


def _index(uniforms: NDArray[np.float64], bounds: ArrayLike) -> NDArray[np.int64]:
    bounds = np.asarray(bounds, np.int64)
    return np.minimum((uniforms * bounds).astype(np.int64), bounds - 1)


def _check_range(name: str, value: int, bits: int) -> None:
    if not 0 <= value < 2**bits:
        raise ValueError(f"{name} {value}: not in 0 ..< 2^{bits}")
