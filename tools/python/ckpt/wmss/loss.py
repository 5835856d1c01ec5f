"""The loss of weak-driven training: cross-entropy of lambda z_strong + (1 - lambda) z_weak, without logits of all tokens.

`mixed_cross_entropy` goes through the tokens in chunks: it makes the logits of a chunk in buffers that every chunk shares,
turns them in place into softmax - e_y, and multiplies that at once into the gradients. No product of matrices is done twice,
and `backward` has nothing left to do but to scale. `reference_mixed_cross_entropy` is the same in plain PyTorch.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Optional, Union

import torch
import torch.nn.functional as F
from torch import Tensor

MIXES = ("weak", "temperature", "shuffled", "none")
WEAK_BRANCHES = ("joint", "frozen")

# Beyond these, larger products of matrices are hardly faster.
_CHUNK_BYTES = 512 << 20
_CHUNK_ROWS = 640
# Of the weak logits, so many rows of a chunk are held at a time where gradients do not need them.
_PART_ROWS = 128
# What is done to single numbers is done while they are in the cache; on a GPU fewer, larger kernels count for more.
_BLOCK_BYTES = {"cpu": 16 << 20, "cuda": 64 << 20}


@dataclasses.dataclass(frozen=True)
class MixStatistics:
    """Means over the supervised tokens, detached, each a tensor without dimensions."""

    probability: Tensor
    """Of the target under the mix."""
    probability_strong: Tensor
    """Of the target under the strong model alone."""


@dataclasses.dataclass(frozen=True)
class _Mix:
    """How two rows of logits become one."""

    strong: float
    weak: Optional[float]  # None: there is no weak model
    is_shuffled: bool
    scale: Optional[float]
    softcap: Optional[float]
    is_joint: bool

    @property
    def shares_gradient(self) -> bool:
        """Whether the gradients of both models' logits differ by a factor alone."""
        return self.softcap is None and not self.is_shuffled


