from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate import BaseModel
from footplate.checkpoint import save_checkpoint
from footplate.config import Config
from footplate.data import BaseDataset, LoadImageFromFile
from footplate.data.data_element import BaseDataElement
from footplate.data.transforms import BaseTransform
from footplate.engine import Hook, Runner
from footplate.errors import ArgumentError, CheckpointError, DataError
from footplate.registry import DATASETS, MODELS, TRANSFORMS
from footplate_vision.inference import Predictor
from footplate_vision.inference.predictor import load_rgb
from footplate_vision.segmentation.data import PackSegInputs
from tests.footplate_vision.inference.models import recipe, save_pictures, save_untrained

# The fields of the ground truth that the metrics of each recipe need.
_TRUTH = {
    "fashion-seg": ["gt_sem_seg"],
    "fashion-det": ["gt_instances", "ignored_instances"],
    "fashion-cls": ["gt_label"],
}


def _with_truth(predictions: list[Any], dataset: Any, start: int, fields: list[str]) -> list[Any]:
    """Adds the ground truth of a dataset to the predictions on its images from an index on."""
    for index, prediction in enumerate(predictions, start):
        sample = dataset[index]["data_samples"]
        prediction.set_metainfo({key: sample.get(key) for key in sample.metainfo_keys()})
        for field in fields:
            setattr(prediction, field, sample.get(field))
    return predictions


@pytest.mark.parametrize("name", list(_TRUTH))
def test_predictions_on_files_have_exactly_the_metrics_of_a_test(tmp_path: Path, name: str) -> None:
    cfg = recipe(name, tmp_path / "work")
    if name == "fashion-det":  # an untrained model has no scores above the threshold
        cfg["model"]["test_cfg"]["score_thr"] = 0.0
    runner = save_untrained(cfg, tmp_path / "model.pth")
    dataset = runner.test_dataloader.dataset
    paths = save_pictures(dataset, tmp_path / "images")
    wanted = runner.test()
    predictor = Predictor(tmp_path / "model.pth", device=str(runner.device))
    assert (predictor.batch_size, predictor.metainfo) == (4, dataset.metainfo)
    loop: Any = runner.test_loop
    evaluator = loop.evaluator
    for start in range(0, len(paths), 4):
        found = _with_truth(predictor(paths[start : start + 4]), dataset, start, _TRUTH[name])
        evaluator.process(data_samples=found, data_batch=None)
    metrics = evaluator.evaluate(len(paths))
    assert metrics.keys() <= wanted.keys()
    assert len(metrics) >= 1
    for key, value in metrics.items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(wanted[key]), err_msg=key)


@pytest.fixture
def segmentor(tmp_path: Path) -> tuple[Path, list[str]]:
    """A checkpoint of fashion-seg without training, and its test pictures."""
    runner = save_untrained(recipe("fashion-seg", tmp_path / "work"), tmp_path / "model.pth")
    return tmp_path / "model.pth", save_pictures(runner.test_dataloader.dataset, tmp_path / "images")


def test_all_kinds_of_images_give_the_same_prediction(segmentor: tuple[Path, list[str]]) -> None:
    checkpoint, paths = segmentor
    predictor = Predictor(checkpoint, device="cpu")
    opened = Image.fromarray(load_rgb(paths[0]))
    first = predictor(paths[0])
    assert isinstance(first, BaseDataElement)
    for image in (Path(paths[0]), opened, np.asarray(opened)):
        assert torch.equal(predictor(image).seg_logits.data, first.seg_logits.data)
    several = predictor(paths[:3])
    assert [each.img_path for each in several] == paths[:3]
    assert several[0].ori_shape == (64, 64)


def test_turned_and_deep_pillow_images_are_read_as_their_files(tmp_path: Path) -> None:
    runner = save_untrained(recipe("fashion-cls", tmp_path / "work"), tmp_path / "model.pth")
    pixels = np.asarray(Image.open(save_pictures(runner.test_dataloader.dataset, tmp_path / "images", 1)[0]))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    predictor = Predictor(tmp_path / "model.pth", device="cpu")
    upright = predictor(np.rot90(pixels, -1).copy()).pred_score
    for name, wanted in (("turned.png", upright), ("deep.png", predictor(pixels).pred_score)):
        assert torch.equal(predictor(tmp_path / name).pred_score, wanted)
        with Image.open(tmp_path / name) as opened:
            assert torch.equal(predictor(opened).pred_score, wanted)
    together = predictor([pixels, np.zeros((99, 40), np.uint8), pixels])  # images of other sizes change nothing
    assert all(torch.equal(together[place].pred_score, predictor(pixels).pred_score) for place in (0, 2))


