"""The formulas of a plan, which compute seconds and bytes from measurements; each formula states its source."""

import inspect
import math
from collections.abc import Callable
from statistics import NormalDist

_FIRST_BUCKET = 1 << 20  # bytes; torch's defaults
_BUCKET = 25 << 20


def exchange_seconds(size: float, devices: int, bandwidth: float, latency: float, passes: int = 2) -> float:
    """passes (n - 1) / n x bytes / bandwidth + min(passes (n - 1), 2 passes log2 n) x latency

    Exchanging `size` bytes among n devices in a ring. An all-reduce takes 2 passes, a reduce-scatter or an all-gather
    takes 1. The slowest link sets the bandwidth. With many devices, small messages go through trees.

    Source: Patarasuk, Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", Journal of Parallel
    and Distributed Computing 69 (2009); Sanders, Speck, Traeff, "Two-tree algorithms for full bandwidth broadcast,
    reduction and scan", Parallel Computing 35 (2009), for the logarithm.
    """
    if devices == 1:
        return 0.0
    hops = min(passes * (devices - 1), 2 * passes * math.log2(devices))
    return passes * (devices - 1) / devices * size / bandwidth + hops * latency


def bucket_count(size: float) -> int:
    """1 + ceil((bytes - 1 MiB) / 25 MiB), and 1 below 1 MiB

    The number of buckets that gradients are exchanged in. Each bucket is exchanged as soon as it is full.

    Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020,
    arXiv:2006.15704, section 3.2.3; the sizes are the defaults of DistributedDataParallel.
    """
    return 1 + max(math.ceil((size - _FIRST_BUCKET) / _BUCKET), 0)


def exposed_seconds(exchange: float, backward: float, buckets: int) -> float:
    """max(exchange / k, exchange - backward (k - 1) / k)

    The part of the exchange that does not overlap with the backward pass, with k buckets that fill one after another.
    The exchange of the last bucket never overlaps.

    Source: Li et al., arXiv:2006.15704, section 3.2.3, with pieces of equal size and cost.
    """
    return max(exchange / buckets, exchange - backward * (buckets - 1) / buckets)


def slowest_of(seconds: float, spread: float, devices: int) -> float:
    """seconds x (1 + spread x Q((n - 3/8) / (n + 1/4)))

    All devices wait for the slowest of n. `spread` is the standard deviation of step times as a share of their mean. Q
    is the quantile function of the normal distribution.

    Source: Blom, "Statistical Estimates and Transformed Beta-Variables" (1958), for the expected maximum of n normals.
    """
    if devices == 1:
        return seconds
    return seconds * (1 + spread * NormalDist().inv_cdf((devices - 0.375) / (devices + 0.25)))


def shared_cores(
    seconds: float, processes: int, threads: int, cores: int, crowding: float, switching: float = 1.0
) -> float:
    """seconds x max(1, load) x (1 + (crowding - 1) x min(1, (processes - 1) x threads / others)) x switching

    Processes on one machine share its cores: load = processes x threads / cores. Below load 1 they already share caches
    and memory. `crowding` is the measured slowdown of a step when all cores are busy. `others` are the cores that one
    process leaves free. `switching` is the measured slowdown at load 2 beyond the share of cores; it grows linearly
    from 1 at load 1. Steps on accelerators share nothing.

    Source: conservation of work; crowding and switching are measured and interpolated.
    """
    load = processes * threads / cores
    others = (processes - 1) * threads / (cores - threads) if cores > threads else float(processes > 1)
    switched = 1 + (switching - 1) * min(max(load - 1, 0.0), 1.0)
    return seconds * max(1.0, load) * (1 + (crowding - 1) * min(1.0, others)) * switched


def loading_seconds(seconds: float, batch: int, workers: int, step: float) -> float:
    """workers = 0: batch x seconds;  workers > 0: max(0, batch x seconds / workers - step)

    The wait for data. Without workers, it is the whole reading time. With workers, it is the reading time that does not
    overlap with a step.

    Source: bottleneck analysis, Denning, Buzen, "The Operational Analysis of Queueing Network Models", ACM Computing
    Surveys 10 (1978).
    """
    return batch * seconds if workers == 0 else max(0.0, batch * seconds / workers - step)


def replicated_bytes(weights: float, gradients: float, optimizer: float, activations: float) -> float:
    """weights + gradients + optimizer + activations

    The memory of a device that holds a full replica. Gradients are exchanged in place; they count twice with
    `gradient_as_bucket_view=False`.

    Source: Li et al., arXiv:2006.15704, section 4.2; the documentation of DistributedDataParallel.
    """
    return weights + gradients + optimizer + activations


def sharded_bytes(
    weights: float, gradients: float, optimizer: float, activations: float, unit: float, devices: int
) -> float:
    """(weights + gradients + optimizer) / n + 2 x unit + activations

    The memory of a device that holds one shard, and the gathered weights of the current unit and the next one.

    Source: Rajbhandari et al., "ZeRO", SC 2020, arXiv:1910.02054, section 5; Zhao et al., "PyTorch FSDP", VLDB 2023,
    arXiv:2304.11277, section 3.
    """
    return (weights + gradients + optimizer) / devices + 2 * unit + activations


def checkpoint_seconds(size: float, write_speed: float, writers: int) -> float:
    """bytes / (write speed x writers)

    One process writes a single file. Every node writes its share of a sharded checkpoint.

    Source: conservation of bytes.
    """
    return size / (write_speed * writers)


def efficiency(alone: float, together: float) -> float:
    """step time on one device / step time on n devices, each with the same batch

    Source: weak scaling, Gustafson, "Reevaluating Amdahl's law", Communications of the ACM 31 (1988).
    """
    return alone / together


FORMULAS: tuple[Callable[..., float], ...] = (
    exchange_seconds,
    bucket_count,
    exposed_seconds,
    slowest_of,
    shared_cores,
    loading_seconds,
    replicated_bytes,
    sharded_bytes,
    checkpoint_seconds,
    efficiency,
)


def describe_formulas() -> str:
    """Returns all formulas as text, each with its explanation and source."""
    told = (f"{each.__name__.replace('_', ' ')}\n{_indented(inspect.getdoc(each) or '')}" for each in FORMULAS)
    return "\n\n".join(told) + "\n"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
