import dataclasses
from typing import Any

import pytest

from footplate.tools.plan.parts import Cluster, Parts
from footplate.tools.plan.prediction import as_table, described, predict, predict_growth
from tests.tools.plan.test_parts import GIVEN

PARTS = Parts(**GIVEN)


def cluster(nodes: int, per_node: int, bandwidth: float = 1e9, inner: float = 10e9) -> Cluster:
    return Cluster(nodes, per_node, bandwidth, inner, latency=0.0)


def test_one_device_alone_is_what_was_measured() -> None:
    found = predict(PARTS, Cluster())
    assert (found.step, found.compute, found.loading, found.exchange) == pytest.approx((0.32, 0.32, 0.0, 0.0))
    assert (found.efficiency, found.batch, found.throughput) == pytest.approx((1.0, 16, 50.0))
    assert (found.memory, found.checkpoint) == pytest.approx((1.4e9, 0.3))


@pytest.mark.parametrize(
    ("where", "exchange"),
    [
        # 100 MB in 5 pieces behind 0.2 s of backward, of which four fifths hide it.
        (cluster(1, 8), 2 * 7 / 8 * 0.01 / 5),
        (cluster(2, 8), 2 * 15 / 16 * 0.1 / 5),
        (cluster(2, 8, bandwidth=0.5e9), 2 * 15 / 16 * 0.2 - 0.2 * 4 / 5),
        (cluster(2, 8, bandwidth=0.1e9), 2 * 15 / 16 * 1.0 - 0.2 * 4 / 5),
        (cluster(2, 8, bandwidth=100e9), 2 * 15 / 16 * 0.01 / 5),  # the slowest link is within a node
    ],
)
def test_what_backward_does_not_hide_is_waited_for(where: Cluster, exchange: float) -> None:
    found = predict(PARTS, where)
    assert found.exchange == pytest.approx(exchange)
    assert found.step == pytest.approx(0.32 + exchange)
    assert found.efficiency == pytest.approx(0.32 / (0.32 + exchange))
    assert found.memory == pytest.approx(1.4e9)


def test_shards_are_gathered_twice_and_scattered_once() -> None:
    found = predict(PARTS, cluster(4, 1, bandwidth=0.5e9), sharded=True)
    assert found.exchange == pytest.approx(3 * 3 / 4 * 0.2 - 0.3)
    assert found.memory == pytest.approx(0.4e9 / 4 + 0.02e9 + 1e9)
    assert found.checkpoint == pytest.approx(0.3 / 4)
    assert predict(PARTS, cluster(4, 1, bandwidth=5e9), sharded=True).exchange == 0


def test_a_slow_loader_is_waited_for() -> None:
    slow = dataclasses.replace(PARTS, loading=0.05)
    found = predict(slow, Cluster())
    assert (found.loading, found.step, found.efficiency) == pytest.approx((0.08, 0.4, 1.0))
    assert predict(dataclasses.replace(slow, workers=0), Cluster()).step == pytest.approx(0.32 + 0.8)


CORES: dict[str, Any] = {
    "on_cores": True,
    "cores": 2,
    "workers": 0,
    "loading": 0.0,
    "crowding": 1.1,
    "byte_seconds": 1e-9,
    "message_seconds": 1e-3,
}


@pytest.mark.parametrize(
    ("processes", "compute", "exchange"),
    [(1, 0.32, 0.0), (2, 0.352, 0.1 + 2e-3), (4, 0.704, 0.3 + 6 * 2e-3)],
)
def test_processes_share_cores_for_all_they_do(processes: int, compute: float, exchange: float) -> None:
    found = predict(dataclasses.replace(PARTS, **CORES), Cluster(1, processes))
    assert (found.compute, found.exchange) == pytest.approx((compute, exchange))
    switched = predict(dataclasses.replace(PARTS, **CORES, switching=1.2), Cluster(1, processes))
    assert switched.compute == pytest.approx(compute * (1.2 if processes == 4 else 1.0))


def test_all_wait_for_the_slowest() -> None:
    assert predict(dataclasses.replace(PARTS, spread=0.1), cluster(1, 4)).compute == pytest.approx(
        0.32 * 1.105, rel=2e-3
    )


def test_growth_is_told_node_by_node() -> None:
    found = predict_growth(PARTS, cluster(6, 8))
    assert [(each.nodes, each.devices) for each in found] == [(1, 1), (1, 8), (2, 16), (4, 32), (6, 48)]
    assert [each.devices for each in predict_growth(PARTS, Cluster())] == [1]
    table = as_table(found)
    assert table[0][:4] == ["nodes", "devices", "batch", "step"]
    assert table[1] == ["1", "1", "16", "0.32 s", "0.32 s", "0 s", "0 s", "50", "100.0 %", "1.40 GB", "0.3 s"]
    assert {len(row) for row in table} == {11}


def test_what_a_plan_stands_on_is_told() -> None:
    lines = "\n".join(described(PARTS, Cluster(128, 8)))
    for words in (
        "forward 0.1 s",
        "update 20 ms",
        "16 samples",
        "100 Gbit/s between nodes",
        "128 x 8 devices",
        "0.30 GB at",
    ):
        assert words in lines
    assert "which processes of 1 threads share" in "\n".join(described(dataclasses.replace(PARTS, **CORES), Cluster()))