def mixed_cross_entropy(
    hidden_strong: Tensor,
    head_strong: Tensor,
    hidden_weak: Optional[Tensor],
    head_weak: Optional[Tensor],
    targets: Tensor,
    *,
    lam: float = 0.5,
    bias_strong: Optional[Tensor] = None,
    bias_weak: Optional[Tensor] = None,
    weak_branch: str = "joint",
    mix: str = "weak",
    rotations: Optional[Tensor] = None,
    ignore_index: int = -100,
    denominator: Union[float, Tensor, None] = None,
    softcap: Optional[float] = None,
    scale: Optional[float] = None,
    chunk: Optional[int] = None,
    statistics: bool = False,
) -> Union[Tensor, tuple[Tensor, MixStatistics]]:
    """The sum over supervised tokens of -ln softmax(lam z_s + (1 - lam) z_w)[target], over `denominator`.

    A model's logits are z = cap(scale (hidden head^T + bias)), cap(x) = softcap tanh(x / softcap).

    Args:
        hidden_strong: (N, D) in float64, float32, bfloat16 or float16; row t predicts `targets[t]`.
        head_strong: (V, D). Where its dtype is not that of `hidden_strong`, the latter is cast to it; under autocast both are
            cast as `linear` does.
        hidden_weak, head_weak: (N, D_w) and (V, D_w), likewise; not looked at (may be None) where `mix` has no weak model.
        targets: (N,) integers below V, or `ignore_index`, whose rows are dropped first.
        lam: the strong model's share, in 0 ... 1. Of `mix="temperature"` the factor; of "none" not looked at.
        bias_strong, bias_weak: (V,).
        weak_branch: "joint" gives the weak model gradients, "frozen" does not.
        mix: "weak" as above; "temperature" lam z_s; "shuffled" as "weak" with the weak's logits rotated; "none" z_s.
        rotations: (N,) offsets in 1 ..< V - 1 as of `ckpt.random.rotation_offsets`, for `mix="shuffled"` alone.
        denominator: what the sum is divided by: the number of supervised tokens of the whole optimizer batch. Default: that of
            this call.
        softcap: `final_logit_softcapping` of the Gemmas.
        scale: `logit_scale` of Cohere, 1 / `logits_scaling` of Granite.
        chunk: tokens at a time; the default keeps logits near half a gigabyte at most.
        statistics: also return `MixStatistics`. Costs one more pass over the strong logits, no product of matrices.

    Returns:
        The loss, without dimensions: float64 of float64 heads, else float32 (softmax, logarithm and sums are in it). With
        `statistics`, a pair.

    Raises:
        ValueError: for arguments that do not fit together; where no target is supervised and no `denominator` is given. With one
            the loss of no tokens is 0, and its gradients are 0.

    Complexity: of time 6 N V D operations for each model that is trained, 2 N V D for one that is frozen; of memory beyond gradients
        chunk V numbers and a few rows, twice as many where the branches' gradients differ (joint with a softcap or shuffled). In bfloat16 and float16 head gradients are added up over chunks with 8 bits
        more than they have, which takes one byte for each of their elements. Gradients are made in the forward pass, so
        a call under `no_grad`, or with nothing that requires a gradient, is cheaper by two thirds. A second backward pass through
        the same loss (`retain_graph`) computes everything again.
    """
    how = _checked_mix(mix, lam, weak_branch, softcap, scale)
    if how.weak is None:
        hidden_weak, head_weak, bias_weak = None, None, None
    _check_shapes(hidden_strong, head_strong, hidden_weak, head_weak, targets, rotations, how)
    if chunk is not None and chunk < 1:
        raise ValueError(f"a chunk of {chunk} tokens")
    if not how.is_joint:
        hidden_weak, head_weak, bias_weak = (t if t is None else t.detach() for t in (hidden_weak, head_weak, bias_weak))

    hidden_strong, head_strong, bias_strong = _of_one_dtype(hidden_strong, head_strong, bias_strong)
    if hidden_weak is not None:
        hidden_weak, head_weak, bias_weak = _of_one_dtype(hidden_weak, head_weak, bias_weak)
    if not how.is_shuffled:
        rotations = None
    supervised = targets != ignore_index
    if not bool(supervised.all()):
        rows = supervised.nonzero()[:, 0]
        targets = targets.index_select(0, rows)
        rotations = None if rotations is None else rotations.index_select(0, rows)
        hidden_strong = hidden_strong.index_select(0, rows)
        hidden_weak = None if hidden_weak is None else hidden_weak.index_select(0, rows)
    if denominator is None:
        if targets.numel() == 0:
            raise ValueError("no supervised token, and no denominator: the mean of nothing")
        denominator = targets.numel()

    with torch.autocast(hidden_strong.device.type, enabled=False):
        loss, probability, probability_strong = _MixedCrossEntropy.apply(
            hidden_strong, head_strong, bias_strong, hidden_weak, head_weak, bias_weak,
            targets, rotations, denominator, how, chunk, statistics, torch.is_grad_enabled())
    return (loss, MixStatistics(probability, probability_strong)) if statistics else loss