def assert_same_prediction(
    segmentor: tuple[Path, list[str]], config: Config, prepare: Callable[[], None] = lambda: None
) -> None:
    """Asserts that a file and its pixels have the same prediction with a config as with the recorded one."""
    checkpoint, paths = segmentor
    wanted = Predictor(checkpoint, device="cpu")(paths[0]).seg_logits.data
    prepare()
    predictor = Predictor(checkpoint, config=config, device="cpu")
    for image in (paths[0], load_rgb(paths[0])):
        assert torch.equal(predictor(image).seg_logits.data, wanted)


@pytest.mark.parametrize("loader", ["LoadImageFromFile", "LoadImg"])
def test_pipeline_of_files_is_used_without_its_annotations(
    segmentor: tuple[Path, list[str]], loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: Any = TRANSFORMS.module_dict
    monkeypatch.setitem(entries, "LoadImg", LoadImageFromFile)
    config = recipe("fashion-seg", segmentor[0].parent)
    pipeline = [{"type": loader}, {"type": "LoadAnnotations", "with_seg": True}, {"type": "PackSegInputs"}]
    config["test_dataloader"]["dataset"] = {
        "type": "RepeatDataset",
        "times": 2,
        "dataset": {"type": "BaseSegDataset", "pipeline": pipeline},
    }
    config["model"]["data_preprocessor"]["bgr_to_rgb"] = True  # the loader gives BGR
    assert_same_prediction(segmentor, config)


def test_images_of_a_dataset_without_a_loader_are_read_by_footplate(
    segmentor: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe("fashion-seg", segmentor[0].parent)
    dataset = {"type": "BaseSegDataset", "pipeline": [{"type": "PackSegInputs"}]}
    config["test_dataloader"]["dataset"] = dataset
    entries: Any = TRANSFORMS.module_dict
    replace = partial(monkeypatch.setitem, entries, "LoadImageFromFile", PackSegInputs)  # as mmcv does
    assert_same_prediction(segmentor, config, replace)


def test_drawn_picture_has_the_colors_of_the_checkpoint(segmentor: tuple[Path, list[str]]) -> None:
    checkpoint, paths = segmentor
    cfg = recipe("fashion-seg", checkpoint.parent)
    cfg["visualizer"]["type"] = "footplate.Visualizer"
    predictor = Predictor(checkpoint, config=cfg, device="cpu")
    prediction = predictor(paths[0])
    prediction.pred_sem_seg.data[:] = 1
    drawn = predictor.draw(paths[0], prediction)
    plain = load_rgb(paths[0]).astype(float)
    red = np.array(predictor.metainfo["palette"][1])
    wanted = np.rint(plain[10, 20] * 0.2 + red * 0.8)
    assert (np.abs(drawn.astype(float) - wanted).max(axis=2) <= 1).any()
    assert drawn.shape[1] > 2 * 64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cfg: cfg.pop("test_dataloader"), None),
        (lambda cfg: [cfg.pop("test_dataloader"), cfg.pop("val_dataloader")], "no test or validation data"),
        (
            lambda cfg: cfg["test_dataloader"]["dataset"].update(pipeline=[{"type": "LoadPointsFromFile"}]),
            "do not support point clouds",
        ),
        (
            lambda cfg: cfg["test_dataloader"]["dataset"].update(pipeline=[{"type": "UniformSampleFrames"}]),
            r"(?s)do not support clips\n.*\n  To predict, use MMAction2's inference_recognizer\.$",
        ),
    ],
)
def test_data_whose_pipeline_is_missing_is_an_error(
    segmentor: tuple[Path, list[str]], change: Callable[[Config], Any], message: str | None
) -> None:
    cfg = recipe("fashion-seg", segmentor[0].parent)
    change(cfg)
    if message is None:  # the validation data has a pipeline
        assert Predictor(segmentor[0], config=cfg, device="cpu").batch_size == 50
    else:
        with pytest.raises(ArgumentError, match=message):
            Predictor(segmentor[0], config=cfg, device="cpu")


