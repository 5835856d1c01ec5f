"""Weak-driven learning (arXiv 2602.08222): an older checkpoint's logits mixed into the loss of the model that is trained.

- `curriculum_weights`, `CurriculumBatchSampler`: which samples are trained on.
- `entropies`: how unsure a model is of each.
- `mixed_cross_entropy`: the loss, in chunks of tokens.
- `WeakDrivenTrainer`: all of it in the Trainer of transformers, which is needed for this alone.

Needs torch and safetensors.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .curriculum import curriculum_weights
    from .entropy import Entropies, entropies
    from .head import SplitModel, split_model
    from .loss import MixStatistics, mixed_cross_entropy, reference_mixed_cross_entropy, rotation_sources
    from .sampler import CurriculumBatchSampler, CurriculumSampler
    from .trainer import WeakDrivenTrainer
    from .weak import WeakModel

__all__ = [
    "CurriculumBatchSampler", "CurriculumSampler", "Entropies", "MixStatistics", "SplitModel", "WeakDrivenTrainer", "WeakModel",
    "curriculum_weights", "entropies", "mixed_cross_entropy", "reference_mixed_cross_entropy", "rotation_sources", "split_model",
]

_MODULES = {
    "CurriculumBatchSampler": "sampler", "CurriculumSampler": "sampler", "Entropies": "entropy", "MixStatistics": "loss", "SplitModel": "head",
    "WeakDrivenTrainer": "trainer", "WeakModel": "weak", "curriculum_weights": "curriculum", "entropies": "entropy", "mixed_cross_entropy": "loss",
    "reference_mixed_cross_entropy": "loss", "rotation_sources": "loss", "split_model": "head",
}


def __getattr__(name: str) -> Any:
    # torch takes a second to import, transformers some more, and weights need neither.
    if name in _MODULES:
        return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
