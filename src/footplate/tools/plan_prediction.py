"""Predicts step time, efficiency, memory and checkpoint time from measurements and a cluster.

The formulas compute seconds and bytes. The docstring of each formula cites its source.
"""

import dataclasses
import inspect
import math
import textwrap
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

from footplate.errors import ArgumentError
from footplate.messages import format_bytes, labeled, pluralize

if TYPE_CHECKING:  # the measurements import torch, the formulas do not need it
    from footplate.tools.plan_measurements import Cluster, Measurements

_SHARDED_PASSES = 3  # an all-gather in each of forward and backward pass, and a reduce-scatter
_FIRST_BUCKET = 1 << 20  # in bytes, as in torch
_BUCKET = 25 << 20


class Prediction(NamedTuple):
    """The predicted cost of a step on a number of devices, in seconds, bytes and samples."""

    nodes: int
    devices: int  # devices on all nodes
    batch: int  # samples per step on all devices
    step: float
    compute: float  # seconds of forward, backward and update on the slowest device
    loading: float  # seconds of waiting for data
    exchange: float  # seconds of waiting for gradients or weights of other devices
    throughput: float  # samples per second
    efficiency: float  # step time on one device divided by the step time on all devices
    memory: float  # bytes on each device
    checkpoint: float  # seconds to write a checkpoint


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 0.1 or value == 0 else f"{1000 * value:.3g} ms"


def _bytes(value: float) -> str:
    return format_bytes(round(value))


# The title and the format of each field of a prediction, in the order of the fields.
_COLUMNS: dict[str, Callable[[Any], str]] = {
    "nodes": str,
    "devices": str,
    "batch": str,
    "step": _seconds,
    "compute": _seconds,
    "data": _seconds,
    "exchange": _seconds,
    "samples/s": lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}",
    "efficiency": lambda value: f"{100 * value:.1f} %",
    "memory": _bytes,
    "save": _seconds,
}


class Sharding(NamedTuple):
    """The numbers of devices that share weights and optimizer state."""

    shards: int | None = None  # devices that share a replica of the weights; by default, all with different batches
    tensor_parallel: int = 1  # devices that share each layer and train on the same batches

    @property
    def group(self) -> int:
        """The number of devices in a group. It must divide the number of devices in the cluster."""
        return (self.shards or 1) * self.tensor_parallel


