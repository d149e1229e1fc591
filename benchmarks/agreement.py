"""Checks that 1, 2 and 4 processes train the same weights. Each row is a run of 50 iterations in float64 on the CPU.

    python -m benchmarks.agreement                     # the whole table, about 5 minutes
    python -m benchmarks.agreement --worlds 2 --quick  # a few rows
    python -m benchmarks.agreement --resume            # saved on 2 processes, resumed on 1, 2, 3 and 4

Every run uses the same global batches of 12. The figure is the largest difference of any weight or averaged weight
from a single-process run without a wrapper, relative to the largest value of its tensor. With `--resume`, the
reference is the uninterrupted run, and the table also shows whether the same samples followed in the same order.
"""

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from tests.footplate.distributed.agreement import OPTIMIZERS, WRAPPERS, Case, difference, resumed, trained
from tests.footplate.distributed.processes import on_processes


def _all(cases: Iterable[Case], work_dir: str, iterations: int) -> list[dict[str, Tensor]]:
    return [trained(case, os.path.join(work_dir, str(number)), iterations) for number, case in enumerate(cases)]


def table(cases: list[Case], worlds: Iterable[int], iterations: int = 50) -> Iterator[tuple[Case, int, float]]:
    """Yields the difference from a single process without a wrapper, for each case and number of processes."""
    with tempfile.TemporaryDirectory() as folder:
        plain = _all(cases, os.path.join(folder, "plain"), iterations)
        for world in worlds:
            found = on_processes(world, _all, cases, os.path.join(folder, str(world)), iterations, timeout=600)[0]
            for case, mine, expected in zip(cases, found, plain, strict=True):
                yield case, world, difference(mine, expected)


def _print_resumed() -> int:
    worst = 0
    sys.stdout.write("model  opt.   accum.  norm       saved after  resumed on  same samples  largest difference\n")
    for wrapper, (accumulation, stop) in itertools.product(WRAPPERS, ((1, 9), (3, 9), (3, 8))):
        case = Case(wrapper, "AdamW", accumulation)
        for world, found, same in resumed(case, stop):
            worst |= not same or found > (0 if world == 2 else 1e-12)
            sys.stdout.write(f"{case}  {stop:>5}        {world:>5}       {'yes' if same else 'no':<12}  {found:.1e}\n")
            sys.stdout.flush()
    return worst


def main() -> int:
    """Prints the table; the exit code is 1 if a difference exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--quick", action="store_true", help="one optimizer, no SyncBN")
    parser.add_argument("--resume", action="store_true", help="how runs go on with other numbers of processes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.resume:
        return _print_resumed()
    names = ["AdamW"] if options.quick else list(OPTIMIZERS)
    cases = [Case(*each) for each in itertools.product(WRAPPERS, names, (1, 3))]
    if not options.quick:
        cases += [Case(wrapper, name, 1, sync_bn=True) for wrapper in WRAPPERS for name in OPTIMIZERS]
    sys.stdout.write("model  opt.   accum.  norm       processes  largest relative difference\n")
    worst = 0
    for case, world, found in table(cases, options.worlds, options.iterations):
        limit = 1e-10 if case.sync_bn else 1e-12
        worst |= found > limit
        sys.stdout.write(f"{case}  {world:>5}       {found:.1e} {'' if found <= limit else f'> {limit:g}'}\n")
        sys.stdout.flush()
    return worst


if __name__ == "__main__":
    sys.exit(main())
