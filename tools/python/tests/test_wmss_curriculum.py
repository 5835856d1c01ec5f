"""Weights and samplers of the curriculum; their bits are compared with Swift's vectors in test_random.py."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ckpt.random import BatchOrder
from ckpt.wmss import CurriculumBatchSampler, CurriculumSampler, curriculum_weights

WEAK, STRONG = [1.0, 0.5, 2.0], [0.25, 0.75, 2.0]


def test_by_hand():
    assert curriculum_weights(WEAK, STRONG, "v1").tolist() == pytest.approx([0.1 + 0.8 * 0.75, 0.05 + 0.1 * 0.25, 0.2])
    assert curriculum_weights(WEAK, STRONG, "v2").tolist() == pytest.approx([0.1 * 0.75 + 0.8 * 0.25, 0.8 * 0.75 + 0.1 * 0.25, 1.6])
    assert curriculum_weights(WEAK, STRONG).tolist() == pytest.approx([0.1 / 3.5 + 0.8, 0.05 / 3.5 + 0.1, 0.2 / 3.5])
    assert curriculum_weights(WEAK, STRONG, "uniform").tolist() == [1, 1, 1]
    assert curriculum_weights(WEAK, STRONG, "v1", 1, 0, 0).tolist() == WEAK


def test_a_term_that_is_zero_everywhere_has_no_share():
    assert curriculum_weights([1.0, 3.0], [1.0, 3.0], "code").tolist() == [0.1 * 1.0 / 4, 0.1 * 3.0 / 4]


def test_a_callable():
    assert curriculum_weights(WEAK, STRONG, lambda w, s: np.maximum(w - s, 0)).tolist() == [0.75, 0, 0]
    assert curriculum_weights(None, STRONG, lambda w, s: s * (w is None)).tolist() == STRONG


@pytest.mark.parametrize("weak, strong, named, message", [
    ([1.0, None], [1.0, 1.0], {}, "sample 1: the weak model has no entropy"),
    ([1.0, 1.0], [float("nan"), 1.0], {"ids": ["a", "b"]}, "sample a: the strong model has no entropy"),
    ([1.0, 1.0], [1.0, float("inf")], {}, "sample 1: the strong model has an infinite entropy"),
    ([-0.1, 1.0], [1.0, 1.0], {}, "sample 0: the weak model has a negative entropy"),
    ([0.0, 0.0], [0.0, 0.0], {}, "sum 0.0: no sample has anything to teach"),
    ([1e308, 1e308], [1e308, 1e308], {"select": "v1", "a": 1.0}, "sum inf"),
    ([1.0, 1.0], [1.0, 1.0], {"select": lambda w, s: [1.0, -1.0]}, "sample 1: its weight is -1.0"),
    ([1.0, 1.0], [1.0, 1.0], {"select": lambda w, s: [1.0]}, "shape"),
    ([1.0], [1.0, 1.0], {}, "entropies"),
    ([], [], {}, "no samples"),
    ([1.0], None, {}, "both models"),
    ([1.0], [1.0], {"select": "v3"}, "v3"),
    ([1.0], [1.0], {"a": -1.0}, "coefficients"),
    ([1.0], [1.0], {"a": 0, "b": 0, "c": 0}, "coefficients"),
])
def test_refusals(weak, strong, named, message):
    with pytest.raises(ValueError, match=message):
        curriculum_weights(weak, strong, **named)


def order(select, **named):
    return BatchOrder(select, np.arange(1.0, 24.0), seed=7, batch_size=4, **named)


@pytest.mark.parametrize("select", ["uniform", "code", "v2"])
def test_batches_follow_the_order(select):
    sampler = CurriculumBatchSampler(np.arange(1.0, 24.0), 4, select=select, seed=7)
    expected = order(select)
    step = 0
    for pass_ in range(3):
        length = len(sampler)
        batches = list(torch.utils.data.DataLoader(range(23), batch_sampler=sampler))
        assert len(batches) == length
        for batch in batches:
            assert batch.tolist() == expected.batch(step).samples.tolist()
            assert expected.batch(step).pass_ == pass_
            step += 1
    assert len(batches[-1]) == len(expected.samples(2)) - 4 * (len(batches) - 1)


def test_it_goes_on_at_any_step():
    expected = order("v2")
    for start in range(12):
        sampler = CurriculumBatchSampler(np.arange(1.0, 24.0), 4, select="v2", seed=7, start_step=start)
        found = [*sampler, *sampler]
        assert found == [expected.batch(start + i).samples.tolist() for i in range(len(found))]


def test_a_loop_that_is_left_early_goes_on():
    sampler = CurriculumBatchSampler(np.arange(1.0, 24.0), 4, select="code", seed=7)
    first = next(iter(sampler))
    assert [first, *sampler] == [order("code").batch(i).samples.tolist() for i in range(6)]


def test_rounds_and_epochs():
    sampler = CurriculumBatchSampler(np.arange(1.0, 24.0), 4, select="code", seed=7)
    sampler.set_epoch(1)
    assert next(iter(sampler)) == order("code").batch(6).samples.tolist()
    sampler.set_epoch(1)  # which it is in
    assert sampler.step == 7
    sampler.set_round(1, np.ones(23))
    assert next(iter(sampler)) == BatchOrder("code", np.ones(23), seed=7, round=1, batch_size=4).batch(0).samples.tolist()


def test_one_index_after_the_other():
    sampler = CurriculumSampler(np.arange(1.0, 24.0), 4, select="uniform", seed=7, start_step=2)
    assert len(sampler) == 23
    loader = torch.utils.data.DataLoader(range(23), 4, sampler=sampler)
    assert [b.tolist() for b in loader] == [order("uniform").batch(i).samples.tolist() for i in range(2, 6)]