class _MixedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden_strong, head_strong, bias_strong, hidden_weak, head_weak, bias_weak,
                targets, rotations, denominator, how, chunk, statistics, is_grad_enabled):
        tensors = (hidden_strong, head_strong, bias_strong, hidden_weak, head_weak, bias_weak, targets, rotations)
        ctx.wanted = tuple(is_grad_enabled and needed for needed in ctx.needs_input_grad[:6])
        ctx.denominator, ctx.how, ctx.chunk = denominator, how, chunk
        ctx.save_for_backward(*tensors)
        losses, losses_strong, ctx.gradients = _through_chunks(tensors, how, chunk, ctx.wanted, statistics)
        loss = (losses.sum(dtype=torch.float64) / denominator).to(losses.dtype)
        probability = losses.neg().exp().mean() if statistics else None
        probability_strong = losses_strong.neg().exp().mean() if statistics else None
        ctx.mark_non_differentiable(*(p for p in (probability, probability_strong) if p is not None))
        return loss, probability, probability_strong

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, of_loss, *_):
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:  # gone to the backward pass before this one
            _, _, gradients = _through_chunks(ctx.saved_tensors, ctx.how, ctx.chunk, ctx.wanted, False)
        # Gradients until here are of the plain sum: of a size that float16 holds, whatever the denominator.
        of_strong = of_loss * ((ctx.how.scale or 1.0) * ctx.how.strong) / ctx.denominator
        of_weak = of_loss * ((ctx.how.scale or 1.0) * (ctx.how.weak or 0.0)) / ctx.denominator
        for gradient, factor in zip(gradients, [of_strong] * 3 + [of_weak] * 3):
            if gradient is not None:
                gradient.mul_(factor)
        return (*gradients, *[None] * 7)


