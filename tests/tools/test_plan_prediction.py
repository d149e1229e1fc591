import dataclasses
from typing import Any

import pytest

from footplate.errors import ArgumentError
from footplate.tools import plan_prediction
from footplate.tools.plan_measurements import Cluster, Measurements
from footplate.tools.plan_prediction import (
    FORMULAS,
    Sharding,
    describe_formulas,
    describe_plan,
    predict,
    predict_growth,
)
from tests.tools.published_scaling import PUBLISHED, Published, predicted_efficiency
from tests.tools.test_plan_measurements import GIVEN

PARTS = Measurements(**GIVEN)


def cluster(nodes: int, per_node: int, bandwidth: float = 1e9, inner: float = 10e9) -> Cluster:
    return Cluster(nodes, per_node, bandwidth, inner, latency=0.0)


def test_prediction_for_one_device_equals_the_measurements() -> None:
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
def test_exchange_that_does_not_overlap_is_exposed(where: Cluster, exchange: float) -> None:
    found = predict(PARTS, where)
    assert found.exchange == pytest.approx(exchange)
    assert found.step == pytest.approx(0.32 + exchange)
    assert found.efficiency == pytest.approx(0.32 / (0.32 + exchange))
    assert found.memory == pytest.approx(1.4e9)


def test_sharded_training_exchanges_three_passes() -> None:
    found = predict(PARTS, cluster(4, 1, bandwidth=0.5e9), Sharding())
    assert found.exchange == pytest.approx(3 * 3 / 4 * 0.2 - 0.3 * 9 / 10)  # in 10 parts of 10 MB
    assert found.memory == pytest.approx(0.4e9 / 4 + 0.02e9 + 1e9)
    assert found.checkpoint == pytest.approx(0.3 / 4)
    assert predict(PARTS, cluster(4, 1, bandwidth=5e9), Sharding()).exchange == pytest.approx(3 * 3 / 4 * 0.02 / 10)


def test_cores_do_not_exchange_shards_while_they_compute() -> None:
    found = predict(dataclasses.replace(PARTS, on_cores=True, threads=1, cores=4), cluster(4, 1), Sharding())
    assert found.exchange == pytest.approx(3 * 3 / 4 * 0.1)


def test_replicas_of_shards_exchange_gradients_between_nodes() -> None:
    found = predict(PARTS, cluster(4, 8, bandwidth=0.05e9), Sharding(shards=8))
    within, between = 3 * 7 / 8 * 0.01, 2 * 3 / 4 * 2.0 / 8
    assert found.exchange == pytest.approx(within + between - 0.3 * 9 / 10)
    assert found.memory == pytest.approx(0.4e9 / 8 + 0.02e9 + 1e9)
    assert found.checkpoint == pytest.approx(0.3 / 4)  # the replicas share the writing


def test_devices_that_share_layers_divide_their_cost() -> None:
    shared = dataclasses.replace(
        PARTS, layer_weights=PARTS.weights * 3 // 4, layer_share=0.5, layer_bytes=10**8, layer_messages=10
    )
    found = predict(shared, cluster(2, 8, inner=1e10), Sharding(shards=2, tensor_parallel=4))
    compute = (PARTS.forward + PARTS.backward) * (0.5 + 0.5 / 4) + PARTS.update * (0.25 + 0.75 / 4)
    assert found.compute == pytest.approx(compute)
    weights = PARTS.weights * (0.25 + 0.75 / 4)
    overlapping = 3 / 2 * weights / 1e10 + weights / 2 / 1e9
    assert found.exchange == pytest.approx(2 * 3 / 4 * 1e8 / 1e10 + overlapping / 10)
    assert (found.batch, found.devices) == (PARTS.batch * 4, 16)
    assert found.efficiency == pytest.approx(found.throughput / 16 / 50.0)
    state = PARTS.weights + PARTS.gradients + PARTS.optimizer
    assert found.memory == pytest.approx((state / 2 + 2 * PARTS.largest_unit) * 0.4375 + PARTS.activations)
    wide = predict(shared, cluster(2, 8, bandwidth=1e9, inner=1e10), Sharding(tensor_parallel=16))
    assert wide.exchange == pytest.approx(2 * 15 / 16 * 1e8 / 1e9)  # between the nodes


