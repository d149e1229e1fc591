"""The methods of the runner that save and load checkpoints, and the choice of the checkpoint that a run starts from."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from footplate.checkpoint import (
    BackgroundSaver,
    LoadReport,
    is_sharded_path,
    list_candidates,
    load_checkpoint,
    load_latest,
    load_weights,
    read_contents,
    trusted_in,
)
from footplate.checkpoint.serializable import gather_full_state
from footplate.data import restore_rng
from footplate.distributed import compute_on_main, is_distributed, is_main_process, unwrap_model
from footplate.distributed.sharding import is_dtensor, is_sharded, reshard
from footplate.engine import state
from footplate.engine.components import Components
from footplate.engine.nonfinite import check_weights
from footplate.error_context import at_key, located
from footplate.errors import CheckpointError, NonFiniteError
from footplate.evaluation.evaluation_sets import warn_about_classes
from footplate.models import trained_model

if TYPE_CHECKING:
    from footplate.engine.runner import Runner

_logger = logging.getLogger("footplate.engine")


class InitialCheckpoint(NamedTuple):
    """The checkpoint with which a run begins."""

    path: str | None  # the checkpoint, or None if the run begins without one
    resumes: bool  # whether the run resumes from the checkpoint rather than only taking its weights
    content: dict[str, Any] | None  # the content of the checkpoint if it is already loaded


class RunCheckpoints(Components):
    """Saves a run, and loads the checkpoint that `load_from` and `resume` select."""

    cfg: Any
    home: str
    rank: int
    load_from: str | None
    should_resume: bool | str
    resuming: bool
    takes_settings: bool
    saver: BackgroundSaver
    trusted: list[dict[str, str]]
    call_hook: Callable[..., None]
    buffered_log: Callable[[], AbstractContextManager[None]]
    _loaded: bool
    _initial: InitialCheckpoint | None
    _load_report: LoadReport | None
    _random: dict[str, Any] | None

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: Mapping[str, Any] | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: Mapping[str, Any] | None = None,
        by_epoch: bool = True,
        backend_args: Mapping[str, Any] | None = None,
        *,
        background: bool = False,
        then: Callable[[], None] | None = None,
        undo: Callable[[], None] | None = None,
    ) -> str:
        """Saves the run in its current state. If that fails, `on_save_error` decides whether the run continues.

        Args:
            out_dir: The folder.
            filename: The name in the folder. A name that ends in `.sharded` makes all ranks save a sharded checkpoint.
            file_client_args: Ignored; the path determines the storage.
            save_optimizer: Whether to include the optimizer state.
            save_param_scheduler: Whether to include the state of the schedules.
            meta: Additional entries for the checkpoint's `meta`.
            by_epoch: Ignored; the position of the run determines the epoch and the iteration in `meta`.
            backend_args: Ignored; the path determines the storage.
            background: Whether to return once the state is copied and to write it in the background. All ranks must
                take part.
            then: Called after the commit.
            undo: Called if the save failed, by a later save or by `saver.settle()`.

        Returns:
            The path.

        Raises:
            CheckpointError: The save failed, and `on_save_error` is "stop".
            NonFiniteError: The weights are non-finite, and `on_nonfinite` requires the run to stop.
        """
        runner, path = cast("Runner", self), os.path.join(out_dir, filename)
        reshard(self.model)
        try:
            check_weights(runner)
        except NonFiniteError as error:
            if runner.nonfinite.loss == "stop":
                raise
            self.saver.refuse(error, undo)
            return path
        checkpoint = state.capture(
            runner, save_optimizer=save_optimizer, save_param_scheduler=save_param_scheduler, together=background
        )
        checkpoint["meta"].update(meta or {})
        self.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        if not is_sharded_path(path):  # one rank writes the file, with the shards of all ranks
            if is_sharded(self.model):
                checkpoint = gather_full_state(checkpoint)
            elif background and is_distributed() and "optimizer" in checkpoint:
                # Each rank has its own gradients of an accumulation round.
                checkpoint["optimizer"] = gather_full_state(checkpoint["optimizer"])
            if not is_main_process():
                return path
        self.saver.save(checkpoint, path, then=then, undo=undo, replicated=_replicated_storages(runner, path))
        if not background:
            self.saver.settle()
        return path

    def load_checkpoint(
        self,
        filename: str,
        map_location: str = "cpu",
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = (("^module.", ""),),
    ) -> dict[str, Any]:
        """Loads the weights of a checkpoint.

        Returns:
            The checkpoint.
        """
        model = trained_model(self.model)
        initial, self._initial = self._initial, None
        if initial is not None and initial.content is not None and (initial.path, map_location) == (filename, "cpu"):
            checkpoint = initial.content
        else:
            checkpoint = load_checkpoint(filename, map_location, like=model, in_place=self.resuming)
        self.trusted = trusted_in(checkpoint)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        self._load_report = load_weights(model, checkpoint, strict=strict, revise_keys=revise_keys, name=filename)
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: str = "default",
    ) -> None:
        """Resumes from a checkpoint: weights, optimizer, schedules, position, history and random state.

        Args:
            filename: The path or address of the checkpoint.
            resume_optimizer: Whether to restore the state of the optimizer.
            resume_param_scheduler: Whether to restore the state of the schedules. This also requires
                `resume_optimizer`. Otherwise, the schedules are moved to the position of the run.
            map_location: The device onto which the checkpoint is loaded. "default" is the CPU. Tensors are then copied
                to their devices.
        """
        self.resuming = True
        try:
            checkpoint = self.load_checkpoint(filename, "cpu" if map_location == "default" else map_location, True)
        finally:
            self.resuming = False
        keeps_schedules = resume_optimizer and resume_param_scheduler and not self.takes_settings
        left_out = {"optimizer": not resume_optimizer, "param_schedulers": not keeps_schedules}
        not_restored = [key for key, is_left_out in left_out.items() if is_left_out]
        state.restore(cast("Runner", self), checkpoint, left_out=not_restored)
        self._random = state.random_of(checkpoint, self.rank)
        self.saver.last = filename
        _logger.info("Resumed from %s at epoch %d, iteration %d.", filename, self.epoch, self.iter)

    def load_or_resume(self, *, whole_model: bool = False) -> None:
        """Loads the checkpoint that `load_from` and `resume` select. Later calls do nothing, to keep trained weights.

        Args:
            whole_model: Whether to raise an error if the checkpoint lacks a tensor of the model.
        """
        if self._loaded:
            return
        self._loaded = True
        initial = pick_checkpoint(self.home, self.load_from, self.should_resume)
        path, resumes, self._initial = initial.path, initial.resumes, initial
        if path is not None:
            key = at_key("load_from") if path == self.load_from else nullcontext()
            with located(self.cfg), key, self.buffered_log():
                if resumes:
                    self.resume(path)
                    meta = None
                else:
                    meta = self.load_checkpoint(path).get("meta")
                if whole_model and self._load_report is not None:
                    self._load_report.require_whole_model()
                    trained = meta.get("dataset_meta") if isinstance(meta, Mapping) else None
                    warn_about_classes(trained, getattr(self.test_loop, "sets", ()), "test")

    def restore_random_state(self) -> None:
        """Restores the random state of the resumed checkpoint. Loops call it before they continue."""
        if self._random is not None:
            restore_rng(self._random)


def _replicated_storages(runner: "Runner", path: str) -> Set[int]:
    """Returns the storage addresses of the replicated tensors. Each rank writes a part of each tensor to `path`."""
    if not is_sharded_path(path):
        return frozenset()
    wrappers = runner.optim_wrapper.parts.values()
    states = [value for each in wrappers for held in each.optimizer.state.values() for value in held.values()]
    tensors = [*unwrap_model(runner.model).parameters(), *(each for each in states if isinstance(each, torch.Tensor))]
    return {each.untyped_storage().data_ptr() for each in tensors if not is_dtensor(each)}


def pick_checkpoint(work_dir: str, load_from: str | None, resume: bool | str) -> InitialCheckpoint:
    """Returns the checkpoint with which a run begins. The search loads it, so that it is read and verified only once.

    Args:
        work_dir: The folder of the run.
        load_from: The checkpoint that the user has set.
        resume: True resumes from `load_from`, or from the newest complete checkpoint in `work_dir`. "auto" resumes from
            `work_dir` if it has a checkpoint, and otherwise starts with the weights of `load_from`.
    """
    if resume != "auto" and (not resume or load_from is not None):
        return InitialCheckpoint(load_from, bool(resume), None)
    content: dict[str, Any] | None = None

    def find() -> str | None:
        nonlocal content
        found, content = load_latest(work_dir) or (None, None)
        return found

    path = compute_on_main(find)
    if path is None:
        # With "auto" a job uses the same command for its start and its restarts. True expects an earlier run.
        level = logging.INFO if resume == "auto" else logging.WARNING
        _logger.log(level, "There is no checkpoint to resume in %s. The run starts over.", work_dir)
    return InitialCheckpoint(path or load_from, path is not None, content)


def seed_of_resumed(work_dir: str, load_from: str | None, resume: bool | str) -> int | None:
    """Returns the seed of the run to resume, or None if the run starts over or its checkpoint has no seed.

    A run whose config has no seed draws a random one, which determines the order of its data.
    """
    if not resume:
        return None
    paths: list[str] = [load_from] if load_from is not None and resume != "auto" else []
    with suppress(CheckpointError):  # reported when the checkpoint is loaded
        paths = paths or list_candidates(work_dir)
    for path in paths:
        with suppress(CheckpointError):
            seed = read_contents(path).meta.get("seed", "")
            if seed.isdecimal():
                return int(seed)
    return None
