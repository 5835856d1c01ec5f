"""Weak-driven training with the Trainer of transformers."""

from __future__ import annotations

import functools
import os
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence, Union

import numpy as np
import safetensors.numpy
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers.trainer_utils import get_last_checkpoint, seed_worker

from ..random import BatchOrder, rotation_offsets
from .curriculum import Formula, curriculum_weights
from .entropy import entropies as computed_entropies
from .head import SplitModel, split_model
from .loss import MIXES, WEAK_BRANCHES, mixed_cross_entropy
from .weak import Loadable, WeakModel

# Names by which the store files them with the optimizer's state.
WEAK_FILE = "optimizer.weak.safetensors"
CURRICULUM_FILE = "optimizer.curriculum.safetensors"

_SAMPLE = "ckpt_sample"


class WeakDrivenTrainer(transformers.Trainer):
    """Trains a strong model on -ln softmax(lam z_strong + (1 - lam) z_weak)[y]: one round of the method.

    The loss is the sum over supervised tokens by their number in the whole optimizer batch, so that accumulated micro-batches give
    what one large batch gives. One optimizer and one clip are over both branches. Evaluation and what is saved as the model are of
    the strong model alone.

    Order: the samples of optimizer step s follow from (seed, round, s) by `ckpt.random.BatchOrder`, for every `select`; an epoch is
    a pass. Passes of "v2" differ in length: there every epoch has as many steps as the first pass, and the passes go on across
    epochs. The last batch of a pass is smaller.

    Checkpoints additionally hold `optimizer.weak.safetensors` (of a joint weak: what training changes) and
    `optimizer.curriculum.safetensors` (entropies and weights), from which `resume_from_checkpoint` goes on to the same bits.

    Activation checkpointing that the arguments ask for is of the strong model: switch it on for a joint weak yourself.

    Args:
        weak: see `WeakModel`; None where `mix` has no weak model and `select` needs none.
        lam: the strong model's share, 0 ... 1.
        weak_branch: "joint" or "frozen"; default: "frozen" for weak models that share the strong one's weights, else "joint".
        mix: "weak", "temperature", "shuffled" or "none", which is plain fine-tuning through the same loss.
        select: "code", "v1", "v2", "uniform" or a callable, as in `curriculum_weights`; default "code" with a weak model, else
            "uniform".
        coefficients: a, b and c of the curriculum.
        multiplier: draws in a pass over samples, not for "uniform" and "v2".
        seed: of draws and rotations, 0 ..< 2^64; default `args.data_seed`, else `args.seed`.
        round: of the loop, from 0.
        entropies: (weak, strong), each (n,) mean entropies of the training samples in their order, in nats per token, or an
            `Entropies`. Default: computed when training starts, if `select` needs them.
        arguments: of `transformers.Trainer`; `train_dataset` has a length and gives one sample by its number, and the collator
            gives labels (-100: not supervised).

    Raises:
        ValueError: for what does not fit together, and for what is not done: more than one process or device, label smoothing, a
            model whose logits are not those of a linear head.
    """

    # The loss is by the tokens of the whole optimizer batch: nothing is left to divide by.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        *arguments: Any,
        weak: Union[nn.Module, Loadable, str, tuple[str, str], Callable[[nn.Module], Any], None] = None,
        lam: float = 0.5,
        weak_branch: Optional[str] = None,
        mix: str = "weak",
        select: Union[str, Formula, None] = None,
        coefficients: tuple[float, float, float] = (0.1, 0.8, 0.1),
        multiplier: float = 1.0,
        seed: Optional[int] = None,
        round: int = 0,
        entropies: Optional[tuple[Any, Any]] = None,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        if weak_branch is None:
            weak_branch = "frozen" if isinstance(weak, (str, tuple)) else "joint"
        if mix not in MIXES or weak_branch not in WEAK_BRANCHES:
            raise ValueError(f"mix={mix!r}, weak_branch={weak_branch!r}: of {MIXES} and {WEAK_BRANCHES}")
        if not 0 <= lam <= 1:
            raise ValueError(f"lam={lam}: from 0 to 1")
        has_weak = mix in ("weak", "shuffled")
        if has_weak and weak is None:
            raise ValueError(f"mix={mix!r} needs a weak model")
        if self.args.world_size > 1 or self.args.n_gpu > 1 or self.is_deepspeed_enabled or self.is_fsdp_enabled:
            raise ValueError("weak-driven training is for one process and one device")
        if self.args.label_smoothing_factor or self.compute_loss_func is not None or self.model_init is not None:
            raise ValueError("label smoothing, compute_loss_func and model_init are not for weak-driven training")
        if self.train_dataset is not None and not hasattr(self.train_dataset, "__len__"):
            raise ValueError("the training samples are drawn by number: the dataset needs a length")

        self.lam = lam
        self.mix = mix
        self.coefficients = coefficients
        self.multiplier = multiplier
        self.round = round
        self.select = select if select is not None else "uniform" if weak is None else "code"
        self.seed: int = seed if seed is not None else self.args.data_seed if self.args.data_seed is not None else self.args.seed
        # A weak model that only tells which samples to draw is not trained.
        self.weak = None if weak is None else WeakModel(self.model, weak, is_joint=weak_branch == "joint" and has_weak)
        self._mixes_weak = has_weak
        self._weights: Optional[NDArray[np.float64]] = None
        self._entropies = None if entropies is None else tuple(
            e if e is None else np.asarray(getattr(e, "entropy", e), np.float64) for e in entropies)
        self._splits: Optional[tuple[SplitModel, Optional[SplitModel]]] = None
        self._norms: dict[str, float] = {}
        # Has transformers count the supervised tokens of an optimizer batch.
        self.model_accepts_loss_kwargs = True
        if self.weak is not None and not self.weak.is_shared and self.place_model_on_device:
            self._move_model_to_device(self.weak.module, self.args.device)
        if self.weak is not None and self.weak.is_joint:
            self.add_callback(_NoGradientsLeft(self.weak.module))

    # Which samples

    def train(self, resume_from_checkpoint: Union[str, bool, None] = None, *arguments: Any, **named: Any) -> Any:
        """As of `transformers.Trainer`; entropies come before the first step, or from the checkpoint."""
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(self.args.output_dir)
            if resume_from_checkpoint is None:
                raise ValueError(f"no checkpoint in {self.args.output_dir}")
        if resume_from_checkpoint:
            saved = safetensors.numpy.load_file(os.path.join(resume_from_checkpoint, CURRICULUM_FILE))
            if len(saved["weights"]) != len(self.train_dataset):
                raise ValueError(f"{resume_from_checkpoint}: of {len(saved['weights'])} samples, not {len(self.train_dataset)}")
            self._weights = saved["weights"]
            if "weak" in saved:
                self._entropies = (saved["weak"], saved["strong"])
        elif self._weights is None:
            self._weights = self._made_weights()
        dataset, collator = self._dataset_and_collator()
        # Before transformers wraps the model in autocast, under which logits cannot be compared.
        self._taken_apart(collator([dataset[0]])["input_ids"])
        return super().train(resume_from_checkpoint or None, *arguments, **named)

    def _made_weights(self) -> NDArray[np.float64]:
        if self.select == "uniform":
            return np.ones(len(self.train_dataset))
        if self._entropies is None:
            if self.weak is None:
                raise ValueError(f"select={self.select!r} needs entropies, or a weak model to compute them with")
            dataset, collator = self._dataset_and_collator()
            loader = DataLoader(dataset, self.args.per_device_eval_batch_size, collate_fn=collator)

            def found(model: nn.Module) -> NDArray[np.float64]:
                with self.accelerator.autocast():
                    return computed_entropies(model, loader, device=self.args.device).entropy

            strong = found(self.model)
            with self.weak.active() as module:
                self._entropies = (found(module), strong)
        weak, strong = self._entropies
        if len(strong if weak is None else weak) != len(self.train_dataset):
            raise ValueError(f"entropies of {len(strong if weak is None else weak)} samples, not {len(self.train_dataset)}")
        return curriculum_weights(weak, strong, self.select, *self.coefficients)

    def get_train_dataloader(self) -> DataLoader:
        """Micro-batches in the order of the round."""
        if self._weights is None:
            self._weights = self._made_weights()
        dataset, collator = self._dataset_and_collator()
        accumulated = self.args.gradient_accumulation_steps
        order = BatchOrder(
            self.select, self._weights, multiplier=self.multiplier, seed=self.seed, round=self.round,
            batch_size=self._train_batch_size * accumulated)
        return self.accelerator.prepare(DataLoader(
            _Numbered(dataset), batch_sampler=_MicroBatches(order, self._train_batch_size, accumulated),
            collate_fn=_NumberedCollator(collator), num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory, persistent_workers=self.args.dataloader_persistent_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            worker_init_fn=functools.partial(seed_worker, num_workers=self.args.dataloader_num_workers, rank=0)))

    def _dataset_and_collator(self) -> tuple[Any, Callable[[list[Any]], Mapping[str, Any]]]:
        if transformers.utils.is_datasets_available():
            import datasets

            if isinstance(self.train_dataset, datasets.Dataset):
                return self._remove_unused_columns(self.train_dataset, description="training"), self.data_collator
        return self.train_dataset, self._get_collator_with_removed_columns(self.data_collator, description="training")

    # What is lost

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Optional[Tensor]:
        counted = [batch["labels"][:, 1:].ne(-100).sum() for batch in batch_samples if batch]
        return torch.stack(counted).sum().to(device) if counted else None

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """As of `transformers.Trainer`; a micro-batch for which a small batch has no samples left is nothing."""
        if not inputs:
            return torch.zeros((), device=self.args.device)
        return super().training_step(model, inputs, num_items_in_batch)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """As of `transformers.Trainer`, of the strong model alone."""
        return super().floating_point_ops(inputs) if inputs else 0

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None,
    ) -> Any:
        """Of training the mixed loss; of evaluation the strong model's own, as of `transformers.Trainer`."""
        if not model.training or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = dict(inputs)
        samples = inputs.pop(_SAMPLE)
        labels = inputs.pop("labels")[:, 1:]
        strong_split, weak_split = self._taken_apart(inputs["input_ids"])
        with self.accelerator.autocast():
            hidden_weak = None
            if weak_split is not None:
                # First: of a shared base, the strong model's adapter is on again when its own graph is made.
                with self.weak.active():
                    hidden_weak = _predicting(weak_split.hidden(inputs))
            hidden_strong = _predicting(strong_split.hidden(inputs))
            return mixed_cross_entropy(
                hidden_strong, strong_split.weight, hidden_weak, None if weak_split is None else weak_split.weight, labels.reshape(-1),
                lam=self.lam, mix=self.mix, weak_branch="joint" if self.weak is not None and self.weak.is_joint else "frozen",
                bias_strong=strong_split.bias, bias_weak=None if weak_split is None else weak_split.bias,
                rotations=self._rotations(samples, labels, inputs, strong_split.weight.shape[0]),
                softcap=strong_split.softcap, scale=strong_split.scale, denominator=num_items_in_batch)

    def _rotations(self, samples: Tensor, labels: Tensor, inputs: Mapping[str, Any], vocabulary: int) -> Optional[Tensor]:
        if self.mix != "shuffled":
            return None
        mask = inputs.get("attention_mask")
        # Padding may be on the left.
        places = torch.ones_like(inputs["input_ids"]) if mask is None else mask
        positions = (places.cumsum(1) - 1).clamp(min=0)[:, 1:].cpu().numpy()
        offsets = rotation_offsets(vocabulary, self.seed, samples.cpu().numpy()[:, None], positions)
        return torch.from_numpy(offsets).reshape(-1).to(labels.device)

    def _taken_apart(self, ids: Tensor) -> tuple[SplitModel, Optional[SplitModel]]:
        if self._splits is None:
            def split(model: nn.Module, which: str) -> SplitModel:
                found = split_model(model, ids[:1, :8].to(self.args.device))
                if found is None:
                    raise ValueError(f"the {which} model's logits are not those of a linear head on its last hidden states")
                return found

            weak = None
            if self._mixes_weak:
                with self.weak.active() as module:
                    weak = split(module, "weak")
            strong = split(self.model, "strong")
            if weak is not None and (weak.scale, weak.softcap) != (strong.scale, strong.softcap):
                raise ValueError("the weak model scales or caps its logits in another way than the strong one")
            self._splits = strong, weak
        return self._splits

    # Both branches

    def _branches(self) -> nn.Module:
        if self.weak is None or not self.weak.is_joint:
            return self.model
        return nn.ModuleDict({"strong": self.model, "weak": self.weak.module})

    def create_optimizer(self, model: Optional[nn.Module] = None) -> torch.optim.Optimizer:
        """One over both branches; norms and biases of both are without decay."""
        return super().create_optimizer(self._branches() if model is None else model)

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        return self._joint_norm(self.args.max_grad_norm)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        return self._joint_norm(float("inf")) if grad_norm is None else grad_norm

    def _joint_norm(self, most: float) -> Any:
        norm = self.accelerator.clip_grad_norm_(self._branches().parameters(), most)
        if self.weak is not None and self.weak.is_joint:
            # After the clip, which comes with the unscaling of float16; both branches were scaled alike.
            after = {
                which: float(nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None]))
                for which, module in (("strong", self.model), ("weak", self.weak.module))}
            total = float(np.hypot(after["strong"], after["weak"]))
            self._norms = {f"grad_norm_{which}": float(norm) * n / total if total else 0.0 for which, n in after.items()}
        return norm

    def log(self, logs: dict[str, float], *arguments: Any, **named: Any) -> None:
        """As of `transformers.Trainer`, with the gradient norm of each branch."""
        super().log({**logs, **self._norms} if "grad_norm" in logs else logs, *arguments, **named)

    # Checkpoints

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        saved = {"weights": self._weights}
        if self._entropies is not None and all(e is not None for e in self._entropies):
            saved["weak"], saved["strong"] = self._entropies
        safetensors.numpy.save_file(saved, os.path.join(output_dir, CURRICULUM_FILE))
        if self.weak is not None and self.weak.is_joint:
            self.weak.save(os.path.join(output_dir, WEAK_FILE))

    def _load_optimizer_and_scheduler(self, checkpoint: Optional[str]) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and self.weak is not None and self.weak.is_joint:
            self.weak.load(os.path.join(checkpoint, WEAK_FILE))


