"""Plans the batches of a pass over the data.

A pass can start at any batch and has the same number of batches on every rank.
"""

import copy
import logging
import operator
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice, repeat
from typing import Any, NamedTuple

import torch
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler

from footplate.data.loader_attributes import is_stateful
from footplate.data.rng import mix_seed, with_separate_generators
from footplate.data.samplers import (
    RANDOM_SAMPLERS,
    DefaultSampler,
    RankSampler,
    can_start_anywhere,
    content_of,
    generators_of,
    is_custom,
    samplers_of,
    set_epoch,
)
from footplate.distributed import get_rank, get_world_size

_logger = logging.getLogger("footplate.data")


class BatchKey(NamedTuple):
    """The sample indices of a batch, and their positions in the global order."""

    epoch: int
    positions: range
    indices: Sequence[Any]
    is_single: bool = False  # a single sample, not wrapped in a list


def _plain(key: BatchKey) -> list[Any]:
    """Returns the indices of a batch, of which some samplers make tensors or numpy numbers."""
    return [operator.index(index) if hasattr(index, "__index__") else index for index in key.indices]


class BatchPlan:
    """Plans which samples each batch of a pass contains, and which batches are padding; see `SampleLoader.is_padding`.

    Call `begin` before each pass. Example: 8 samples, 3 ranks and a batch size of 2, after `drop_padding`, so that
    `unpadded_count` is 8:

    | rank | positions in batch 0 | positions in batch 1 | is batch 1 padding? |
    |---|---|---|---|
    | 0 | 0, 3 | 6 | no |
    | 1 | 1, 4 | 7 | no |
    | 2 | 2, 5 | 8: a repeated sample | yes |

    Args:
        loader: The loader that provides the samplers and batch size. The plan keeps no reference to it: a reference
            cycle would delay joining each persistent worker by seconds.
        seed: The seed for samplers that draw random numbers.
        limit: The maximum number of batches per pass.

    Attributes:
        custom_samplers: The samplers whose order could depend on anything other than seed and epoch; see `is_custom`.
        batch_size: The number of items in a full batch. An item is what the sampler yields: a sample or, with a custom
            batch sampler, a whole batch, so that the batch size is 1.
        unpadded_count: The number of items that all ranks together read in a pass, or None if some may be read twice.
            Items in batches that are padding do not count. Set by `drop_padding`.
        world_size: The number of ranks that the samples are split across.
        ends_at_length: Whether a pass ends at the plan's length, even if the samplers yield more, as in epoch-based
            training.
        passes_continue: Whether `limit` splits an endless sampler, so that each pass continues where the previous one
            ended.
    """

    def __init__(self, loader: DataLoader[Any], *, seed: int, limit: int | None) -> None:
        self.seed = seed
        self.limit = limit
        self.ends_at_length = False
        self._rank = get_rank()
        self.world_size = get_world_size()
        self.unpadded_count: int | None = None
        self._configured: dict[int, dict[str, Any]] = {}  # the contents of torch's random samplers, by their id
        self.update(loader)
        if getattr(self.sampler, "round_up", True) is False:
            self.drop_padding()
        # For changing samplers: the number of passes begun so far, the samplers' states at the start of the latest one,
        # and the latest keys that have been drawn in it. Workers draw batches that the run has not used yet.
        self._begun_passes = 0
        self._states: list[Any] | None = None
        self._drawn: deque[tuple[int, BatchKey]] = deque()
        self._most_ahead = loader.num_workers * (loader.prefetch_factor or 0) + 1
        self._is_exhausted = False
        self._resumed: Mapping[str, Any] = {}  # the state to restore once the next pass has drawn its earlier batches

    def update(self, loader: DataLoader[Any]) -> None:
        """Reads the loader's samplers and batch size, which hooks may change between two passes."""
        self.batch_sampler: Any = loader.batch_sampler
        # The user may have passed a plain BatchSampler, whose settings the loader lacks. Otherwise, both have the same.
        batching: Any = self.batch_sampler if type(self.batch_sampler) is BatchSampler else loader
        self.sampler: Any = batching.sampler
        self.batch_size = batching.batch_size or 1
        self.drop_last = batching.drop_last
        self._has_own_batches = batching is loader and self.batch_sampler is not None
        self.samplers = samplers_of(loader)
        self.custom_samplers = [sampler for sampler in self.samplers if is_custom(sampler)]
        self._changing = [each for each in self.samplers if is_custom(each) or type(each) in RANDOM_SAMPLERS]
        for sampler in self._changing:
            self._configured.setdefault(id(sampler), content_of(sampler))
        self._custom_names = ", ".join(type(sampler).__name__ for sampler in self.custom_samplers)
        is_endless = bool(getattr(self.sampler, "endless", False)) and not self.custom_samplers
        self.passes_continue = self.limit is not None and is_endless
        if not self.repeats_samples:
            self.drop_padding()

    @property
    def repeats_samples(self) -> bool:
        """Whether samples may be read twice, so that all ranks read the same number; see `drop_padding`."""
        return self.unpadded_count is None

    def drop_padding(self) -> None:
        """Drops the samples and batches that known samplers repeat as padding; see `SampleLoader.drop_padding`."""
        sampler = self.batch_sampler if self._has_own_batches else self.sampler
        if isinstance(sampler, DefaultSampler) and can_start_anywhere(sampler):
            self.unpadded_count = sampler.size
        elif isinstance(sampler, RankSampler):
            self.unpadded_count = len(sampler.sampler)
        elif isinstance(sampler, DistributedSampler):
            self.unpadded_count = min(len(sampler.dataset), sampler.total_size)  # type: ignore[arg-type]

    def begin(self, epoch: int) -> None:
        """Prepares the samplers for a pass. Replays earlier passes of custom samplers, without reading data.

        Args:
            epoch: The index of the pass.
        """
        if self._changing:
            passes = epoch - self._begun_passes if self.custom_samplers else 0
            if passes > 0:
                message = "Restoring %s by replaying earlier passes without reading data (passes: %d)."
                _logger.info(message, self._custom_names, passes)
            for earlier in range(epoch - passes, epoch):
                set_epoch(self.samplers, earlier)
                for _ in self.keys(earlier):
                    pass
            self._begun_passes = max(self._begun_passes, epoch + 1)
            self._states = self._sampler_states()
            self._drawn.clear()  # in case the run is saved before the new pass is drawn
            self._is_exhausted = False
        else:
            self._resumed = {}
        set_epoch(self.samplers, epoch)

    def state_dict(self, epoch: int, batch: int) -> dict[str, Any]:
        """Returns the state from which the samplers continue with batch `batch` of the pass with index `epoch`.

        | key | value |
        |---|---|
        | `start` | the samplers' states at the start of the pass, from which a resumed run draws the pass again |
        | `now` | their present states, which hooks may have changed; they follow the batches in `drawn` |
        | `drawn` | the indices of the batches that have been drawn, but not used yet |
        | `is_exhausted` | whether the samplers have ended the pass |
        | `last` | if a custom sampler is stateless, instead of the others: the indices of the last used batch |
        """
        if self._resumed:  # the resumed pass has not been replayed yet
            return dict(self._resumed)
        is_stateless = not all(map(is_stateful, self.custom_samplers))
        if self._begun_passes <= epoch:
            states = None if is_stateless else self._sampler_states()
            return {"start": states} if states else {}
        if is_stateless:
            return {"last": [_plain(key) for number, key in self._drawn if number == batch - 1]}
        drawn = [_plain(key) for number, key in self._drawn if number >= batch]
        start, now = self._states, self._sampler_states(self._states)
        place = {"drawn": drawn, "is_exhausted": self._is_exhausted}
        return {"start": start, "now": now, **place} if start or now else {}

    def load_state_dict(self, state: Mapping[str, Any], epoch: int) -> None:
        """Restores the state that `state_dict` returned. If the samplers do not match it, only logs a warning.

        Restores the samplers to the start of pass `epoch`. As soon as the pass has been drawn up to its position again,
        `keys` restores them to the rest of the state.
        """
        self._resumed = state
        if self._load_sampler_states(state.get("start")):
            self._begun_passes = epoch  # otherwise, `begin` replays the earlier passes

    def _load_sampler_states(self, states: Sequence[Any] | None) -> bool:
        """Restores the states that `_sampler_states` returned. Returns False if there are none, or if they differ."""
        if not states:
            return False
        if len(states) != len(self._changing) or not all(map(is_stateful, self.custom_samplers)):
            _logger.warning(
                "The sampler differs from the one in the checkpoint. Ignoring the saved "
                "sampler state. The run is no longer bit-identical to an uninterrupted run."
            )
            return False
        for sampler, state in zip(self._changing, states, strict=True):
            if is_custom(sampler):
                sampler.load_state_dict(copy.deepcopy(state))
            elif state is not None:
                vars(sampler).update(copy.deepcopy(state))
        return True

    def __len__(self) -> int:
        if self.passes_continue and self.limit is not None:
            return self.limit
        if self.unpadded_count is None:
            length = len(self.sampler if self.batch_sampler is None else self.batch_sampler)
        elif self.drop_last:  # only batches that are full on every rank
            length = self.unpadded_count // self.world_size // self.batch_size
        else:  # all batches for which any rank has a sample
            length = -(-self.unpadded_count // (self.world_size * self.batch_size))
        return length if self.limit is None else min(length, self.limit)

    def keys(self, epoch: int, start: int = 0, *, is_read: bool = False) -> Iterator[BatchKey]:
        """Yields the key of each batch in a pass. `begin` must have prepared the samplers for this pass.

        In the example, rank 1 yields the samples at `range(1, 7, 3)` and then the sample at `range(7, 10, 3)`.

        Args:
            epoch: The index of the pass.
            start: The index of the first batch.
            is_read: Whether the batches are read, so that the state of the samplers is that of this pass.
        """
        batches = self._batches(epoch, start)
        if is_read and self._changing:
            batches = self._record(epoch, start)
        # Without repeated samples, the pass must end before the padding that the samplers yield.
        end = len(self) if self.ends_at_length or not self.repeats_samples else self.limit
        for number, key in enumerate(self._with_own_generators(batches, epoch), start):
            if number == end:
                if self.custom_samplers and epoch == 0 and self.limit is None:
                    _logger.warning(
                        "%s yields more samples than its length specifies. Each epoch ends after %d batches.",
                        self._custom_names,
                        end,
                    )
                return
            yield key

    def _record(self, epoch: int, start: int) -> Iterator[BatchKey]:
        """Yields the keys of the batches from `start` on, and records them. Restores the state of a resumed pass."""
        resumed = self._resumed
        last, drawn = resumed.get("last"), resumed.get("drawn", ())
        repeated = bool(resumed and start)
        batches = self._batches(epoch, start - repeated)
        latest = [*map(_plain, islice(batches, repeated))]
        if last and get_rank() == 0 and latest != last:
            _logger.warning(
                "%s draws other samples than before the resume, so the run is no longer bit-identical to an "
                "uninterrupted run. Give the sampler a state_dict and a load_state_dict.",
                self._custom_names,
            )
        # Also draws what follows the last batch, if the samplers had drawn it.
        replayed = list(islice(batches, len(drawn) + bool(resumed.get("is_exhausted"))))
        if self.world_size == 1:  # otherwise, the indices are those of rank 0
            replayed = [key._replace(indices=indices) for key, indices in zip(replayed, drawn, strict=False)]
        self._load_sampler_states(resumed.get("now"))
        self._drawn.extend(enumerate(replayed, start))
        self._resumed = {}
        yield from replayed
        for number, key in enumerate(batches, start + len(replayed)):
            self._drawn.append((number, key))
            while self._drawn[0][0] < number - self._most_ahead:
                self._drawn.popleft()
            yield key
        self._is_exhausted = True

    def _with_own_generators(self, batches: Iterator[BatchKey], epoch: int) -> Iterator[BatchKey]:
        """Yields `batches`, whose samplers draw from separate random generators."""
        seed = mix_seed(self.seed, epoch)
        seeds = {generator: mix_seed(generator.initial_seed(), epoch) for generator in generators_of(self.samplers)}
        if self.custom_samplers or seeds:
            yield from with_separate_generators(batches, seed, seeds)
        else:  # these samplers draw only before their first index
            yield from with_separate_generators(islice(batches, 1), seed, seeds)
            yield from batches

    def padding_flags(self, start: int) -> Iterator[bool]:
        """Yields whether each batch in a pass from `start` on is padding; see `SampleLoader.is_padding`."""
        if self.repeats_samples:
            return repeat(False)
        return (number * self.batch_size >= self._local_count for number in count(start))

    @property
    def _local_count(self) -> int:
        """The part of `unpadded_count` that this rank reads.

        In the example in the class docstring, the three ranks have 3, 3 and 2 samples.
        """
        return len(range(self._rank, self.unpadded_count or 0, self.world_size))

    def _sampler_states(self, start: Sequence[Any] | None = None) -> list[Any] | None:
        """Returns the states of the samplers that may change, or None if there are none.

        Hooks may change the weights or indices of torch's random samplers. These are saved only if changed (or saved in
        `start`), so that new weights in the config of a resumed run take effect.
        """
        states: list[Any] = []
        samplers = self._changing if all(map(is_stateful, self.custom_samplers)) else ()
        for sampler, at_start in zip(samplers, start or repeat(None), strict=False):
            if is_custom(sampler):
                states.append(copy.deepcopy(sampler.state_dict()))
            else:
                content = content_of(sampler)
                pairs = zip(content.values(), self._configured[id(sampler)].values(), strict=True)
                # A hook may use tensors of another type or device.
                numbers = ([torch.as_tensor(each).cpu().double() for each in pair] for pair in pairs)
                is_changed = not all(torch.equal(one, two) for one, two in numbers)
                states.append(content if is_changed or at_start is not None else None)
        return states if any(state is not None for state in states) else None

    def _batches(self, epoch: int, start: int) -> Iterator[BatchKey]:
        """Yields the keys of the batches from `start` on, even beyond the end of the pass."""
        earlier = 0  # the number of samples that this rank has read before the batch
        if self._has_own_batches:
            for number, indices in enumerate(self.batch_sampler):
                if number >= start:
                    yield self._key(epoch, earlier, indices)
                earlier += len(indices)
            return
        earlier_passes = epoch * (self.limit or 0) if self.passes_continue else 0
        earlier = (earlier_passes + start) * self.batch_size
        if can_start_anywhere(self.sampler):
            order = self.sampler.iterate_from(earlier)
        else:
            order = islice(iter(self.sampler), earlier, None)
        while batch := list(islice(order, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            if not self.repeats_samples:  # except for one sample in a batch that is padding
                batch = batch[: max(self._local_count - earlier, 1)]
            yield self._key(epoch, earlier, batch)
            earlier += self.batch_size

    def _key(self, epoch: int, earlier: int, indices: Sequence[Any]) -> BatchKey:
        step = self.world_size
        first = self._rank + earlier * step
        positions = range(first, first + len(indices) * step, step)
        return BatchKey(epoch, positions, indices, is_single=self.batch_sampler is None)
