"""Changes configs of MMAction2 so that they train on made-up frames, skeletons, sounds or features of videos."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.code_bases import made_up_data
from benchmarks.code_bases.configs import loader, replace_classes, walk

_VIDEOS, _FRAMES = 4, 64
_SAMPLING = ("SeedBySample", "SampleFrames", "UniformSample", "SampleAVAFrames")
_PACKING = ("FormatShape", "CLIPTokenize", "PackActionInputs")


def prepare(cfg: Any, data: str, size: int) -> None:
    """Trains on four samples of the kind that the dataset of the config reads."""
    root = Path(data) / "action"
    if not root.exists():
        _write(root)
    if cfg.model.type == "Recognizer3D" and cfg.model.backbone.type == "C3D":  # its linear layer reads 4 x 4 positions
        size = 112
    old = cfg.train_dataloader["dataset"]
    while "dataset" in old or "datasets" in old:
        old = old["dataset"] if "dataset" in old else old["datasets"][0]
    pipeline = [{"type": "SeedBySample"}, *old["pipeline"]]
    kind = old["type"].removeprefix("Repeat")
    dataset: dict[str, Any] = {"type": kind, "pipeline": pipeline}
    match kind:
        case "PoseDataset":
            dataset.update(ann_file=f"{root}/skeletons.pkl", split="training")
        case "AudioDataset":
            dataset.update(ann_file=f"{root}/sounds.txt", data_prefix={"audio": f"{root}"})
        case "ActivityNetDataset":
            dataset.update(ann_file=f"{root}/features.json", data_prefix={"video": f"{root}/features"})
            _write_features(root, cfg)
        case "AVADataset" | "AVAKineticsDataset":
            dataset.update(ann_file=f"{root}/ava.csv", exclude_file=None, label_file=None, timestamp_end=902)
            dataset.update(proposal_file=f"{root}/proposals.pkl", data_prefix={"img": f"{root}"})
            dataset["pipeline"] = _frames(pipeline, size)
        case "MSRVTTRetrieval" | "VideoTextDataset":
            dataset.update(ann_file=f"{root}/{kind}.json", data_prefix={"video": f"{root}"})
            dataset["pipeline"] = _frames(pipeline, size, video=True)
            _use_small_language_models(cfg, data, size)
        case _:
            dataset.update(type="RawframeDataset", ann_file=f"{root}/videos.txt", data_prefix={"img": f"{root}"})
            dataset["pipeline"] = _frames(pipeline, size)
    if cfg.train_cfg.get("other_loaders"):
        images = {"type": "mmpretrain.CustomDataset", "data_prefix": f"{data}/folders/training", "indices": 4}
        images["pipeline"] = [{"type": f"mmpretrain.{name}"} for name in ("LoadImageFromFile", "PackInputs")]
        cfg.train_cfg.update(type="MultiLoaderEpochBasedTrainLoop", other_loaders=[loader(images, None)])
        cfg.train_cfg.pop("by_epoch")
    if cfg.model.type != "FastRCNN":
        replace_classes(cfg, 4)
    for node in walk(cfg.model):
        if node.get("type") in ("ResNetTIN", "ResNetTSM", "SwinTransformer3D"):  # load 2D weights even without a file
            node["pretrained2d"] = False
        if node.get("type") == "UniFormerV2":
            node.update(clip_pretrained=False, input_resolution=size)
        if node.get("type") == "BN" and cfg.model.type == "Recognizer3D":  # instead of SyncBN
            node["type"] = "BN3d"
        if "lfb_prefix_path" in node:
            node.update(lfb_prefix_path=str(root), device="cpu", dataset_modes=("train",))
        if "img_size" in node:
            node["img_size"] = size
        for key in ("inflate", "non_local"):  # one entry per block, of which one is left in each stage
            if isinstance(node.get(key), (list, tuple)):
                node[key] = tuple(each if isinstance(each, int) else each[:1] for each in node[key])
    cfg.train_dataloader = loader(dataset, None)


def _frames(pipeline: list[Any], size: int, *, video: bool = False) -> list[Any]:
    """Returns a simple pipeline that samples frames and arranges their dimensions like that of a config."""
    before, decode = ([{"type": "DecordInit"}], "DecordDecode") if video else ([], "RawFrameDecode")
    resize = {"type": "Resize", "scale": (size, size), "keep_ratio": False}
    sampling, packing = ([step for step in pipeline if step["type"] in names] for names in (_SAMPLING, _PACKING))
    return [*before, *sampling, {"type": decode}, resize, *packing]


def _use_small_language_models(cfg: Any, data: str, size: int) -> None:
    """Replaces the models that are downloaded by name with models of one or two layers."""
    if cfg.model.type == "CLIPSimilarity":
        import clip

        model = clip.model.CLIP(512, size, 2, 768, 32, 77, 49408, 512, 8, 2)
        clip.load = lambda *_, **__: (model, None)
        return
    from transformers import BeitConfig

    bert = made_up_data.small_bert(Path(data))
    cfg.model.tokenizer.pretrained_model_name_or_path = bert
    cfg.model.text_encoder.update(pretrained_model_name_or_path=bert, fusion_layer=0)
    cfg.model.vision_encoder.config = f"{data}/beit"
    config = BeitConfig(num_hidden_layers=2, image_size=size, use_relative_position_bias=True)
    config.save_pretrained(f"{data}/beit")


def _write(root: Path) -> None:
    """Writes videos of a moving rectangle, also as folders of frames, with texts, boxes, skeletons and sounds."""
    import cv2  # a package of code bases

    rng = np.random.default_rng(0)
    videos = [f"v{k}" for k in range(_VIDEOS)]
    skeletons = []
    for label, name in enumerate(videos):
        (root / name).mkdir(parents=True)
        video = cv2.VideoWriter(str(root / f"{name}.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 15, (96, 72))
        for step in range(_FRAMES):
            image = rng.integers(0, 60, (72, 96, 3)).astype(np.uint8)
            image[20:50, step : step + 30] = (40 * label, 255 - 45 * label, 90)
            Image.fromarray(image).save(root / name / f"img_{step:05}.jpg")
            video.write(image[..., ::-1])
        video.release()
        np.save(root / f"{name}.npy", rng.random((640, 80)).astype(np.float32))
        points = (48 + rng.normal(0, 1, (1, _FRAMES, 17, 2)).cumsum(1)).astype(np.float32)
        skeletons.append(
            {"frame_dir": name, "label": label, "total_frames": _FRAMES, "keypoint": points}
            | {"img_shape": (72, 96), "original_shape": (72, 96), "keypoint_score": np.ones_like(points[..., 0])}
        )
    (root / "skeletons.pkl").write_bytes(pickle.dumps({"split": {"training": videos}, "annotations": skeletons}))
    (root / "videos.txt").write_text("".join(f"{name} {_FRAMES - 1} {k}\n" for k, name in enumerate(videos)))
    (root / "sounds.txt").write_text("".join(f"{name}.npy 300 {k}\n" for k, name in enumerate(videos)))
    texts = {f"{name}.avi": [f"a box in color {k}"] for k, name in enumerate(videos)}
    (root / "VideoTextDataset.json").write_text(json.dumps(texts))
    pairs = [{"video": name, "caption": caption} for name, caption in texts.items()]
    (root / "MSRVTTRetrieval.json").write_text(json.dumps(pairs))
    boxes = [f"{name},0901,0.1,0.2,{0.5 + 0.1 * k},0.8,{k + 1},0\n" for k, name in enumerate(videos)]
    (root / "ava.csv").write_text("".join(boxes))
    proposals = {f"{name},0901": np.array([[0.1, 0.2, 0.6, 0.8, 1], [0, 0, 1, 1, 1]]) for name in videos}
    (root / "proposals.pkl").write_bytes(pickle.dumps(proposals))
    torch.save({name: {901: torch.from_numpy(rng.random((5, 2048)))} for name in videos}, root / "lfb_train.pkl")


def _write_features(root: Path, cfg: Any) -> None:
    """Writes the features of 100 intervals of each video, in as many channels as the model reads."""
    channels = next(node[key] for node in walk(cfg.model) for key in ("feat_dim", "tem_feat_dim") if key in node)
    rng = np.random.default_rng(0)
    (root / "features").mkdir(exist_ok=True)
    found = {}
    for k in range(_VIDEOS):
        table = rng.random((100, channels))
        np.savetxt(root / "features" / f"v{k}.csv", table, delimiter=",", header="features", fmt="%.4f")
        found[f"v{k}"] = {"duration_second": 100.0, "duration_frame": 3000, "feature_frame": 3000, "fps": 30.0}
        found[f"v{k}"]["annotations"] = [{"segment": [20.0, 50.0 + 10 * k], "label": "c"}]
        found[f"v{k}"]["proposals"] = [[0.2, 0.5, 1.0], [0.1, 0.9, 1.0]]
    (root / "features.json").write_text(json.dumps(found))
