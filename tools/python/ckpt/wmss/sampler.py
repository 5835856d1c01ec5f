"""Samplers for `torch.utils.data.DataLoader` that follow `ckpt.random.BatchOrder`: seed, round and step alone say what a batch is."""

from __future__ import annotations

from typing import Any, Callable, Iterator, Union

from numpy.typing import ArrayLike
from torch.utils.data import Sampler

from ..random import BatchOrder


class CurriculumBatchSampler(Sampler[list[int]]):
    """Batches of indices, for `DataLoader(batch_sampler=...)`. Each iteration is one pass of the round, from the step that comes
    next to the pass's end; the iteration after it is the next pass. The last batch of a pass is smaller, and never filled from the
    next.

    Args:
        weights: (n,) of all samples, as `curriculum_weights` makes them.
        batch_size: samples a step.
        select: "uniform", "v1", "v2", "code", "formula" or a callable: how a pass is made.
        seed: 0 ..< 2^64.
        round: of the loop, from 0.
        multiplier: draws in a pass over samples.
        start_step: of the round, from 0: with which the first iteration begins. A run that goes on gives the number of steps it has
            taken.
    """

    def __init__(
        self, weights: ArrayLike, batch_size: int, *, select: Union[str, Callable[..., Any]] = "code", seed: int, round: int = 0,
        multiplier: float = 1.0, start_step: int = 0,
    ) -> None:
        self._select, self._seed, self._multiplier, self.batch_size = select, seed, multiplier, batch_size
        # What accelerate and transformers ask batch samplers for.
        self.drop_last = False
        self.set_round(round, weights)
        if start_step < 0:
            raise ValueError(f"a start at step {start_step}")
        self.step = start_step

    def set_round(self, round: int, weights: ArrayLike) -> None:
        """Begins another round at its step 0."""
        self.order = BatchOrder(
            self._select, weights, multiplier=self._multiplier, seed=self._seed, round=round, batch_size=self.batch_size)
        self.step = 0

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of pass `epoch`, unless the step that comes next is within it."""
        if not self.order.steps(epoch) <= self.step < self.order.steps(epoch + 1):
            self.step = self.order.steps(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        batch = self.order.batch(self.step)
        for step in range(self.step, self.order.steps(batch.pass_ + 1)):
            samples = self.order.batch(step).samples.tolist()
            # Before it is given away: after a loop that is left early, the step that comes next is the one after the last given.
            self.step = step + 1
            yield samples

    def __len__(self) -> int:
        """Batches of the pass of the step that comes next, all of them."""
        pass_ = self.order.batch(self.step).pass_
        return self.order.steps(pass_ + 1) - self.order.steps(pass_)


class CurriculumSampler(Sampler[int]):
    """The same order one index after the other, for a `DataLoader` that makes batches itself. Its batches are those of
    `CurriculumBatchSampler` where the loader's batch size is `batch_size` and each iteration ends with a smaller batch."""

    def __init__(
        self, weights: ArrayLike, batch_size: int, *, select: Union[str, Callable[..., Any]] = "code", seed: int, round: int = 0,
        multiplier: float = 1.0, start_step: int = 0,
    ) -> None:
        self.batches = CurriculumBatchSampler(
            weights, batch_size, select=select, seed=seed, round=round, multiplier=multiplier, start_step=start_step)

    def set_round(self, round: int, weights: ArrayLike) -> None:
        """Begins another round at its step 0."""
        self.batches.set_round(round, weights)

    def set_epoch(self, epoch: int) -> None:
        """Goes to the start of pass `epoch`, unless the step that comes next is within it."""
        self.batches.set_epoch(epoch)

    def __iter__(self) -> Iterator[int]:
        for samples in self.batches:
            yield from samples

    def __len__(self) -> int:
        """Samples of the pass of the step that comes next, all of them."""
        order = self.batches.order
        return len(order.samples(order.batch(self.batches.step).pass_))
