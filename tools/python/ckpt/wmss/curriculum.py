"""Weights by which samples are drawn, from what a weak and a strong model are unsure of."""

from __future__ import annotations

from typing import Callable, Optional, Sequence, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..random import is_usable

Formula = Callable[[Optional[NDArray[np.float64]], Optional[NDArray[np.float64]]], ArrayLike]


def curriculum_weights(
    weak: Optional[Sequence[Optional[float]]],
    strong: Optional[Sequence[Optional[float]]],
    select: Union[str, Formula] = "code",
    a: float = 0.1,
    b: float = 0.8,
    c: float = 0.1,
    *,
    ids: Optional[Sequence[object]] = None,
) -> NDArray[np.float64]:
    """Of each sample, to the bit of `format-spec/random.md`, with dH = strong - weak and [x]+ = max(x, 0):

    - "uniform": 1
    - "v1": a weak + b [-dH]+ + c [dH]+
    - "v2": a [-dH]+ + b strong + c [dH]+
    - "code": each of v1's terms over its sum over all samples
    - a callable: what it returns for the two arrays.

    Args:
        weak, strong: (n,) mean entropies in nats per token. "uniform" does not look at their values; for a callable either may be
            None as a whole, and is then passed so.
        a, b, c: finite, not negative, not all zero.
        ids: of the samples, for errors; their places otherwise.

    Returns:
        (n,) float64, finite, not negative, of a sum above zero.

    Raises:
        ValueError: for an entropy or a weight that is missing (None or NaN), infinite or negative, with the sample's name; for a sum
            that is zero or too large; for entropies of different numbers of samples.

    Complexity: O(n).
    """
    coefficients = np.array([a, b, c], np.float64)
    if not (np.isfinite(coefficients) & (coefficients >= 0)).all() or not coefficients.any():
        raise ValueError(f"coefficients {a}, {b}, {c}: each is zero or more, and not all are zero")
    given = [entropies for entropies in (weak, strong) if entropies is not None]
    if not given or len(given[0]) == 0:
        raise ValueError("no samples to draw from")
    count = len(given[0])
    if any(len(entropies) != count for entropies in given) or (ids is not None and len(ids) != count):
        raise ValueError(f"{[len(entropies) for entropies in given]} entropies and {count if ids is None else len(ids)} samples")
    names = range(count) if ids is None else ids

    if callable(select):
        checked = (h if h is None else _checked(h, names, which) for h, which in ((weak, "weak"), (strong, "strong")))
        weights = np.asarray(select(*checked), np.float64)
        if weights.shape != (count,):
            raise ValueError(f"weights of the shape {weights.shape} for {count} samples")
    elif select == "uniform":
        weights = np.ones(count)
    elif select in ("v1", "v2", "code"):
        if weak is None or strong is None:
            raise ValueError(f"select={select!r} needs the entropies of both models")
        weights = _by_name(select, _checked(weak, names, "weak"), _checked(strong, names, "strong"), a, b, c)
    else:
        raise ValueError(f"select={select!r}: uniform, v1, v2, code or a callable")

    usable = np.isfinite(weights) & (weights >= 0)
    if not usable.all():
        place = int(np.argmin(usable))
        raise ValueError(f"sample {names[place]}: its weight is {weights[place]}; weights are finite and not negative")
    total = _added(weights)
    if not is_usable(total):
        hint = "no sample has anything to teach: another weak model, or select='uniform'" if total == 0 else "weights nearer to one"
        raise ValueError(f"the weights of all {count} samples have the sum {total}: {hint}")
    return weights


def _by_name(select: str, weak: NDArray[np.float64], strong: NDArray[np.float64], a: float, b: float, c: float) -> NDArray[np.float64]:
    """Each operation rounded by itself, from the left, as Swift has them."""
    difference = strong - weak
    surer, less_sure = _positive(-difference), _positive(difference)
    if select == "v1":
        return (a * weak + b * surer) + c * less_sure
    if select == "v2":
        return (a * surer + b * strong) + c * less_sure
    shares = []
    for factor, term in ((a, weak), (b, surer), (c, less_sure)):
        total = _added(term)
        # A term that is zero everywhere has no share to give.
        shares.append(factor * term / total if total > 0 else term)
    return (shares[0] + shares[1]) + shares[2]


def _positive(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(x < 0, 0.0, x)


def _added(values: NDArray[np.float64]) -> float:
    """From the first to the last; np.sum adds in pairs and gives other bits."""
    with np.errstate(over="ignore"):  # a sum that is too large is told by name
        return float(np.add.accumulate(values)[-1])


def _checked(entropies: Sequence[Optional[float]], names: Sequence[object], which: str) -> NDArray[np.float64]:
    values = np.array([np.nan if entropy is None else entropy for entropy in entropies], np.float64)
    for wrong, reason in (
        (np.isnan(values), "has no entropy"), (~np.isfinite(values), "has an infinite entropy"), (values < 0, "has a negative entropy")
    ):
        if wrong.any():
            raise ValueError(f"sample {names[int(np.argmax(wrong))]}: the {which} model {reason}")
    return values
