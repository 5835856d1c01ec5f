"""Random numbers against format-spec/random/vectors.json, all of it, to the bit."""

from __future__ import annotations

import json
import pathlib
import time

import numpy as np
import pytest

from ckpt import random as numbers
from ckpt.wmss.curriculum import curriculum_weights

_FILE = pathlib.Path(__file__).resolve().parents[3] / "format-spec" / "random" / "vectors.json"


@pytest.fixture(scope="module")
def vectors():
    if not _FILE.exists():
        pytest.skip("outside a checkout")
    return json.loads(_FILE.read_text())


def test_known_answers_of_random123():
    assert [int(w) for w in numbers.philox((0, 0, 0, 0), (0, 0))] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    full = 2**32 - 1
    assert [int(w) for w in numbers.philox([full] * 4, (full, full))] == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]


def test_streams(vectors):
    for given in vectors["streams"]:
        def stream():
            return numbers.Stream(given["seed"], given["purpose"], given["round"], given["pass"])

        assert stream().words(10).tolist() == given["words"]
        assert stream().uniforms(7).tolist() == given["uniforms"]
        for bound, indices in given["indices"]:
            assert stream().indices([bound] * 6).tolist() == indices
        assert [stream().permutation(n).tolist() for n in (0, 1, 2, 3, 17, 100)] == given["permutations"]


def test_a_stream_goes_on_where_it_stopped(vectors):
    given = vectors["streams"][1]
    stream = numbers.Stream(given["seed"], given["purpose"], given["round"], given["pass"])
    words = [w for count in (1, 0, 3, 5, 1) for w in stream.words(count).tolist()]
    assert words == given["words"]


def test_the_block_counter_wraps():
    stream = numbers.Stream(5, numbers.DRAW)
    stream._position = 4 * (2**32 - 1)
    assert stream.words(8)[4:].tolist() == numbers.Stream(5, numbers.DRAW).words(4).tolist()


def test_orders(vectors):
    for given in vectors["orders"]:
        if given["select"] == "formula":
            weights = np.array(given["weights"])
        else:
            weights = curriculum_weights(given["weak"], given["strong"], given["select"], *given["coefficients"])
            assert weights.tolist() == given["weights"]
        order = numbers.BatchOrder(
            given["select"], weights, multiplier=given["multiplier"], seed=given["seed"], round=given["round"],
            batch_size=given["batch_size"])
        found = [order.batch(step) for step in range(len(given["batches"]))]
        assert [[b.pass_, b.place, b.samples.tolist()] for b in found] == given["batches"]
        assert order.steps(given["batches"][-1][0] + 1) == len(given["batches"])
        # A step alone, of an order that has looked at no other.
        fresh = numbers.BatchOrder(
            given["select"], weights, multiplier=given["multiplier"], seed=given["seed"], round=given["round"],
            batch_size=given["batch_size"])
        assert fresh.batch(len(given["batches"]) - 1).samples.tolist() == given["batches"][-1][2]


def test_rotations(vectors):
    torch = pytest.importorskip("torch")
    from ckpt.wmss.loss import rotation_sources

    for given in vectors["rotations"]:
        offset = numbers.rotation_offsets(given["vocabulary"], given["seed"], given["sample"], given["position"])
        assert int(offset) == given["offset"]
        if "sources" in given:
            sources = rotation_sources(given["vocabulary"], torch.tensor([given["target"]]), torch.tensor([given["offset"]]))
            assert sources[0].tolist() == given["sources"]
    many = numbers.rotation_offsets(11, 1, [1, 1, 2], [1, 2, 1])
    assert many.tolist() == [g["offset"] for g in vectors["rotations"] if g["vocabulary"] == 11]


def test_a_sample_of_weight_zero_is_never_drawn():
    draws = numbers.SampleDraw([0, 1, 0, 1e-9, 0]).indices(10_000, numbers.Stream(3, numbers.DRAW))
    assert set(draws.tolist()) <= {1, 3} and 1 in draws


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -1.0], [float("nan")], [float("inf")], [1e308, 1e308], [1e-310]])
def test_unusable_weights_are_refused(weights):
    with pytest.raises(ValueError):
        numbers.SampleDraw(weights)


@pytest.mark.parametrize("arguments", [
    {"select": "v3"}, {"select": "v2", "multiplier": 2}, {"select": "code", "multiplier": 0}, {"select": "code", "batch_size": 0}])
def test_orders_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError):
        numbers.BatchOrder(**{"weights": [1.0], "seed": 1, "batch_size": 1, **arguments})


@pytest.mark.parametrize("name", [(-1, 0), (2**64, 0), (0, 0, 2**32)])
def test_names_out_of_range_are_refused(name):
    with pytest.raises(ValueError):
        numbers.Stream(*name)


def test_a_million_takes_about_a_second():
    start = time.process_time()
    assert len(set(numbers.Stream(1, numbers.SHUFFLE).permutation(10**6).tolist())) == 10**6
    numbers.SampleDraw(np.ones(10**6)).indices(10**6, numbers.Stream(1, numbers.DRAW))
    # Generous: the machine may do something else beside it.
    assert time.process_time() - start < 5
