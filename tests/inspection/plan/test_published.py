import pytest

from footplate.inspection.plan.published import PUBLISHED, Published, predicted_efficiency


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda each: each.name)
def test_predictions_stand_beside_what_others_measured(published: Published) -> None:
    assert predicted_efficiency(published) == pytest.approx(published.efficiency, abs=0.07)
    assert "arXiv:" in published.source
