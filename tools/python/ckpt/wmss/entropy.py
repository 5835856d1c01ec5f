"""How unsure a model is of each sample: entropy and negative log-likelihood of its supervised tokens."""

from __future__ import annotations

import dataclasses
from typing import Any, Callable, Iterable, Mapping, Optional, Union

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .head import SplitModel, split_model

# Logits that are made at a time, and those that are worked on while they are in the cache.
_CHUNK_BYTES = 128 << 20
_BLOCK_BYTES = 4 << 20
_EXAMPLE_TOKENS = 8


@dataclasses.dataclass(frozen=True)
class Entropies:
    """Of n samples, in the order in which they were given, with `total` supervised tokens in all. Nats per token."""

    entropy: NDArray[np.float64]
    """(n,) means over the sample's supervised tokens."""
    nll: NDArray[np.float64]
    """(n,) means of -ln P(token)."""
    offsets: NDArray[np.int64]
    """(n + 1,): sample i has the tokens offsets[i] ..< offsets[i + 1] of the arrays below."""
    token_entropy: NDArray[np.float32]
    """(total,)"""
    token_nll: NDArray[np.float32]
    """(total,)"""
    token_top1: NDArray[np.uint32]
    """(total,) the likeliest token."""

    def __len__(self) -> int:
        return len(self.entropy)

    def columns(self, sample: int) -> dict[str, NDArray[Any]]:
        """The columns of sample `sample` in an entropy record: entropy and nll, float32, and top1, uint32, each (tokens,)."""
        tokens = slice(self.offsets[sample], self.offsets[sample + 1])
        return {"entropy": self.token_entropy[tokens], "nll": self.token_nll[tokens], "top1": self.token_top1[tokens]}


@torch.no_grad()
def entropies(
    model: nn.Module,
    loader: Iterable[Mapping[str, Any]],
    *,
    device: Union[torch.device, str, None] = None,
    chunk: Optional[int] = None,
    progress: Optional[Callable[[int], None]] = None,
) -> Entropies:
    """Entropy, negative log-likelihood and likeliest token of the distribution that *predicts* each supervised token: the one at
    the position before it.

    Softmax and logarithm are in float32 of logits in the head's dtype (float64 of float64), sums over the vocabulary and the
    tokens in float64. Logits are made of supervised tokens alone, `chunk` at a time, from the model's last hidden states. A
    model that `split_model` cannot take apart is asked for its logits instead, which takes batch x tokens x vocabulary.

    Args:
        model: a causal language model of transformers, with PEFT around it or not. It is put into eval mode, and back.
        loader: gives batches of one sample a row: input_ids, labels (-100: not supervised; not shifted), attention_mask and
            whatever else the model takes. A label in the first column has nothing that predicts it, and does not count.
        device: where batches are moved; default: where the model's first parameter is.
        chunk: tokens at a time; the default keeps logits under 128 MiB.
        progress: called after each batch with the number of samples done so far.

    Raises:
        ValueError: for a sample without a supervised token, by its place.

    Complexity: a forward pass for each batch; memory beyond it O(chunk vocabulary).
    """
    device = device or next(model.parameters()).device
    was_training = [module for module in model.modules() if module.training]
    model.eval()
    split: Optional[SplitModel] = None
    is_split = False
    counts: list[int] = []
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    try:
        for batch in loader:
            batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in batch.items()}
            if not is_split:
                split, is_split = split_model(model, batch["input_ids"][:1, :_EXAMPLE_TOKENS]), True
            labels = batch["labels"][:, 1:]
            supervised = labels != -100
            in_rows = supervised.sum(1).tolist()
            if 0 in in_rows:
                raise ValueError(f"sample {len(counts) + in_rows.index(0)}: no supervised token")
            counts += in_rows
            if split is None:
                inputs = {name: value for name, value in batch.items() if name != "labels"}
                source = model(**inputs).logits[:, :-1][supervised]
            else:
                source = split.hidden(batch)[:, :-1][supervised]
            found.append(_scores(source, labels[supervised], split, chunk))
            if progress is not None:
                progress(len(counts))
    finally:
        for module in was_training:
            module.training = True
    if not counts:
        raise ValueError("no samples")
    entropy, nll, top1 = (torch.cat(column).numpy() for column in zip(*found))
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    return Entropies(
        np.add.reduceat(entropy, offsets[:-1]) / counts, np.add.reduceat(nll, offsets[:-1]) / counts, offsets,
        entropy.astype(np.float32), nll.astype(np.float32), top1.astype(np.uint32))


def _scores(source: Tensor, targets: Tensor, split: Optional[SplitModel], chunk: Optional[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Entropy and nll (float64) and likeliest token (int64) of rows of hidden states, or of logits where there is no split."""
    vocabulary = source.shape[1] if split is None else split.weight.shape[0]
    chunk = chunk or max(1, _CHUNK_BYTES // (4 * vocabulary))
    block = max(1, _BLOCK_BYTES // (4 * vocabulary))
    entropy = torch.empty(len(targets), dtype=torch.float64, device=source.device)
    nll, top1 = torch.empty_like(entropy), torch.empty_like(targets)
    for first in range(0, len(targets), chunk):
        rows = source[first:first + chunk]
        logits = rows.to(torch.promote_types(rows.dtype, torch.float32)) if split is None else split.logits(rows)
        for start in range(0, len(logits), block):
            part = slice(first + start, first + min(start + block, len(logits)))
            # A copy: the likeliest becomes 0, and the rest of the sums follow from what is below it.
            z = logits[start:start + block]
            most, top1[part] = z.max(1)
            z = z - most[:, None]
            of_target = z.gather(1, targets[part, None])[:, 0].double()
            # Of a token that is ruled out, 0 times minus infinity is to be 0.
            z.clamp_(min=torch.finfo(z.dtype).min)
            e = z.exp()
            total = e.sum(1, dtype=torch.float64)
            entropy[part] = total.log() - e.mul_(z).sum(1, dtype=torch.float64) / total
            nll[part] = total.log() - of_target
    return entropy.cpu(), nll.cpu(), top1.cpu()