def test_recorded_config_executes_nothing(tmp_path: Path) -> None:
    cfg = recipe("fashion-cls", tmp_path / "work")
    save_untrained(cfg, tmp_path / "code.pth", recorded="import os\nmodel = dict(type=os.system)")
    with pytest.raises(ValueError, match="other than assignments of plain values"):
        Predictor(tmp_path / "code.pth")
    save_untrained(cfg, tmp_path / "dotted.pth", recorded=f"{cfg.pretty_text}\nmodel = dict(type='subprocess.Popen')")
    with pytest.raises(Exception, match="subprocess.Popen"):
        Predictor(tmp_path / "dotted.pth")


def test_wrong_input_is_a_clear_error(segmentor: tuple[Path, list[str]], tmp_path: Path) -> None:
    checkpoint, _ = segmentor
    predictor = Predictor(checkpoint, device="cpu")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match="'.*text.png' cannot be read: its format is unknown"):
        predictor(tmp_path / "text.png")
    with pytest.raises(ArgumentError, match=r"an image must be a path"):
        predictor(np.zeros((4, 4, 3)))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="the device 'cuda:99' cannot be used"):
        Predictor(checkpoint, device="cuda:99")
    torch.save(torch.load(checkpoint, weights_only=True)["state_dict"], tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"contains no config(.|\n)*--config FILE(.|\n)*load_weights"):
        Predictor(tmp_path / "bare.pth")
    assert Predictor(tmp_path / "bare.pth", config="fashion-seg", device="cpu").metainfo == {}


def test_averaged_weights_are_those_that_a_test_uses(tmp_path: Path) -> None:
    class Weights(Hook):
        priority = "VERY_LOW"

        def before_test_iter(self, runner: Runner) -> None:  # type: ignore[override]
            tested.update({key: value.clone() for key, value in runner.model.state_dict().items()})

    tested: dict[str, torch.Tensor] = {}
    cfg = recipe("fashion-cls", tmp_path / "work")
    cfg["train_cfg"] = {"by_epoch": False, "max_iters": 2, "val_interval": 10}
    cfg["default_hooks"] = {"checkpoint": {"by_epoch": False, "sharded": True}}
    cfg["custom_hooks"] = [{"type": "EMAHook", "momentum": 0.3}]
    cfg["param_scheduler"] = None
    cfg["train_dataloader"]["batch_size"] = 2
    trained = Runner.from_cfg(cfg)
    trained.train()
    path = tmp_path / "work/iter_2.sharded"
    runner = Runner.from_cfg(cfg, load_from=str(path))
    runner.hooks.register(Weights())
    runner.test()
    used = Predictor(path, device="cpu").model.state_dict()
    assert all(torch.equal(value, tested[key]) for key, value in used.items())
    latest = trained.model.state_dict()
    assert any(not torch.equal(value, latest[key]) for key, value in used.items())


@TRANSFORMS.register_module()
class GetBBoxCenterScale(BaseTransform):
    def transform(self, results: Any) -> Any:
        return {**results, "center": results["bbox"].reshape(2, 2).mean(0)}


@TRANSFORMS.register_module()
class PackPoseInputs(BaseTransform):
    def transform(self, results: Any) -> Any:
        meta = {key: results[key] for key in ("flip_indices", "center", "bbox_score")}
        return {"inputs": [], "data_samples": BaseDataElement(metainfo=meta)}


@DATASETS.register_module()
class Poses(BaseDataset):
    """Exists for the pipeline in its config."""


@MODELS.register_module()
class Unchanged(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Any, data_samples: Any, mode: str = "tensor") -> Any:
        return data_samples


def test_top_down_pose_model_of_mmpose_gets_the_whole_image_as_its_box(tmp_path: Path) -> None:
    pipeline = [{"type": name} for name in ("LoadImageFromFile", "GetBBoxCenterScale", "PackPoseInputs")]
    loader = {"dataset": {"type": "Poses", "pipeline": pipeline}, "collate_fn": {"type": "pseudo_collate"}}
    cfg = Config({"model": {"type": "Unchanged"}, "test_dataloader": loader})
    meta = {"cfg": cfg.pretty_text, "dataset_meta": {"flip_indices": [1, 0]}}
    save_checkpoint({"meta": meta, "state_dict": Unchanged().state_dict()}, tmp_path / "model.pth")
    found = Predictor(tmp_path / "model.pth")(np.zeros((4, 6, 3), np.uint8))
    assert (found.center.tolist(), found.bbox_score.tolist(), found.flip_indices) == ([3, 2], [1], [1, 0])
