import pytest

from footplate.tools.plan.published import PUBLISHED, Published, predicted_efficiency


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.name)
def test_predictions_stand_beside_what_others_measured(published: Published) -> None:
    assert predicted_efficiency(published) == pytest.approx(published.efficiency, abs=0.07)
    assert "arXiv:" in published.source or "Oneflow-Inc/DLPerf" in published.source


def test_what_the_documentation_says_of_them() -> None:
    told = [round(100 * predicted_efficiency(each), 1) for each in PUBLISHED]
    assert told == [96.1, 93.8, 68.6, 96.9, 74.6]
    # Throughputs of DLPerf on 32 devices over 32 times that of one.
    assert [PUBLISHED[3].efficiency, PUBLISHED[4].efficiency] == pytest.approx(
        [10632.33 / 32 / 354.40, 2885.81 / 32 / 119.6], abs=5e-4
    )