def predict(parts: "Measurements", cluster: "Cluster", sharding: Sharding | None = None) -> Prediction:
    """Returns the predicted cost of a step.

    Args:
        parts: The measurements of one device.
        cluster: The machines.
        sharding: How weights and optimizer state are sharded. By default, every device has a replica.

    Raises:
        ArgumentError: The devices cannot be split into groups.
    """
    given = sharding or Sharding()
    if cluster.devices % given.group:
        raise ArgumentError(
            f"shards times tensor_parallel must divide the {cluster.devices} devices", found=given.group
        )
    split = given.tensor_parallel
    groups = cluster.devices // split  # groups of devices with different batches
    shards = given.shards or groups
    alone = parts.step + loading_seconds(parts.loading, parts.batch, parts.workers, parts.step)
    # Devices that share layers also share their weights and computations, but not their activations.
    weights = parts.layer_weights / parts.weights if parts.weights else 0.0
    shares = dict.fromkeys(("weights", "gradients", "optimizer", "largest_unit", "update"), weights)
    shares |= {"forward": parts.layer_share, "backward": parts.layer_share}
    divided: dict[str, Any] = {each: divided_among(getattr(parts, each), shares[each], split) for each in shares}
    here = dataclasses.replace(parts, **divided)
    if parts.on_cores:
        sharing = cluster.per_node, parts.threads, parts.cores, parts.crowding, parts.switching
        names = ("forward", "backward", "update", "loading")
        stretched: dict[str, Any] = {name: shared_cores(getattr(here, name), *sharing) for name in names}
        here = dataclasses.replace(here, **stretched)
    compute = slowest_of(here.step, parts.spread, cluster.devices)
    loading = loading_seconds(here.loading, parts.batch, parts.workers, compute)
    bandwidth, latency = cluster.inner_bandwidth, cluster.latency
    if cluster.nodes > 1:
        bandwidth = min(cluster.bandwidth, cluster.inner_bandwidth)
    elif parts.byte_seconds:
        crowd = max(1.0, cluster.per_node * parts.threads / parts.cores) if parts.on_cores else 1.0
        bandwidth, latency = 1 / (parts.byte_seconds * crowd), (parts.message_seconds or 0.0) * crowd

    def bandwidth_among(devices: int) -> float:
        fits_into_node = cluster.nodes > 1 and devices <= cluster.per_node
        return cluster.inner_bandwidth if fits_into_node else bandwidth

    if sharding is not None:
        within = bandwidth_among(shards * split)
        exchange = exchange_seconds(here.weights, shards, within, latency, _SHARDED_PASSES)
        exchange += exchange_seconds(here.gradients / shards, groups // shards, bandwidth, latency)
        pieces = math.ceil(here.weights / here.largest_unit) if here.largest_unit else 1
        concurrent = here.forward + here.backward
    else:
        exchange = exchange_seconds(here.gradients, groups, bandwidth, latency)
        pieces, concurrent = bucket_count(here.gradients), here.backward
    if concurrent and not parts.on_cores:  # cores cannot compute and exchange at the same time
        exchange = exposed_seconds(exchange, concurrent, pieces)
    if parts.layer_messages:
        message = parts.layer_bytes / parts.layer_messages
        exchange += parts.layer_messages * exchange_seconds(message, split, bandwidth_among(split), latency)
    step = compute + loading + exchange
    batch = parts.batch * groups
    replica = here.weights, here.gradients, here.optimizer, here.activations
    return Prediction(
        nodes=cluster.nodes,
        devices=cluster.devices,
        batch=batch,
        step=step,
        compute=compute,
        loading=loading,
        exchange=exchange,
        throughput=batch / step,
        efficiency=scaling_efficiency(alone, step * split),
        memory=sharded_bytes(*replica, here.largest_unit, shards) if sharding else replicated_bytes(*replica),
        checkpoint=checkpoint_seconds(parts.checkpoint, parts.write_speed, cluster.nodes if sharding else 1),
    )


def predict_growth(parts: "Measurements", cluster: "Cluster", sharding: Sharding | None = None) -> list[Prediction]:
    """Returns predictions for one device, one node, and doubling numbers of nodes up to the whole cluster.

    One device shares nothing. Other numbers of devices are left out if they cannot be split into groups. The arguments
    are those of `predict`.
    """
    sizes = []
    nodes = 1
    while nodes < cluster.nodes:
        sizes.append(dataclasses.replace(cluster, nodes=nodes))
        nodes *= 2
    sizes.append(cluster)
    group = sharding.group if sharding else 1
    alone = dataclasses.replace(cluster, nodes=1, per_node=1)
    return [
        predict(parts, alone, sharding and Sharding()),
        *(predict(parts, each, sharding) for each in sizes if each.devices > 1 and each.devices % group == 0),
    ]


def describe_plan(
    measured: "Measurements", cluster: "Cluster", predictions: Sequence[Prediction], sharding: Sharding | None = None
) -> str:
    """Returns the measurements, the cluster and a table of the predictions of `predict_growth` as text."""
    step = ", ".join(f"{name} {_seconds(getattr(measured, name))}" for name in ("forward", "backward", "update"))
    sizes = ", ".join(
        f"{name} {_bytes(getattr(measured, name))}" for name in ("weights", "gradients", "optimizer", "activations")
    )
    links = (
        f"{8e-9 * cluster.bandwidth:g} Gbit/s between nodes, {8e-9 * cluster.inner_bandwidth:g} within, "
        f"{1e6 * cluster.latency:g} us per message"
    )
    lines = [
        labeled("step", f"{step}, {measured.batch} samples, spread {100 * measured.spread:.1f} %"),
        labeled("data", f"{_seconds(measured.loading)} per sample and worker, {measured.workers} workers"),
        labeled("bytes", sizes),
        labeled("saving", f"{_bytes(measured.checkpoint)} at {_bytes(measured.write_speed)} per second"),
        labeled("machines", f"{cluster.nodes} x {cluster.per_node} devices, {links}"),
    ]
    if measured.on_cores:
        lines.append(
            labeled("cores", f"{measured.cores}, shared by processes with {pluralize(measured.threads, 'thread')} each")
        )
    if sharding is not None and sharding.group > 1:
        text = f"{sharding.group} devices each; the table lists one device alone, and whole groups"
        lines.append(labeled("groups", text))
    rows = [list(_COLUMNS)]
    rows += [[show(value) for show, value in zip(_COLUMNS.values(), each, strict=True)] for each in predictions]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*lines, "", *table]) + "\n"


def describe_formulas() -> str:
    """Returns all formulas as text, each with its explanation and source."""
    return "\n".join(
        f"{each.__name__.replace('_', ' ')}\n{textwrap.indent(inspect.getdoc(each) or '', '  ')}\n" for each in FORMULAS
    )


