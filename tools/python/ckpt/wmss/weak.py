"""The weak model that runs beside the strong one: another module, or the strong one with other adapters."""

from __future__ import annotations

import contextlib
import copy
from typing import Any, Iterator, Optional, Protocol, Union

import safetensors.torch
import torch
from torch import Tensor, nn


class Loadable(Protocol):
    """What puts a snapshot's weights into a model of its architecture."""

    def load_into(self, model: nn.Module) -> Any: ...


class WeakModel:
    """A weak model and how to run it.

    Args:
        strong: the model that is trained and deployed.
        weak: one of
            - a module, which is taken as it is (and frozen, if not joint);
            - an object with `load_into(model)`, or such a function: it gets a deep copy of `strong`;
            - "adapter-off": `strong`, of PEFT, without its adapter;
            - ("adapter", name): `strong`, of PEFT, with another of its adapters.
        is_joint: whether it is trained. Those that share weights with `strong` cannot be.

    Raises:
        ValueError: for a weak model that cannot be had.
    """

    def __init__(self, strong: nn.Module, weak: Union[nn.Module, Loadable, str, tuple[str, str], Any], *, is_joint: bool) -> None:
        self._strong = strong
        self.is_joint = is_joint
        self.adapter: Optional[str] = None
        """The name of the adapter it has, of those that share weights with `strong` and have one."""
        self.module: nn.Module = strong
        if isinstance(weak, (str, tuple)):
            if not hasattr(strong, "peft_config"):
                raise ValueError(f"weak={weak!r} is for models of PEFT, and this is a {type(strong).__name__}")
            if is_joint:
                raise ValueError(f"weak={weak!r} shares its weights with the strong model: weak_branch='frozen'")
            if weak != "adapter-off":
                if isinstance(weak, str) or len(weak) != 2 or weak[0] != "adapter":
                    raise ValueError(f"weak={weak!r}: a module, something with load_into, 'adapter-off' or ('adapter', name)")
                if weak[1] not in strong.peft_config:
                    raise ValueError(f"no adapter {weak[1]!r}: the model has {', '.join(strong.peft_config)}")
                self.adapter = weak[1]
            return
        if isinstance(weak, nn.Module):
            if weak is strong:
                raise ValueError("the weak model is the strong one itself: give a copy")
            self.module = weak
        else:
            load = getattr(weak, "load_into", weak)
            if not callable(load):
                raise ValueError(f"a weak model cannot be had from a {type(weak).__name__}")
            self.module = copy.deepcopy(strong)
            load(self.module)
        if not is_joint:
            self.module.requires_grad_(False)
            self.module.eval()

    @property
    def is_shared(self) -> bool:
        """Whether it is the strong model with other adapters."""
        return self.module is self._strong

    @contextlib.contextmanager
    def active(self) -> Iterator[nn.Module]:
        """`module` is the weak model within: of one that is not trained in eval mode and without gradients, and of one that shares
        weights with the strong model with its own adapter. All is as before afterwards."""
        if self.is_joint:
            self.module.train(self._strong.training)
            yield self.module
            return
        with contextlib.ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if self.is_shared:
                stack.enter_context(self._modes_kept())
                stack.enter_context(self.module.disable_adapter() if self.adapter is None else self._other_adapter())
            self.module.eval()
            yield self.module

    @contextlib.contextmanager
    def _modes_kept(self) -> Iterator[None]:
        training = [module for module in self.module.modules() if module.training]
        # PEFT has it that adapters are trained which are switched on; what the optimizer was told counts.
        trained = [(parameter, parameter.requires_grad) for parameter in self.module.parameters()]
        try:
            yield
        finally:
            for module in training:
                module.training = True
            for parameter, is_trained in trained:
                parameter.requires_grad_(is_trained)

    @contextlib.contextmanager
    def _other_adapter(self) -> Iterator[None]:
        before = self.module.active_adapter
        self.module.set_adapter(self.adapter)
        try:
            yield
        finally:
            self.module.set_adapter(before)

    def save(self, path: str) -> None:
        """What training changes of it, as safetensors."""
        safetensors.torch.save_file({name: t.detach().contiguous() for name, t in self._changing().items()}, path)

    def load(self, path: str) -> None:
        """What `save` wrote, to the bit.

        Raises:
            ValueError: where the file is of another model.
        """
        saved, own = safetensors.torch.load_file(path), self._changing()
        if saved.keys() != own.keys() or any(saved[name].shape != own[name].shape for name in own):
            raise ValueError(f"{path}: of another weak model")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(saved[name])

    def _changing(self) -> dict[str, Tensor]:
        kept = self.module.state_dict().keys()
        # Names of tied parameters come once.
        changing = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        return {**changing, **{name: b for name, b in self.module.named_buffers() if name in kept}}
