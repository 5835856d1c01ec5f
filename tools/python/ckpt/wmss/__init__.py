"""Weak-driven learning (arXiv 2602.08222): an older checkpoint's logits mixed into the loss of the model that is trained.

- `curriculum_weights`, `CurriculumBatchSampler`: which samples are trained on.
- `entropies`: how unsure a model is of each.
- `mixed_cross_entropy`: the loss, in chunks of tokens.
- `WeakDrivenTrainer`: all of it in the Trainer of transformers, which is needed for this alone.

Needs torch and safetensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .curriculum import curriculum_weights
from .entropy import Entropies, entropies
from .head import SplitModel, split_model
from .loss import MixStatistics, mixed_cross_entropy, reference_mixed_cross_entropy, rotation_sources
from .sampler import CurriculumBatchSampler, CurriculumSampler
from .weak import WeakModel

if TYPE_CHECKING:
    from .trainer import WeakDrivenTrainer

__all__ = [
    "CurriculumBatchSampler", "CurriculumSampler", "Entropies", "MixStatistics", "SplitModel", "WeakDrivenTrainer", "WeakModel",
    "curriculum_weights", "entropies", "mixed_cross_entropy", "reference_mixed_cross_entropy", "rotation_sources", "split_model",
]


def __getattr__(name: str) -> Any:
    # Importing transformers takes seconds, and not everyone has it.
    if name == "WeakDrivenTrainer":
        from .trainer import WeakDrivenTrainer

        return WeakDrivenTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
