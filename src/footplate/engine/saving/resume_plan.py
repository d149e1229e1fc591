"""Selects the checkpoint that a run starts from."""

import logging
import os
from contextlib import suppress
from typing import Any, Literal, NamedTuple

from footplate.checkpoint import list_candidates, load_newest, read_pointer
from footplate.checkpoint.contents import read_outline
from footplate.distributed import compute_on_main
from footplate.engine.saving.state import part_of
from footplate.errors import CheckpointError

Prepared = Literal["nothing", "weights", "run"]
"""What a run has when training or an evaluation is about to begin:

- "nothing": the weights are neither loaded nor used, or loading has failed halfway.
- "weights": the script has loaded them, or an evaluation has used them.
- "run": the run has resumed, or its training has begun.
"""
_logger = logging.getLogger("footplate.engine")


class StartingPoint(NamedTuple):
    """The checkpoint that a run starts from.

    Attributes:
        path: The path or address.
        resuming: Whether the run resumes from the checkpoint, rather than only taking its weights.
        key: The setting that contains the path, for errors, or "" if the path comes from the search.
        content: The content of the file on the CPU, if the search on this rank has read it.
    """

    path: str
    resuming: bool
    key: str = ""
    content: dict[str, Any] | None = None


class ResumePlan:
    """Selects the checkpoint that a run starts from.

    A run that has resumed or trained continues as it is. Weights that the script has loaded, or that an evaluation has
    used, are kept too, with two exceptions, so that a job can rerun a script that loads weights:

    - If torchrun has restarted the process, training first resumes from the run's newest checkpoint, if it has saved
      one, regardless of `load_from`, `resume` and the script.
    - With `resume="auto"`, training resumes if there is a checkpoint, even if weights are loaded.

    All ranks must create the plan together.

    Args:
        home: The run's checkpoint folder.
        load_from: The checkpoint set by the user.
        resume: Whether and from where to resume; see `Runner`.
        takes_settings: Whether a resumed run uses the optimizer settings from the config and not from the checkpoint.

    Attributes:
        option: The option that resumes the run, for messages. First-generation runners replace it.
        key: The setting that contains `load_from`, for errors. First-generation runners replace it.
        is_restarted: Whether torchrun has restarted the process after the run's first save, and training has not
            resumed yet.
    """

    option = "--resume (resume=True)"
    key = "load_from"

    def __init__(self, home: str, load_from: str | None, resume: bool | str, *, takes_settings: bool) -> None:
        self.home = home
        self.load_from = load_from
        self.resume = resume
        self.takes_settings = takes_settings
        restarts = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        # `home` contains no checkpoints of other runs, because a run refuses to start in such a folder.
        self.is_restarted = restarts != "0" and compute_on_main(lambda: read_pointer(home) is not None)
        if restarts != "0":
            _logger.warning(
                "torchrun restarted this process (restart %s of %s). Training %s.",
                restarts,
                os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0"),
                "resumes from the run's newest checkpoint"
                if self.is_restarted
                else "starts over, because the run has not saved a checkpoint yet",
            )

    def find(self, prepared: Prepared = "nothing", *, for_training: bool) -> StartingPoint | None:
        """Returns the checkpoint to load, or None to keep what the run has. All ranks must call it.

        The search for the newest complete checkpoint has to read files to verify them (see `load_newest`). On rank 0,
        the result therefore includes the content, so that the file is not read twice.
        """
        load_from, resume = self.load_from, self.resume
        if for_training and self.is_restarted:
            load_from, resume = None, True
        elif prepared == "run":
            return None
        elif prepared == "weights":
            if not (for_training and resume == "auto"):
                return None
            load_from = None
        configured = None if load_from is None else StartingPoint(load_from, resume is True, self.key)
        if not resume or (configured and configured.resuming):
            return configured

        content = None

        def search() -> str | None:
            nonlocal content
            path, content = load_newest(self.home) or (None, None)
            return path

        if path := compute_on_main(search):
            return StartingPoint(path, resuming=True, content=content)
        # With "auto", a job can use the same command to start and to restart. With True, an earlier run is expected.
        level = logging.INFO if resume == "auto" else logging.WARNING
        beginning = f"with the weights of {self.key}" if configured else "from the beginning"
        beginning = "with the loaded weights" if prepared == "weights" else beginning
        _logger.log(level, "Found no checkpoint to resume from in %s. The run starts %s.", self.home, beginning)
        return configured

    def seed(self, configured: int | None) -> int | None:
        """Returns the seed of the run to resume, or `configured` if no run is resumed or its checkpoint has no seed.

        The seed determines the order of the data. With a new one, the rest of an interrupted epoch would repeat some
        samples and skip others. Unlike `find`, does not verify the checkpoint, because all checkpoints of a run
        have the same seed.
        """
        if not (self.resume or self.is_restarted):
            return configured
        load_from = None if self.resume == "auto" or self.is_restarted else self.load_from
        with suppress(CheckpointError):  # reported when the checkpoint is loaded
            for path in list_candidates(self.home) if load_from is None else [load_from]:
                with suppress(CheckpointError):
                    seed = str(part_of(read_outline(path).content, "meta").get("seed"))
                    if seed.isdecimal():
                        if configured not in (None, int(seed)):
                            _logger.warning(
                                "The run resumes with the checkpoint's seed %s instead of %s.", seed, configured
                            )
                        return int(seed)
        return configured