def test_slow_loader_delays_the_step() -> None:
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
def test_processes_share_cores(processes: int, compute: float, exchange: float) -> None:
    found = predict(dataclasses.replace(PARTS, **CORES), Cluster(1, processes))
    assert (found.compute, found.exchange) == pytest.approx((compute, exchange))
    switched = predict(dataclasses.replace(PARTS, **CORES, switching=1.2), Cluster(1, processes))
    assert switched.compute == pytest.approx(compute * (1.2 if processes == 4 else 1.0))


def test_step_takes_as_long_as_on_the_slowest_device() -> None:
    assert predict(dataclasses.replace(PARTS, spread=0.1), cluster(1, 4)).compute == pytest.approx(
        0.32 * 1.105, rel=2e-3
    )


def test_predictions_double_the_nodes() -> None:
    found = predict_growth(PARTS, cluster(6, 8))
    assert [(each.nodes, each.devices) for each in found] == [(1, 1), (1, 8), (2, 16), (4, 32), (6, 48)]
    assert [each.devices for each in predict_growth(PARTS, Cluster())] == [1]
    table = describe_plan(PARTS, cluster(6, 8), found).splitlines()[6:]
    assert " ".join(table[0].split()).startswith("nodes devices batch step compute data exchange samples/s")
    assert " ".join(table[1].split()) == "1 1 16 0.32 s 0.32 s 0 s 0 s 50 100.0 % 1.4 GB 0.3 s"
    assert len({len(row) for row in table}) == 1


@pytest.mark.parametrize(("shards", "tensor_parallel"), [(3, 1), (None, 3), (4, 4), (16, 1)])
def test_groups_must_divide_the_devices(shards: int | None, tensor_parallel: int) -> None:
    with pytest.raises(ArgumentError, match="must divide the 8 devices") as caught:
        predict(PARTS, cluster(2, 4), Sharding(shards=shards, tensor_parallel=tensor_parallel))
    assert caught.value.found == (shards or 1) * tensor_parallel


def test_predictions_list_whole_groups() -> None:
    shared = dataclasses.replace(PARTS, layer_weights=PARTS.weights, layer_share=1.0, layer_messages=1)
    found = predict_growth(shared, cluster(6, 2), Sharding(shards=3, tensor_parallel=2))
    assert [each.devices for each in found] == [1, 12]
    assert [each.devices for each in predict_growth(shared, cluster(6, 2), Sharding(shards=4))] == [1, 4, 8, 12]
    assert found[0] == predict(PARTS, Cluster(), Sharding())  # a single device shares nothing
    lines = describe_plan(shared, cluster(6, 2), found, Sharding(3, 2))
    assert "groups      6 devices each; the table lists one device alone, and whole groups" in lines
    assert "groups" not in describe_plan(PARTS, cluster(6, 2), found)


def test_sizes_of_small_models_have_small_units() -> None:
    small = dataclasses.replace(PARTS, weights=900, gradients=900, optimizer=2000, activations=45_300)
    text = describe_plan(small, Cluster(), [predict(small, Cluster())])
    assert "weights 900 B, gradients 900 B, optimizer 2.0 kB, activations 45.3 kB" in text
    assert text.splitlines()[-1].split()[-4:-2] == ["49.1", "kB"]


def test_plan_shows_its_measurements() -> None:
    lines = describe_plan(PARTS, Cluster(128, 8), [])
    for words in (
        "forward 0.1 s",
        "update 20 ms",
        "16 samples",
        "100 Gbit/s between nodes",
        "128 x 8 devices",
        "300.0 MB at 1.0 GB per second",
    ):
        assert words in lines
    on_cores = dataclasses.replace(PARTS, **CORES)
    assert "shared by processes with 1 thread each" in describe_plan(on_cores, Cluster(), [])


