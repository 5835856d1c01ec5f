"""A language model as what makes its hidden states and what makes logits of them, so that logits need not be made of all tokens."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

import torch
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class SplitModel:
    """logits = cap(scale (base(...).last_hidden_state weight^T + bias)), cap(x) = softcap tanh(x / softcap).

    Nothing is copied: `weight` and `bias` are the model's own parameters.
    """

    base: nn.Module
    weight: Tensor
    """(V, D)"""
    bias: Optional[Tensor]
    """(V,)"""
    scale: Optional[float]
    softcap: Optional[float]

    def hidden(self, inputs: Mapping[str, Any]) -> Tensor:
        """What the head is applied to: (batch, tokens, D). Of `inputs` all but labels, as the model takes them."""
        arguments = {name: value for name, value in inputs.items() if name not in ("labels", "num_items_in_batch")}
        return self.base(**arguments, use_cache=False, return_dict=True).last_hidden_state

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V) of (..., D), in the head's dtype up to scale and cap, which are in float32 or better."""
        z = torch.nn.functional.linear(hidden.to(self.weight.dtype), self.weight)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if self.bias is not None:
            z = z + self.bias
        if self.scale is not None:
            z = z * self.scale
        return z if self.softcap is None else self.softcap * torch.tanh(z / self.softcap)


def split_model(model: nn.Module, example: Tensor) -> Optional[SplitModel]:
    """`model` in two parts, or None where it cannot be taken apart: there is no output layer, it is not a plain linear one (an
    adapter sits on it, it is quantised), or its logits are not the ones that the parts give for `example`.

    Args:
        model: of transformers, with PEFT around it or not. Of PEFT's the adapters that are switched on are part of `base`.
        example: (1, tokens) ids that the comparison is made with; a few are enough.

    The parts stay good while the adapters that are switched on change, unless a head was trained with one (`modules_to_save`).
    """
    causal = model
    if hasattr(model, "peft_config") and hasattr(model, "get_base_model"):
        if model.active_peft_config.is_prompt_learning:
            return None  # its prompt is put in front by the wrapper
        causal = model.get_base_model()
    if not hasattr(causal, "get_output_embeddings"):
        return None
    head = _plain_head(causal.get_output_embeddings())
    base = getattr(causal, "base_model", causal)
    if base is causal and hasattr(causal, "get_decoder"):
        base = causal.get_decoder()
    if head is None or base is causal:
        return None
    config = causal.config.get_text_config() if hasattr(causal.config, "get_text_config") else causal.config
    divisor = getattr(config, "logits_scaling", None)
    scale = 1 / divisor if divisor else getattr(config, "logit_scale", None)
    split = SplitModel(
        base, head.weight, head.bias, None if scale in (None, 1) else float(scale), getattr(config, "final_logit_softcapping", None))
    return split if _agrees(split, causal, example) else None


def _plain_head(head: Optional[nn.Module]) -> Optional[nn.Linear]:
    if hasattr(head, "modules_to_save") and hasattr(head, "active_adapter"):
        # PEFT: a copy of the head is trained with the adapter.
        name = head.active_adapter if isinstance(head.active_adapter, str) else head.active_adapter[0]
        off = head.disable_adapters or name not in head.modules_to_save
        head = head.original_module if off else head.modules_to_save[name]
    return head if type(head) is nn.Linear else None


@torch.no_grad()
def _agrees(split: SplitModel, causal: nn.Module, example: Tensor) -> bool:
    """Models do more to their logits than their configuration's fields tell by name; so it is tried out."""
    was_training = [module for module in causal.modules() if module.training]
    causal.eval()
    try:
        with torch.autocast(example.device.type, enabled=False):
            expected = causal(input_ids=example, use_cache=False).logits.float()
            found = split.logits(split.hidden({"input_ids": example})).float()
    except (TypeError, AttributeError, ValueError):
        return False  # wants other inputs, or gives other outputs
    finally:
        for module in was_training:
            module.training = True
    if expected.shape != found.shape:
        return False
    # Products of other shapes may be added up in another order; the constants looked for change logits by far more.
    tolerance = 8 * torch.finfo(split.weight.dtype).eps if split.weight.dtype in (torch.bfloat16, torch.float16) else 1e-4
    return bool((expected - found).abs().max() <= tolerance * expected.abs().max().clamp(min=1e-6))
