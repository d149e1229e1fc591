"""Published measurements of distributed training, for comparison with the formulas."""

from typing import NamedTuple

from footplate.tools.plan_measurements import Cluster, Measurements
from footplate.tools.plan_prediction import predict

_SHARE_OF_LINE = 0.8  # the share of a link's line rate that an exchange reaches; assumed, not published
_SPREAD = 0.01  # of step times on devices of one kind; assumed


class Published(NamedTuple):
    """A published measurement.

    Attributes:
        name: The model and the device.
        source: Where the figures were published.
        parts: The measurements of one device. Step times are derived from the published throughput of one device or
            node. If the source gives only a total, forward takes one third and backward two thirds. A backward time of
            0 means that no exchange overlaps with it.
        cluster: The machines.
        devices: The smaller and the larger number of devices that the efficiency compares.
        efficiency: The published efficiency, between 0 and 1.
    """

    name: str
    source: str
    parts: Measurements
    cluster: Cluster
    devices: tuple[int, int]
    efficiency: float


def predicted_efficiency(published: Published) -> float:
    """Returns the efficiency that the formulas predict for the same numbers of devices."""
    cluster = published.cluster
    few, many = published.devices
    before = Cluster(1, few, cluster.bandwidth, cluster.inner_bandwidth, cluster.latency)
    after = Cluster(many // cluster.per_node, *cluster_of(cluster))
    return predict(published.parts, before).step / predict(published.parts, after).step


def cluster_of(cluster: Cluster) -> tuple[int, float, float, float]:
    """Returns the fields of a cluster except the number of nodes."""
    return cluster.per_node, cluster.bandwidth, cluster.inner_bandwidth, cluster.latency


def _parts(batch: int, step: float, backward: float, parameters: float) -> Measurements:
    size = int(4 * parameters)
    return Measurements(
        batch=batch,
        forward=step - backward,
        backward=backward,
        update=0.0,
        spread=_SPREAD,
        loading=0.0,
        workers=1,
        weights=size,
        gradients=size,
        optimizer=size,
        activations=0,
        largest_unit=size,
        checkpoint=2 * size,
        write_speed=1e9,
    )


def _cluster(nodes: int, per_node: int, gigabits: float) -> Cluster:
    return Cluster(nodes, per_node, _SHARE_OF_LINE * gigabits / 8 * 1e9, 20e9, 20e-6)


# A step of 32 images: 90 epochs of 1.28 million images take 29 hours on 8 devices. The backward pass takes 120 ms.
_GOYAL = (
    "Goyal et al., arXiv:1706.02677, abstract and section 4.3; the 29 hours: NVIDIA, developer.nvidia.com/blog, "
    "'Facebook Trains ImageNet in 1 Hour'"
)
# One P100 trains 219 images/s with ResNet-50, 91.8 with ResNet-152 and 154 with VGG-16, in batches of 64.
# The operations of ResNet-101 (7.85 G) are half way between ResNet-50 (4.12 G) and ResNet-152 (11.58 G), so its time is
# interpolated.
_HOROVOD = (
    "Horovod's documentation, docs/benchmarks.rst; Horovod: Sergeev, Del Balso, arXiv:1802.05799; devices alone: "
    "TensorFlow's documentation of 2017, docs_src/performance/benchmarks.md; operations: MMClassification's model zoo"
)
_DLPERF = "Oneflow-Inc/DLPerf, reports/dlperf_benchmark_test_report_v1.md and PyTorch/resnet50v1.5/README.md, of 2020"
# Its wrapper is apex's with buckets of 250 million elements, so the whole exchange follows the backward pass.
_DLPERF_BERT = (
    "Oneflow-Inc/DLPerf, NVIDIADeepLearningExamples/PyTorch/BERT/README.md, of 2020; parameters: Devlin et al., "
    "arXiv:1810.04805"
)

PUBLISHED = (
    Published("ResNet-50, P100", _GOYAL, _parts(32, 0.232, 0.120, 25.56e6), _cluster(32, 8, 50), (8, 256), 0.90),
    Published("ResNet-101, P100", _HOROVOD, _parts(64, 0.495, 0.330, 44.55e6), _cluster(128, 4, 25), (1, 512), 0.90),
    Published("VGG-16, P100", _HOROVOD, _parts(64, 0.416, 0.277, 138.36e6), _cluster(128, 4, 25), (1, 512), 0.68),
    Published("ResNet-50, V100", _DLPERF, _parts(128, 0.361, 0.241, 25.56e6), _cluster(4, 8, 100), (1, 32), 0.938),
    Published("BERT base, V100", _DLPERF_BERT, _parts(32, 0.268, 0.0, 110e6), _cluster(4, 8, 100), (1, 32), 0.754),
)
