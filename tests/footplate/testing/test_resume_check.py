"""`check_resume` names the cause of each planted fault, and finds none in a run that resumes exactly."""

from functools import partial

import pytest

from footplate.errors import FootplateError
from footplate.testing import RunsDifferError, check_resume, compare_runs
from tests.footplate.testing.faults import build, build_whole

# The first difference and the attribute that a resumed run does not restore, or a part of them.
EXPECTED = {
    "transform with a generator": ("the output of Crop", "dataset.transforms[0].rng of Crop"),
    "the same in a worker": ("the output of Crop", "dataset.transforms[0].rng of Crop"),
    "transform with a memory": ("the output of Jitter", "dataset.transforms[0].last of Jitter"),
    "dataset with a generator": ("the output of the dataset", "dataset.generator of OwnGenerator"),
    "cache that fills itself": ("the output of the dataset", "dataset.cache of FillingCache"),
    "sampler that shuffles by time": ("the samples of iteration 1: ", None),
    "sampler that shuffles by a count": ("the samples of iteration ", "sampler.passes of ShufflesByCount"),
    "memory in an attribute": ("losses of iteration ", "model.memory of Memory"),
    "buffer that is not saved": ("weights of iteration ", "model.mean of LostBuffer"),
    "module with a generator": ("losses of iteration ", "model.layers.2.rng of OwnDropout"),
    "hook with a counter": ("the checkpoint after iteration ", "hooks[3].count of CountingHook"),
    "hook that counts validations": ("iteration ", "hooks[3].seen of Patience"),
    "generator of a Python module": ("layers.0.weight", None),
    "metric with a memory": ("metrics of the validation after iteration ", "metrics[0].all of RunningMetric"),
    "optimizer wrapper with a factor": ("layers.0.weight", "optim_wrapper.factor of NoisyWrapper"),
}
_OF_TWO_RUNS = ("sampler that shuffles by time",)


def test_a_run_that_is_killed_in_each_phase_equals_an_uninterrupted_one() -> None:
    report = check_resume(build)
    assert report.iterations == 12
    assert report.kills
    assert report.lost == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", EXPECTED)
def test_the_cause_of_a_planted_fault_is_named(fault: str) -> None:
    with pytest.raises(RunsDifferError) as caught:
        check_resume(partial(build, fault=fault), kills=4)
    what, cause = EXPECTED[fault]
    assert what in caught.value.difference.what
    assert cause is None or cause in caught.value.difference.causes
    assert str(caught.value).startswith(
        "Two uninterrupted runs differ" if fault in _OF_TWO_RUNS else "The resumed run differs"
    )


@pytest.mark.slow
def test_an_attribute_without_effect_is_only_listed() -> None:
    assert check_resume(partial(build, fault="cache without effect")).lost == ["dataset.sizes of SlowCache"]


@pytest.mark.slow
def test_two_processes_resume_exactly() -> None:
    assert check_resume(build, processes=2).kills


@pytest.mark.slow
def test_workers_do_not_change_a_run() -> None:
    compare_runs(build, partial(build, num_workers=2))


@pytest.mark.slow
def test_one_and_two_processes_read_the_same_samples() -> None:
    compare_runs(build, partial(build, batch_size=2), processes=(1, 2))
    with pytest.raises(RunsDifferError, match="samples of iteration 1: "):
        compare_runs(build, build, processes=(1, 2))  # with twice the total batch size


def test_runs_with_different_seeds_differ_in_the_order_of_their_samples() -> None:
    with pytest.raises(RunsDifferError, match="the samples of iteration 1: .* instead of"):
        compare_runs(partial(build_whole, seed=1), partial(build_whole, seed=2))


def test_a_run_that_does_not_resume_is_refused() -> None:
    with pytest.raises(FootplateError) as caught:
        check_resume(build_whole)
    assert 'Pass `resume="auto"`.' in str(caught.value)


def test_a_function_that_cannot_be_imported_is_refused() -> None:
    with pytest.raises(FootplateError, match="Other processes cannot import `build`"):
        check_resume(lambda work_dir: build(work_dir))


def test_time_is_bounded() -> None:
    with pytest.raises(FootplateError, match="The time for the check was not enough"):
        check_resume(build, timeout=0.1)