@pytest.mark.parametrize(
    ("name", "arguments", "found"),
    [
        ("exchange_seconds", (100e6, 1, 1e9, 1.0), 0.0),
        ("exchange_seconds", (100e6, 2, 1e9, 0.0), 0.1),
        ("exchange_seconds", (100e6, 8, 1e9, 0.0), 2 * 7 / 8 * 0.1),
        ("exchange_seconds", (100e6, 8, 1e9, 0.0, 3), 3 * 7 / 8 * 0.1),
        ("exchange_seconds", (0, 4, 1e9, 1e-3), 6e-3),  # a ring of 4 has 6 hops, trees 8
        ("exchange_seconds", (0, 1024, 1e9, 1e-3), 40e-3),  # a ring has 2046, trees 40
        ("bucket_count", (1000,), 1),
        ("bucket_count", ((1 << 20) + 1,), 2),
        ("bucket_count", (102 << 20,), 6),
        ("exposed_seconds", (0.1, 0.0, 1), 0.1),
        ("exposed_seconds", (0.1, 1.0, 5), 0.02),
        ("exposed_seconds", (1.0, 0.5, 5), 0.6),
        ("slowest_of", (2.0, 0.1, 1), 2.0),
        ("shared_cores", (1.0, 1, 1, 4, 1.3), 1.0),
        ("shared_cores", (1.0, 2, 1, 4, 1.3), 1.1),
        ("shared_cores", (1.0, 4, 1, 4, 1.3), 1.3),
        ("shared_cores", (1.0, 8, 1, 4, 1.3), 2.6),
        ("shared_cores", (1.0, 2, 2, 2, 1.2), 2.4),
        ("shared_cores", (1.0, 2, 1, 2, 1.0, 1.5), 1.0),
        ("shared_cores", (1.0, 3, 1, 2, 1.0, 1.5), 1.875),
        ("shared_cores", (1.0, 8, 1, 2, 1.0, 1.5), 6.0),
        ("loading_seconds", (0.01, 16, 0, 1.0), 0.16),
        ("loading_seconds", (0.1, 16, 4, 0.3), 0.1),
        ("loading_seconds", (0.01, 16, 4, 0.3), 0.0),
        ("replicated_bytes", (1.0, 2.0, 4.0, 8.0), 15.0),
        ("sharded_bytes", (8.0, 8.0, 16.0, 1.0, 2.0, 4), 13.0),
        ("checkpoint_seconds", (100.0, 10.0, 5), 2.0),
        ("scaling_efficiency", (1.0, 1.25), 0.8),
    ],
)
def test_figures(name: str, arguments: tuple[Any, ...], found: float) -> None:
    assert getattr(plan_prediction, name)(*arguments) == pytest.approx(found)


@pytest.mark.parametrize(("devices", "times"), [(2, 0.564), (4, 1.029), (64, 2.344), (1024, 3.21)])
def test_the_slowest_of_several_normals(devices: int, times: float) -> None:
    """Beside the expected maximum that tables of order statistics give."""
    assert plan_prediction.slowest_of(1.0, 0.1, devices) == pytest.approx(1 + 0.1 * times, abs=0.005)


def test_every_formula_has_a_source() -> None:
    told = describe_formulas()
    for each in FORMULAS:
        assert each.__name__.replace("_", " ") in told
        assert "Source: " in (each.__doc__ or "")
    assert told.count("Source: ") == len(FORMULAS)


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.name)
def test_predictions_agree_with_published_measurements(published: Published) -> None:
    assert predicted_efficiency(published) == pytest.approx(published.efficiency, abs=0.07)
    assert "arXiv:" in published.source or "Oneflow-Inc/DLPerf" in published.source


def test_documentation_quotes_the_published_measurements() -> None:
    told = [round(100 * predicted_efficiency(each), 1) for each in PUBLISHED]
    assert told == [96.1, 93.8, 68.6, 96.9, 74.6]
    # Throughputs of DLPerf on 32 devices over 32 times that of one.
    assert [PUBLISHED[3].efficiency, PUBLISHED[4].efficiency] == pytest.approx(
        [10632.33 / 32 / 354.40, 2885.81 / 32 / 119.6], abs=5e-4
    )
