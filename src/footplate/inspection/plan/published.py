"""What others published of their runs, beside what the formulas say of them."""

from typing import NamedTuple

from footplate.inspection.plan.parts import Cluster, Parts
from footplate.inspection.plan.prediction import predict

_SHARE_OF_LINE = 0.8  # how much of a link's line rate an exchange gets; assumed, not published
_SPREAD = 0.01  # of steps on devices of one kind; assumed


class Published(NamedTuple):
    """A run that others measured.

    Attributes:
        name: What was trained.
        source: Where the figures stand.
        parts: Of one device. Step times are the published throughputs of one device or node; forward and backward are
            taken as one third and two thirds where the source does not part them; a backward pass of 0 hides nothing.
        cluster: The machines.
        devices: From how many devices to how many the efficiency is told.
        efficiency: As published, 0 to 1.
    """

    name: str
    source: str
    parts: Parts
    cluster: Cluster
    devices: tuple[int, int]
    efficiency: float


def predicted_efficiency(published: Published) -> float:
    """Returns what the formulas say of the same growth."""
    cluster = published.cluster
    few, many = published.devices
    before = Cluster(1, few, cluster.bandwidth, cluster.inner_bandwidth, cluster.latency)
    after = Cluster(many // cluster.per_node, *cluster_of(cluster))
    return predict(published.parts, before).step / predict(published.parts, after).step


def cluster_of(cluster: Cluster) -> tuple[int, float, float, float]:
    """Returns all of a cluster but its number of nodes."""
    return cluster.per_node, cluster.bandwidth, cluster.inner_bandwidth, cluster.latency


def _parts(batch: int, step: float, backward: float, parameters: float) -> Parts:
    size = int(4 * parameters)
    return Parts(
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


# A step of 32 pictures: 90 epochs of 1.28 million in 29 hours on 8 devices. 120 ms of it are backward.
_GOYAL = (
    "Goyal et al., arXiv:1706.02677, abstract and section 4.3; the 29 hours: NVIDIA, developer.nvidia.com/blog, "
    "'Facebook Trains ImageNet in 1 Hour'"
)
# One P100 trains 219 pictures a second with ResNet-50, 91.8 with ResNet-152 and 154 with VGG-16, in batches of 64.
# ResNet-101 has the operations half way between the other two, 4.12, 7.85 and 11.58 G, and so is its time taken.
_HOROVOD = (
    "Horovod's documentation, docs/benchmarks.rst; Horovod: Sergeev, Del Balso, arXiv:1802.05799; devices alone: "
    "TensorFlow's documentation of 2017, docs_src/performance/benchmarks.md; operations: MMClassification's model zoo"
)
_DLPERF = "Oneflow-Inc/DLPerf, reports/dlperf_benchmark_test_report_v1.md and PyTorch/resnet50v1.5/README.md, of 2020"
# Its wrapper is apex's with pieces of 250 million elements: everything is exchanged behind the backward pass.
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
