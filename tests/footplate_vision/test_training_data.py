from footplate_vision.classification import ClsDataSample
from footplate_vision.training_data import TrainingData


def test_samples_are_counted_up_to_a_thousand() -> None:
    counts = TrainingData("gt_label")
    for _ in range(12):
        counts.add([ClsDataSample().set_gt_label(1)] * 96)
    assert counts.is_complete
    assert counts.state_dict() == {"samples": 1000, "labels": {1: 1000}, "sizes": {}}
