"""For the Trainer of transformers: its checkpoints in a store instead of directories."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Optional, Union

from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

import ckpt

logger = logging.get_logger(__name__)


class CkptCallback(TrainerCallback):
    """Takes each checkpoint that a Trainer has written into a store, and removes its directory.

        callback = CkptCallback("runs/.ckpt", run="sft")
        trainer = Trainer(model, args, ..., callbacks=[callback])
        trainer.train(resume_from_checkpoint=callback.resume(args.output_dir))

    The Trainer writes a checkpoint as ever, with all that its plugins (DeepSpeed, FSDP, PEFT) put into it; a thread takes it in while
    training goes on, and its directory goes when the snapshot is committed. So whatever is killed whenever, each checkpoint is whole in one
    of the two; `resume` takes in what a killed run has left. Directories that cannot be taken in (a full disk, say) stay, are logged, and are tried
    again with the next.

    Of several processes the first takes in what all have written. The directory of the best checkpoint stays until training ends, for
    `load_best_model_at_end`.

    Args:
        store: a store, or its path; it is made where there is none.
        run: the run that the snapshots join, by the Trainer's steps.
        optimizer_keep: so many of the run's last snapshots keep their optimizer state. None: all.
        keep_directories: leave the Trainer's directories where they are.
        options: further arguments of `Store.ingest_path`, such as `packing`.
    """

    def __init__(
        self, store: Union[ckpt.Store, str, os.PathLike[str]], run: str, *, optimizer_keep: Optional[int] = 2, keep_directories: bool = False, **options: Any
    ) -> None:  # fmt: skip
        self.store = store if isinstance(store, ckpt.Store) else ckpt.open(os.fspath(store), create=True)
        self.run = run
        self._options = {"optimizer_keep": optimizer_keep, **options}
        self._keeps = keep_directories
        self._thread = ThreadPoolExecutor(1, "ckpt ingest")
        self._waiting: list[tuple[str, Future[None]]] = []
        self._failed: list[str] = []
        self._taken: set[str] = set()
        """Directories whose checkpoints are in the store: the only ones that are ever removed."""

    def resume(self, output_dir: Optional[str] = None) -> Optional[str]:
        """A directory to go on from: that of the run's newest snapshot. None when there is none, and training begins.

        Checkpoints that a killed run has left whole in `output_dir` are taken in first; that of the best snapshot so far is put there again, for
        `load_best_model_at_end`.
        """
        if _is_first():
            self._take_leftovers(output_dir)
        _barrier()
        runs = self.store.runs
        if self.run not in runs:
            return None
        head = runs[self.run].head
        if _is_first():
            self._bring_back_best(head)
        _barrier()
        return head.path

    def _take_leftovers(self, output_dir: Optional[str]) -> None:
        if output_dir is None or not os.path.isdir(output_dir):
            return
        for directory in _checkpoints(output_dir):
            try:
                self._take(directory)
            except ckpt.IncompleteError as error:
                logger.warning(f"left alone, it was being written: {error}")
            except ckpt.ConflictError as error:
                logger.warning(f"left alone: {error}")
            else:
                self._remove(directory)

    def _bring_back_best(self, head: ckpt.Snapshot) -> None:
        """The Trainer knows the best checkpoint by its directory."""
        try:
            best = json.loads(head.file("trainer_state.json")).get("best_model_checkpoint")
        except ckpt.NoSuchRefError:
            return
        if not best or os.path.exists(best) or not os.path.basename(best).startswith(f"{PREFIX_CHECKPOINT_DIR}-"):
            return
        ref = f"{self.run}@{_step(best)}"
        if ref in self.store:
            self.store[ref].export(best)
            self._taken.add(os.path.abspath(best))

    def wait(self) -> None:
        """Until all that was written has been taken in, or has failed and was logged."""
        waiting, self._waiting = self._waiting, []
        for directory, future in waiting:
            error = future.exception()
            if error is not None:
                logger.error(f"{directory} was not taken in and stays: {error}")
                self._failed.append(directory)

    # ---- What the Trainer calls

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        _barrier()
        if not state.is_world_process_zero:
            return
        self._settle()
        directory = os.path.join(args.output_dir, f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}")
        again, self._failed = self._failed, []
        best = os.path.abspath(state.best_model_checkpoint) if state.best_model_checkpoint else None
        for path in [*again, directory]:
            if os.path.isdir(path):
                self._waiting.append((path, self._thread.submit(self._work, path, best)))
        if args.save_total_limit is not None:
            # The Trainer removes directories itself, with the next: not before they are in.
            self.wait()
        # The best before has had its time.
        # A copy: the thread adds to them.
        for path in list(self._taken):
            if path != best:
                self._remove(path)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not state.is_world_process_zero:
            return
        self.wait()
        for directory in list(self._taken):
            self._remove(directory)
        if self._failed:
            logger.error(f"not in the store: {', '.join(self._failed)}")

    # ---- What it does

    def _settle(self) -> None:
        """Looks at what has ended."""
        going = [entry for entry in self._waiting if not entry[1].done()]
        ended, self._waiting = [entry for entry in self._waiting if entry[1].done()], []
        self._waiting = ended
        self.wait()
        self._waiting = going

    def _work(self, directory: str, best: Optional[str]) -> None:
        self._take(directory)
        if os.path.abspath(directory) != best:
            self._remove(directory)

    def _take(self, directory: str) -> None:
        self.store.ingest_path(directory, run=self.run, step=_step(directory), **self._options)
        self._taken.add(os.path.abspath(directory))

    def _remove(self, directory: str) -> None:
        if not self._keeps:
            shutil.rmtree(directory, ignore_errors=True)
        self._taken.discard(os.path.abspath(directory))


def _step(directory: str) -> int:
    return int(directory.rpartition("-")[2])


def _checkpoints(output_dir: str) -> list[str]:
    """The Trainer's directories, by step."""
    names = [name for name in os.listdir(output_dir) if name.startswith(f"{PREFIX_CHECKPOINT_DIR}-") and name.rpartition("-")[2].isdigit()]
    return [os.path.join(output_dir, name) for name in sorted(names, key=_step) if os.path.isdir(os.path.join(output_dir, name))]


def _processes() -> Any:
    """torch.distributed where there are several processes, else None."""
    import torch.distributed as dist

    return dist if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1 else None


def _is_first() -> bool:
    """Whether this is the process that takes checkpoints in."""
    dist = _processes()
    return dist is None or dist.get_rank() == 0


def _barrier() -> None:
    """Until every process is here: has written its part, say."""
    dist = _processes()
    if dist is not None:
        dist.barrier()