def exchange_seconds(size: float, devices: int, bandwidth: float, latency: float, passes: int = 2) -> float:
    """passes (n - 1) / n x bytes / bandwidth + min(passes (n - 1), 2 passes log2 n) x latency

    The time to exchange `size` bytes among n devices in a ring. An all-reduce takes two passes; a reduce-scatter or an
    all-gather takes one. The slowest link sets the bandwidth. With many devices, small messages go through trees.

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

    The number of buckets in which gradients are exchanged. Each bucket is exchanged as soon as it is full.

    Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020,
    arXiv:2006.15704, section 3.2.3; the sizes are the defaults of DistributedDataParallel.
    """
    return 1 + max(math.ceil((size - _FIRST_BUCKET) / _BUCKET), 0)


def exposed_seconds(exchange: float, computation: float, pieces: int) -> float:
    """max(exchange / k, exchange - computation (k - 1) / k)

    The part of the exchange that does not overlap with computation, for k pieces that are ready one after another. The
    exchange of one piece never overlaps. Without sharding, the pieces are the buckets of gradients, and the computation
    is the backward pass. With sharding, the pieces are parts of the model, and the forward pass counts as well, because
    each part is gathered while another one computes.

    Source: Li et al., arXiv:2006.15704, section 3.2.3, with pieces of equal size and cost; Zhao et al.,
    arXiv:2304.11277, section 3.3, for sharded training.
    """
    return max(exchange / pieces, exchange - computation * (pieces - 1) / pieces)


def slowest_of(seconds: float, spread: float, devices: int) -> float:
    """seconds x (1 + spread x Q((n - 3/8) / (n + 1/4)))

    The expected time of a step on n devices, all of which wait for the slowest one. `spread` is the standard deviation
    of step times divided by their mean. Q is the quantile function of the normal distribution.

    Source: Blom, "Statistical Estimates and Transformed Beta-Variables" (1958), for the expected maximum of n normals.
    """
    if devices == 1:
        return seconds
    return seconds * (1 + spread * NormalDist().inv_cdf((devices - 0.375) / (devices + 0.25)))


def shared_cores(
    seconds: float, processes: int, threads: int, cores: int, crowding: float, switching: float = 1.0
) -> float:
    """seconds x max(1, load) x (1 + (crowding - 1) x min(1, (processes - 1) x threads / others)) x switching

    Processes on one machine share its cores: load = processes x threads / cores. Even below load 1, they share caches
    and memory. `crowding` is the measured slowdown of a step when all cores are busy. `others` are the cores that one
    process leaves free. `switching` is the measured slowdown at load 2, in addition to that from sharing the cores. The
    factor grows linearly from 1 at load 1, and is constant above load 2. Steps on accelerators do not share cores.

    Source: conservation of work; crowding and switching are measured and interpolated.
    """
    load = processes * threads / cores
    others = (processes - 1) * threads / (cores - threads) if cores > threads else float(processes > 1)
    switched = 1 + (switching - 1) * min(max(load - 1, 0.0), 1.0)
    return seconds * max(1.0, load) * (1 + (crowding - 1) * min(1.0, others)) * switched


def loading_seconds(seconds: float, batch: int, workers: int, step: float) -> float:
    """workers = 0: batch x seconds;  workers > 0: max(0, batch x seconds / workers - step)

    The wait for data: without workers, the whole reading time; with workers, the reading time that does not overlap
    with a step.

    Source: bottleneck analysis, Denning, Buzen, "The Operational Analysis of Queueing Network Models", ACM Computing
    Surveys 10 (1978).
    """
    return batch * seconds if workers == 0 else max(0.0, batch * seconds / workers - step)


def replicated_bytes(weights: float, gradients: float, optimizer: float, activations: float) -> float:
    """weights + gradients + optimizer + activations

    The memory of a device that holds a full replica. Gradients are exchanged in place. With
    `gradient_as_bucket_view=False`, they need twice this memory.

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


def divided_among(amount: float, share: float, devices: int) -> float:
    """amount x (1 - share + share / n)

    The seconds or bytes per device when n devices share layers (tensor parallelism). For seconds, `share` is the share
    of the split layers in the operations of the forward pass; for bytes, it is their share in the weights. The devices
    also exchange the outputs of these layers, or the gradients of their inputs, in full. These exchanges do not overlap
    with computation.

    Source: Shoeybi et al., "Megatron-LM", arXiv:1909.08053, section 3.
    """
    return amount * (1 - share + share / devices)


def checkpoint_seconds(size: float, write_speed: float, writers: int) -> float:
    """bytes / (write speed x writers)

    One process writes a single file. Every node writes its share of a sharded checkpoint, even if it holds a
    replica of another node's shards.

    Source: conservation of bytes.
    """
    return size / (write_speed * writers)


def scaling_efficiency(alone: float, together: float) -> float:
    """step time on one device / step time on n devices, with the same batch size per device

    If several devices share layers and batches, the step time on n devices is multiplied by their number.

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
    divided_among,
    checkpoint_seconds,
    scaling_efficiency,
)