def _through_chunks(tensors, how: _Mix, chunk: Optional[int], wanted, statistics: bool):
    """Losses of all tokens, those of the strong model alone (with `statistics`), and the wanted gradients of the losses' sum,
    without the factors `lam` and `scale`."""
    hidden_strong, head_strong, bias_strong, hidden_weak, head_weak, bias_weak, targets, rotations = tensors
    count, vocabulary = targets.numel(), head_strong.shape[0]
    accurate = _accurate(head_strong.dtype)
    wants_strong, wants_weak = any(wanted[:3]), any(wanted[3:])
    keeps_weak = wants_weak and not how.shares_gradient

    if chunk is None:
        chunk = _default_chunk(count, vocabulary * (head_strong.element_size() + (head_weak.element_size() if keeps_weak else 0)))
    chunk = max(1, min(chunk, count))
    part = chunk if keeps_weak else min(chunk, _PART_ROWS)
    block = max(1, _block_bytes(targets.device) // (vocabulary * accurate.itemsize))
    strong_buffer = head_strong.new_empty(chunk, vocabulary)
    weak_buffer = None if head_weak is None else head_weak.new_empty(part, vocabulary)

    losses = torch.empty(count, dtype=accurate, device=targets.device)
    losses_strong = torch.empty_like(losses) if statistics else None
    of_hidden_strong = torch.empty_like(hidden_strong) if wanted[0] else None
    of_hidden_weak = torch.empty_like(hidden_weak) if wanted[3] else None
    of_head_strong = _RunningProduct(head_strong) if wanted[1] else None
    of_head_weak = _RunningProduct(head_weak) if wanted[4] else None
    of_bias_strong = torch.zeros(vocabulary, dtype=accurate, device=targets.device) if wanted[2] else None
    of_bias_weak = torch.zeros(vocabulary, dtype=accurate, device=targets.device) if wanted[5] else None

    for first in range(0, count, chunk):
        tokens = slice(first, min(first + chunk, count))
        strong = strong_buffer[:tokens.stop - first]
        torch.mm(hidden_strong[tokens], head_strong.t(), out=strong)
        for part_first in range(first, tokens.stop, part):
            part_end = min(part_first + part, tokens.stop)
            if weak_buffer is not None:
                torch.mm(hidden_weak[part_first:part_end], head_weak.t(), out=weak_buffer[:part_end - part_first])
            for start in range(part_first, part_end, block):
                rows = slice(start, min(start + block, part_end))
                strong_rows = strong[start - first:rows.stop - first]
                weak_rows = None if weak_buffer is None else weak_buffer[start - part_first:rows.stop - part_first]
                _mix_rows(
                    strong_rows, weak_rows, bias_strong, bias_weak, targets[rows],
                    None if rotations is None else rotations[rows], how, losses[rows],
                    None if losses_strong is None else losses_strong[rows], wants_strong or wants_weak, keeps_weak)
        weak = weak_buffer[:strong.shape[0]] if keeps_weak else strong
        for wants, gradient, hidden, head, of_hidden, of_head, of_bias in (
            (wants_strong, strong, hidden_strong, head_strong, of_hidden_strong, of_head_strong, of_bias_strong),
            (wants_weak, weak, hidden_weak, head_weak, of_hidden_weak, of_head_weak, of_bias_weak),
        ):
            if not wants:
                continue
            # Only a weak model of another dtype makes this a copy.
            gradient = gradient.to(head.dtype)
            if of_hidden is not None:
                torch.mm(gradient, head, out=of_hidden[tokens])
            if of_head is not None:
                of_head.add(gradient, hidden[tokens])
            if of_bias is not None:
                of_bias += gradient.sum(0, dtype=accurate)

    return losses, losses_strong, [
        of_hidden_strong,
        None if of_head_strong is None else of_head_strong.total,
        None if of_bias_strong is None else of_bias_strong.to(bias_strong.dtype),
        of_hidden_weak,
        None if of_head_weak is None else of_head_weak.total,
        None if of_bias_weak is None else of_bias_weak.to(bias_weak.dtype),
    ]


def _mix_rows(strong, weak, bias_strong, bias_weak, targets, rotations, how: _Mix, losses, losses_strong, wants: bool, keeps_weak: bool):
    """Losses of a few rows of products hidden head^T; the rows become softmax - e_y, through the caps, if `wants`.

    Of two models whose gradients are alike but for a factor, `strong` gets it and `weak` is left as it happens to be.
    """
    accurate = losses.dtype
    place = targets[:, None]
    # Of double and single precision these are the buffers themselves.
    z_strong = _logits(strong.to(accurate), bias_strong, how)
    if losses_strong is not None:
        losses_strong.copy_(torch.logsumexp(z_strong, 1) - z_strong.gather(1, place)[:, 0])
    z_weak = None if weak is None else _logits(weak.to(accurate), bias_weak, how)
    rotated = z_weak if rotations is None else _rotated(z_weak, targets, rotations)

    # The caps' slopes need the logits again.
    is_capped = how.softcap is not None and wants
    mixed = z_strong * how.strong if is_capped else z_strong.mul_(how.strong)
    if weak is not None:
        mixed.add_(rotated, alpha=how.weak)
    most = mixed.amax(1, keepdim=True)
    of_target = mixed.gather(1, place)
    total = mixed.sub_(most).exp_().sum(1, keepdim=True)
    losses.copy_((total.log() + (most - of_target))[:, 0])
    if not wants:
        return
    gradient = mixed.div_(total)
    gradient.scatter_add_(1, place, gradient.new_full((1, 1), -1.0).expand_as(place))
    if keeps_weak:
        of_weak = gradient if rotations is None else _rotated(gradient, targets, gradient.shape[1] - 1 - rotations)
        if is_capped:
            of_weak = of_weak * _cap_slope(z_weak, how.softcap)
        weak.copy_(of_weak)
    if is_capped:
        gradient = gradient.mul_(_cap_slope(z_strong, how.softcap))
    if gradient.data_ptr() != strong.data_ptr():
        strong.copy_(gradient)


def _logits(products: Tensor, bias: Optional[Tensor], how: _Mix) -> Tensor:
    """In place."""
    if bias is not None:
        products.add_(bias)
    if how.scale is not None:
        products.mul_(how.scale)
    if how.softcap is not None:
        products.div_(how.softcap).tanh_().mul_(how.softcap)
    return products


def _cap_slope(capped: Tensor, softcap: float) -> Tensor:
    """The derivative of cap(x) where `capped` is cap(x)."""
    return (capped / softcap).square_().neg_().add_(1)


def _rotated(rows: Tensor, targets: Tensor, offsets: Tensor) -> Tensor:
    """A copy with the numbers that are not the target's turned to the left by the row's offset; turning by V - 1 less the offset
    undoes it. Slices of one row after the other, as indices would be twice as large as the rows."""
    turned = torch.empty_like(rows)
    for row, new, target, offset in zip(rows, turned, targets.tolist(), offsets.tolist()):
        others = torch.cat((row[:target], row[target + 1:]))
        others = torch.cat((others[offset:], others[:offset]))
        new[:target] = others[:target]
        new[target] = row[target]
        new[target + 1:] = others[target:]
    return turned


class _RunningProduct:
    """The sum over chunks of gradient^T hidden, in the head's dtype.

    In bfloat16 and float16 the sum would lose a little with every chunk. So what rounding took from each element is kept beside
    it, in 127ths of the most that rounding can take: the sum has 8 bits more than its dtype, for one byte an element.
    """

    def __init__(self, head: Tensor) -> None:
        self._total = torch.empty_like(head, memory_format=torch.contiguous_format)
        self._is_empty = True
        self._rounded_off: Optional[Tensor] = None
        self._block_rows = max(1, _block_bytes(head.device) // (8 * head.shape[1]))
        self._is_exact = head.dtype in (torch.float32, torch.float64)
        # What rounding takes is at most half of eps, relative to the number.
        self._unit = 1.0 if self._is_exact else torch.finfo(head.dtype).eps / 2 / 127

    @property
    def total(self) -> Tensor:
        """(V, D)"""
        return self._total.zero_() if self._is_empty else self._total

    def add(self, gradient: Tensor, hidden: Tensor) -> None:
        """Of (n, V) and (n, D)."""
        if self._is_empty:
            torch.mm(gradient.t(), hidden, out=self._total)
            self._is_empty = False
        elif self._is_exact:
            self._total.addmm_(gradient.t(), hidden)
        else:
            if self._rounded_off is None:
                self._rounded_off = torch.zeros_like(self._total, dtype=torch.int8)
            for first in range(0, self._total.shape[0], self._block_rows):
                block = slice(first, first + self._block_rows)
                self._add_rounded(self._total[block], self._rounded_off[block], torch.mm(gradient[:, block].t(), hidden))

    def _add_rounded(self, total: Tensor, rounded_off: Tensor, product: Tensor) -> None:
        kept = total.float()
        exact = torch.addcmul(kept, kept, rounded_off.float(), value=self._unit).add_(product)
        total.copy_(exact)
        kept.copy_(total)
        # Nothing over nothing is to be 0; no other quotient notices.
        lost = exact.sub_(kept).div_(kept.mul_(self._unit).add_(1e-38))
        rounded_off.copy_(lost.clamp_(-127, 127).round_())


def reference_mixed_cross_entropy(
    hidden_strong: Tensor,
    head_strong: Tensor,
    hidden_weak: Optional[Tensor],
    head_weak: Optional[Tensor],
    targets: Tensor,
    *,
    lam: float = 0.5,
    bias_strong: Optional[Tensor] = None,
    bias_weak: Optional[Tensor] = None,
    weak_branch: str = "joint",
    mix: str = "weak",
    rotations: Optional[Tensor] = None,
    ignore_index: int = -100,
    denominator: Union[float, Tensor, None] = None,
    softcap: Optional[float] = None,
    scale: Optional[float] = None,
) -> Tensor:
    """`mixed_cross_entropy` by full logits and PyTorch's own gradients: what the other is compared with.

    Complexity: of memory several times N V numbers.
    """

    def logits(hidden: Tensor, head: Tensor, bias: Optional[Tensor]) -> Tensor:
        z = F.linear(hidden.to(head.dtype), head).to(_accurate(head.dtype))
        z = z if bias is None else z + bias
        z = z if scale is None else z * scale
        return z if softcap is None else softcap * torch.tanh(z / softcap)

    z = logits(hidden_strong, head_strong, bias_strong)
    if mix == "temperature":
        z = lam * z
    elif mix != "none":
        z_weak = logits(hidden_weak, head_weak, bias_weak)
        if weak_branch == "frozen":
            z_weak = z_weak.detach()
        if mix == "shuffled":
            z_weak = z_weak.gather(1, rotation_sources(z.shape[1], targets.clamp(min=0), rotations))
        z = lam * z + (1 - lam) * z_weak
    total = F.cross_entropy(z, targets, ignore_index=ignore_index, reduction="sum")
    return total / ((targets != ignore_index).sum() if denominator is None else denominator)


def rotation_sources(vocabulary: int, targets: Tensor, offsets: Tensor) -> Tensor:
    """For each token the one whose logit it gets in `mix="shuffled"`, as `format-spec/random.md` has it.

    Args:
        targets: (N,).
        offsets: (N,), in 1 ..< vocabulary - 1.

    Returns:
        (N, vocabulary) int64.
    """
    tokens = torch.arange(vocabulary, device=targets.device)[None]
    targets = targets[:, None]
    rank = tokens - (tokens > targets).long()
    turned = (rank + offsets[:, None]) % (vocabulary - 1)
    return torch.where(tokens == targets, targets, turned + (turned >= targets).long())


def _accurate(dtype: torch.dtype) -> torch.dtype:
    """What softmax, logarithm and sums are in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _block_bytes(device: torch.device) -> int:
    return _BLOCK_BYTES.get(device.type, _BLOCK_BYTES["cuda"])


def _default_chunk(count: int, row_bytes: int) -> int:
    """Chunks of equal size, none above the limits."""
    most = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // row_bytes))
    return math.ceil(count / max(1, math.ceil(count / most)))


def _of_one_dtype(hidden: Tensor, head: Tensor, bias: Optional[Tensor]) -> tuple[Tensor, Tensor, Optional[Tensor]]:
    device = head.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.dtype
    if head.dtype == torch.float64:
        dtype = head.dtype
    return hidden.to(dtype), head.to(dtype), bias


def _checked_mix(mix: str, lam: float, weak_branch: str, softcap: Optional[float], scale: Optional[float]) -> _Mix:
    if mix not in MIXES:
        raise ValueError(f"mix={mix!r}: one of {', '.join(MIXES)}")
    if weak_branch not in WEAK_BRANCHES:
        raise ValueError(f"weak_branch={weak_branch!r}: one of {', '.join(WEAK_BRANCHES)}")
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam}: from 0 to 1")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap={softcap}: above zero")
    has_weak = mix in ("weak", "shuffled")
    return _Mix(
        strong=1.0 if mix == "none" else lam, weak=1 - lam if has_weak else None, is_shuffled=mix == "shuffled",
        scale=scale, softcap=softcap, is_joint=weak_branch == "joint")


def _check_shapes(hidden_strong, head_strong, hidden_weak, head_weak, targets, rotations, how: _Mix) -> None:
    def check(hidden: Tensor, head: Tensor, which: str) -> None:
        if hidden.dim() != 2 or head.dim() != 2 or hidden.shape[1] != head.shape[1] or hidden.shape[0] != targets.numel():
            raise ValueError(
                f"{which}: hidden {tuple(hidden.shape)} and head {tuple(head.shape)} for {targets.numel()} targets")

    if targets.dim() != 1:
        raise ValueError(f"targets have the shape {tuple(targets.shape)}, not (N,)")
    check(hidden_strong, head_strong, "strong")
    if how.weak is not None:
        if hidden_weak is None or head_weak is None:
            raise ValueError("this mix needs hidden_weak and head_weak")
        check(hidden_weak, head_weak, "weak")
        if head_weak.shape[0] != head_strong.shape[0]:
            raise ValueError(f"vocabularies of {head_strong.shape[0]} and {head_weak.shape[0]} tokens cannot be mixed")
    if how.is_shuffled:
        if rotations is None or rotations.shape != targets.shape:
            raise ValueError("mix='shuffled' needs a rotation for each target")
        if head_strong.shape[0] < 3:
            raise ValueError("logits of fewer than three tokens cannot be rotated")