def _predicting(hidden: Tensor) -> Tensor:
    """The hidden states before each label from the second on: (batch x (tokens - 1), D)."""
    return hidden[:, :-1].reshape(-1, hidden.shape[-1])


class _NoGradientsLeft(transformers.TrainerCallback):
    """Zeroes the weak branch's gradients where the Trainer zeroes the strong one's."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def on_train_begin(self, *arguments: Any, **named: Any) -> None:
        self._module.zero_grad()

    def on_optimizer_step(self, *arguments: Any, **named: Any) -> None:
        self._module.zero_grad()


class _Numbered(Dataset):
    """Samples with their places."""

    def __init__(self, dataset: Sequence[Any]) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, place: int) -> tuple[int, Any]:
        return place, self._dataset[place]


class _NumberedCollator:
    """A batch of numbered samples; an empty one of none."""

    def __init__(self, collator: Callable[[list[Any]], Mapping[str, Any]]) -> None:
        self._collator = collator

    def __call__(self, numbered: list[tuple[int, Any]]) -> dict[str, Any]:
        if not numbered:
            return {}
        places = [place for place, _ in numbered]
        batch = dict(self._collator([sample for _, sample in numbered]))
        in_rows = batch["labels"][:, 1:].ne(-100).sum(1).tolist()
        if 0 in in_rows:
            raise ValueError(f"sample {places[in_rows.index(0)]}: no supervised token")
        batch[_SAMPLE] = torch.tensor(places)
        return batch


class _MicroBatches(Sampler[list[int]]):
    """The batches of a `BatchOrder` in `accumulated` slices each, the last of which may be empty: the Trainer counts on every
    optimizer step to have as many. Epoch e has as many steps as the first pass, from the e-th multiple of it."""

    drop_last = False

    def __init__(self, order: BatchOrder, batch_size: int, accumulated: int) -> None:
        self._order, self.batch_size, self._accumulated = order, batch_size, accumulated
        self._steps = order.steps(1)
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return self._steps * self._accumulated

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._epoch * self._steps, (self._epoch + 1) * self._steps):
            samples = self._order.batch(step).samples.tolist()
            for slice_ in range(self._accumulated):
                yield samples[slice_ * self.batch_size:(slice_ + 1) * self.batch_size]
