"""Saves runs and loads checkpoints."""

import copy
import logging
import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from torch.nn.parallel import DataParallel, DistributedDataParallel

from footplate import storage
from footplate.checkpoint import (
    LoadReport,
    Saved,
    is_written_by_footplate,
    list_candidates,
    load_checkpoint,
    load_weights,
    relocate,
)
from footplate.checkpoint.run_checkpoints import find_newest
from footplate.checkpoint.serializable import gather_full_state
from footplate.checkpoint_names import BEST, is_sharded_path
from footplate.distributed import compute_on_ranks, get_rank, initialize_weights, is_main_process, unwrap_model
from footplate.distributed.sharding import is_sharded, reshard
from footplate.engine.saving import state
from footplate.engine.saving.resume_plan import Prepared
from footplate.engine.values.position import Position
from footplate.error_context import at_key, located
from footplate.errors import ArgumentError, CheckpointError, NonFiniteError
from footplate.evaluation.evaluation_sets import check_classes, sets_of
from footplate.messages import first_line
from footplate.models import trained_model

if TYPE_CHECKING:
    from footplate.engine.run.runner import Runner

_logger = logging.getLogger("footplate.engine")


class CheckpointIO:
    """Saves a run, and prepares its weights: initializes them, and loads checkpoints into them.

    Training initializes the weights first, and then loads the checkpoint. Evaluation only loads the checkpoint, because
    `init_cfg` may refer to files that only training needs. Training after an evaluation initializes only the tensors
    that were not in the checkpoint.

    Subclasses may override the runner's methods, so loading goes through them. Each one calls the method here with the
    same name, and `Runner.load_checkpoint` calls `load_weights`:

        Runner.load_or_resume         before training and evaluation: loads what `ResumePlan.find` returns, if anything
          Runner.load_checkpoint      if the run does not resume
          Runner.resume               if it resumes
            Runner.build_training     calls `initialize`, unless training has already been built
            Runner.load_checkpoint    reads the file, calls `after_load_checkpoint`, loads weights, resets the average
            state.restore             restores position, optimizer, schedules, message hub, history and hooks
        TrainingRandomState.restore   when the training loop begins: `resume` only sets the state

    MMEngine fixes the signatures of these methods and of hooks, and overrides may change or copy a path or checkpoint.
    Other facts are therefore state: `Activity.is_resuming` while a run loads the checkpoint that it resumes from, and
    the content that the search has read.

    Args:
        runner: The runner.

    Attributes:
        report: A report about the most recently loaded weights, or None.
        prepared: What the run has; see `Prepared`.
    """

    def __init__(self, runner: "Runner") -> None:
        # A weak reference, so that deleting a runner without loops frees its model at once. Loops refer to the runner.
        self._reference = weakref.ref(runner)
        self.report: LoadReport | None = None
        self.prepared: Prepared = "nothing"
        self._loaded: set[str] = set()  # the names of all tensors that have been loaded
        self._contents: dict[str, dict[str, Any]] = {}  # what the search has read, by path, until it is loaded

    @property
    def _runner(self) -> "Runner":
        return self._reference()  # type: ignore[return-value]

    def save(
        self,
        path: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: Mapping[str, Any] | None = None,
        background: bool = False,
        home: str | None = None,
    ) -> None:
        """Saves the current state of the run; see `Runner.save_checkpoint`.

        Args:
            path: The file or folder.
            save_optimizer: Whether to include the optimizer state.
            save_param_scheduler: Whether to include the state of the schedules.
            meta: Additional entries for the checkpoint's `meta`.
            background: Whether to return as soon as the state is copied, and write the file in the background. In this
                case, or if the model or the checkpoint is sharded, all ranks must call this method.
            home: The folder whose pointer is updated, or None; see `SaveRequest`.
        """
        runner = self._runner
        parts = runner.parts
        reshard(parts.model)
        models = {"weights": unwrap_model(parts.model), "averaged weights": parts.average}
        on_all_ranks = background or is_sharded(parts.model) or is_sharded_path(path)
        check = partial(runner.nonfinite.check_before_save, runner, models)
        try:
            if on_all_ranks:
                compute_on_ranks(check)
            else:
                check()
        except NonFiniteError as error:
            if runner.nonfinite.loss_policy == "stop":
                raise
            _logger.error("%s", error)
            runner.saver.failure = first_line(error)
            runner.call_hook("after_save_checkpoint", saved=Saved(path, error))
            return
        parts.module_attributes.warn_of_lost_tensors()
        if on_all_ranks:
            runner.requests.exchange()  # so that those of all ranks are saved
        checkpoint = state.collect(
            parts,
            {**runner.checkpoint_meta, **(meta or {})},
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            on_all_ranks=on_all_ranks,
        )
        runner.call_hook("before_save_checkpoint", checkpoint=checkpoint)
        if not is_sharded_path(path):  # one rank writes the file, with the shards of all ranks
            if is_sharded(parts.model):
                checkpoint = gather_full_state(checkpoint)
            if not is_main_process():
                return
        is_complete = save_optimizer and save_param_scheduler
        becomes_last = home is not None or (is_complete and not storage.base_name(path).startswith(BEST))
        runner.saver.save(checkpoint, path, home=home, becomes_last=becomes_last)
        if not background:
            runner.saver.wait()

    def initialize(self) -> None:
        """Initializes the model's weights, except for those that have been loaded. Skips plain torch modules."""
        runner = self._runner
        if runner.is_plain:  # initialized by the caller
            return
        model = trained_model(runner.model)
        loaded = copy.deepcopy(model.state_dict()) if self._loaded else {}
        for name in loaded.keys() - self._loaded:
            del loaded[name]
        with at_key("model"):
            changes_trainable = initialize_weights(runner.model)
        if loaded:
            model.load_state_dict(loaded, strict=False)
        if changes_trainable and isinstance(runner.model, DataParallel | DistributedDataParallel):
            runner.model = runner.wrap_model(runner.plan["model_wrapper_cfg"], runner.model.module)

    def load_weights(
        self, name: str, map_location: str, *, strict: bool, revise_keys: Sequence[tuple[str, str]]
    ) -> dict[str, Any]:
        """Loads the weights of a checkpoint and returns the checkpoint; see `Runner.load_checkpoint`."""
        runner = self._runner
        path = self._find(name)
        is_resuming = runner.activity.is_resuming
        model = trained_model(runner.model)
        checkpoint = self._contents.pop(path, None)
        if checkpoint is None or map_location != "cpu":
            checkpoint = load_checkpoint(path, map_location, like=model, in_place=is_resuming)
        runner.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        try:
            self.report = load_weights(model, checkpoint, strict=strict, revise_keys=revise_keys, name=path)
        except CheckpointError as error:
            if is_resuming and runner.hooks.at("before_save_checkpoint"):
                error.notes += (
                    "If a hook removes weights in before_save_checkpoint, add them in after_load_checkpoint.",
                )
            raise
        self._loaded.update(self.report.loaded)
        if hook := runner.hooks.swapping:
            hook.reset_average(runner)
        if self.prepared == "nothing":
            self.prepared = "weights"
        if "train_loop" not in runner.built:  # which counts them otherwise
            meta = _meta_of(checkpoint)
            counts = {key: meta[key] for key in ("iter", "epoch") if isinstance(meta.get(key), int)}
            runner.position = Position(**counts)
        return checkpoint

    def _find(self, name: str) -> str:
        """Returns the path of a checkpoint, which may be "newest" or "best"; see `Runner.load_checkpoint`."""
        if name == "best":
            return self._find_best()
        home = self._runner.folder.home
        path = find_newest(home) if name == "newest" else name
        if path is None:
            raise ArgumentError(f"there is no intact checkpoint of a run in '{home}'", found="newest")
        return path

    def _find_best(self) -> str:
        """Returns the path of the best checkpoint.

        If training ran in another process, reads the path from the newest checkpoint. Also checks the best checkpoints,
        because they are written after validation and can be newer than the regular checkpoint of the same epoch.

        Raises:
            ArgumentError: There is no best checkpoint.
            CheckpointError: A checkpoint cannot be read.
        """
        runner = self._runner
        if path := runner.message_hub.get_info("best_ckpt"):
            return str(path)
        home = runner.folder.home
        candidates = []
        names = storage.list_dir(home) if storage.exists(home) else []
        best = [storage.join(home, name) for name in names if name.startswith(BEST)]
        for file in [*list_candidates(home)[:1], *filter(is_written_by_footplate, best)]:  # not an exported model
            checkpoint = load_checkpoint(file, "meta", in_place=True)
            if name := state.part_of(checkpoint, "message_hub", "runtime_info").get("best_ckpt"):
                saved_at = (_meta_of(checkpoint).get("iter", 0), file in best)
                candidates.append((saved_at, relocate(name, storage.parent(file))))
        if not candidates:
            raise ArgumentError(
                f"there is no best checkpoint in '{home}'",
                found="best",
                notes=[
                    "First train with `save_best` in CheckpointHook or, in a first-generation config, in `evaluation`."
                ],
            )
        _, path = max(candidates, key=itemgetter(0))
        return path

    def resume(self, name: str, map_location: str, *, optimizer: bool, param_schedulers: bool) -> None:
        """Restores the run; see `Runner.resume`."""
        runner = self._runner
        path = self._find(name)
        report = self.report
        with runner.activity.resuming():
            checkpoint = runner.load_checkpoint(path, "cpu" if map_location == "default" else map_location, True)
        self.prepared = "nothing"  # if restoring the rest fails, the next attempt loads the weights again
        if "ema_state_dict" in checkpoint and self.report is report:
            name = f"{type(runner).__name__}.load_checkpoint"
            note = f"In {name}, call super().load_checkpoint, and return its result."
            raise CheckpointError(f"{name} has loaded the averaged weights, not the training weights", notes=[note])
        keeps_schedules = optimizer and param_schedulers and not runner.resume_plan.takes_settings
        state.restore(
            runner.parts,
            runner.checkpoint_meta,
            checkpoint,
            optimizer=optimizer,
            param_schedulers=keeps_schedules,
            takes_settings=runner.resume_plan.takes_settings,
        )
        runner.random_state.load_state_dict(state.random_of(checkpoint, get_rank()))
        self.prepared = "run"
        runner.saver.last = path
        infos = runner.message_hub.runtime_info
        for key, value in infos.items():
            if key.startswith(("best_ckpt", "last_ckpt")) and isinstance(value, str):
                infos[key] = relocate(value, storage.parent(path))
        _logger.info("Resumed from %s at epoch %d, iteration %d.", path, runner.epoch, runner.iter)

    def load_or_resume(self, *, whole_model: bool, for_training: bool) -> None:
        """Loads the checkpoint that `ResumePlan.find` returns, if any.

        With `whole_model`, checks that the checkpoint has all tensors of the model.
        """
        runner = self._runner
        plan = runner.resume_plan
        if start := plan.find(self.prepared, for_training=for_training):
            self._contents = {} if start.content is None else {start.path: start.content}
            with located(runner.cfg), runner.folder.buffered_log():
                checkpoint = {}
                with at_key(start.key):
                    if start.resuming:
                        with runner.activity.resuming():  # a user's `resume` may call `load_checkpoint` itself
                            runner.resume(start.path)
                    else:
                        checkpoint = runner.load_checkpoint(start.path)
                self._contents.clear()  # if a method of the user has loaded another file
                if whole_model and self.report is not None:
                    self.prepared = "nothing"  # if a check fails, the next attempt loads the checkpoint again
                    with at_key(start.key):
                        self.report.require_whole_model()
                    trained = _meta_of(checkpoint).get("dataset_meta")
                    check_classes(trained, sets_of(runner.built.get("test_loop")), "test")
            self.prepared = "run" if start.resuming else "weights"
        if for_training:
            self.prepared, plan.is_restarted = "run", False
        elif self.prepared == "nothing":
            self.prepared = "weights"  # without a checkpoint, those that the evaluation uses


def _meta_of(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the metadata of a checkpoint, or an empty dict if it is missing or, as in some engines, not a dict."""
    meta = checkpoint.get("meta")
    return meta if isinstance(meta, Mapping) else {}
