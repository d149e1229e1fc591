"""Exports one config of every family of a code base to ONNX, and compares the file with the model's predictions.

    python -m benchmarks exports HOST DATA WORK_DIR [--only FAMILY ...] [--seconds 400]

HOST is mmseg, mmdet or mmpretrain. The models are those of `benchmarks.code_bases`, with random weights. The output has
one JSON line per family: whether the file is written (`exports`), whether it computes what `footplate predict` does for
images that were not used for the export (`agrees`, to 1e-3 of the largest value), and for which image sizes (`sizes`).
`difference` is the largest difference of the probabilities, or of the boxes in pixels. `pixels` is the smallest
fraction of equal pixels in label maps and masks, and `instances` the number of compared boxes with scores above 0.3.
"""

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.code_bases.configs import CONFIGS, shrink, walk
from benchmarks.code_bases.families import families, make_parser, run_families, select, set_up
from benchmarks.code_bases.hosts import PREPARE, fill_parameters, import_host, shallow_networks
from benchmarks.code_bases.made_up_data import seed_all

# The dataset and the last transform of the pipeline of each code base.
DATA = {
    "mmdet": ("CocoDataset", "PackDetInputs"),
    "mmpretrain": ("CustomDataset", "PackInputs"),
    "mmseg": ("BaseSegDataset", "PackSegInputs"),
}
SIZES = {"mmdet": 128, "mmpretrain": 224, "mmseg": 128}
MINIMUM_SCORE = 0.3
_IMAGES = 20  # for the comparison of a file with the model
# The configs of families whose config in `benchmarks.code_bases` needs the boxes of another model, or is unusual.
OTHERS = {"dcn": "r50-dconv", "dcnv2": "r50-mdconv", "libra_rcnn": "libra-faster"}


def export(host: str, path: Path, data: str, work_dir: Path, size: int, std: float = 1.0) -> dict[str, Any]:
    """Builds the model of a config, exports it and compares the file with the model."""
    from mmengine.config import Config

    from footplate.errors import FootplateError
    from footplate_vision.inference import Predictor, export_model, open_trained

    os.chdir(str(path).partition(".mim")[0] + ".mim")  # some models name other configs by their path
    cfg = Config.fromfile(str(path))
    shrink(cfg, str(work_dir))
    # A dilation for each block, a head that needs the channels of all blocks, or an output chosen by its block.
    if not any(node.get("multi_grid") or node.get("type") in ("DenseNet", "HiViT") for node in walk(cfg.model)):
        shallow_networks(transformers=host == "mmpretrain", stages=host == "mmpretrain")
    test_cfg = cfg.model.get("test_cfg") or {}
    PREPARE[host](cfg, data, size)
    if host == "mmseg":
        cfg.model.test_cfg = {**test_cfg, "mode": "whole"}
    for node in walk(cfg.model):
        if isinstance(node.get("depths"), (list, tuple)):
            node["depths"] = [min(2, depth) for depth in node["depths"]]
        if "max_per_img" in node:  # not more than there are queries
            node["max_per_img"] = min(node["max_per_img"], 100)
    nodes = list(walk(cfg.train_dataloader))
    dataset, pack = DATA[host]
    load = next(node for node in nodes if node.get("type") == "LoadImageFromFile")
    resize = {"type": "Resize", "scale_factor": 1.0, "keep_ratio": False}
    pipeline = [load, *[resize] * (host == "mmdet"), {"type": pack}]
    cfg.test_dataloader = {"batch_size": 1, "dataset": {"type": dataset, "pipeline": pipeline}}
    size = next((node["scale"][0] for node in nodes if node.get("type") == "Resize"), size)
    checkpoint = work_dir / "model.pth"
    work_dir.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": random_weights(cfg, host, data, size, std)}, checkpoint)
    trained = open_trained(checkpoint, cfg)
    try:
        exported = export_model(trained, str(work_dir / "model.onnx"), "onnx", size=(size, size))
    except FootplateError as error:
        return {"error": str(error)}
    step, varies = exported.multiple, len({shape[2:] for shape in exported.tested}) > 1
    supported = "fixed" if not varies else "any" if step == 1 else f"multiples of {step}"
    found: dict[str, Any] = {"exports": True, "sizes": supported}
    sizes = [(size, size), *[(step * (size // step + 2), step * (size // step + 5))] * varies]
    return found | compare(Predictor(trained, device="cpu"), exported.path, scenes(data, sizes, _IMAGES // len(sizes)))


def random_weights(cfg: Any, host: str, data: str, size: int, std: float) -> dict[str, Tensor]:
    """Returns random weights with which every layer has outputs with a standard deviation of `std`.

    The outputs of a deep network with other random weights hardly depend on the image. In layers for classes, the
    outputs have a mean of 0 and a standard deviation of 2, so that detectors find objects.
    """
    from mmengine.registry import MODELS, init_default_scope

    from footplate_vision.inference.trained_model import Preprocessing

    init_default_scope(cfg.get("default_scope", host))
    seed_all(7)
    model = MODELS.build(copy.deepcopy(cfg.model))  # some models change their config
    scalars = {name: each.detach().clone() for name, each in model.named_parameters() if not each.dim()}
    buffers = {name: each.clone() for name, each in model.named_buffers(remove_duplicate=False)}
    fill_parameters(model)
    model.load_state_dict(scalars, strict=False)
    for module in model.modules():
        if hasattr(module, "init_proposal_bboxes"):  # with random values, these boxes would be outside the image
            module.init_weights()
    preprocessing = Preprocessing(cfg, {})  # the metadata is read for poses only
    names: dict[Any, str] = {}
    seen = set()

    def rescale(layer: Any, _: Any, output: Any) -> Any:
        is_first, is_classifier = layer not in seen, "cls" in names[layer]
        seen.add(layer)
        dim = 1 if layer.weight.dim() > 2 else output.dim() - 1
        if is_first and is_classifier and layer.bias is not None:
            mean = output.transpose(dim, -1).flatten(0, -2).mean(0)
            layer.bias.sub_(mean)
            output = (output.transpose(dim, -1) - mean).transpose(dim, -1)
        factor = output.std() / (2 if is_classifier else std)
        if factor > (1e-6 if is_first else 1):  # a layer may be used several times, such as for several sizes
            for parameter in (layer.weight, layer.bias):
                if parameter is not None:
                    parameter.div_(factor)
            output = output / factor
        return output

    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            names[layer] = name
            layer.register_forward_hook(rescale)
    model.eval()
    with torch.no_grad():
        for height, width in ((size, size), (size + 64, size + 160)):
            try:
                for image in scenes(data, [(height, width)]):
                    model.test_step(preprocessing.collate([preprocessing(image, 0, "scene.png")]))
            except (AssertionError, RuntimeError):
                if height == size:  # otherwise, the model does not support this size
                    raise
    # Some models replace their position tables if they predict images of another size.
    return {name: buffers.get(name, weight) for name, weight in model.state_dict().items()}


def scenes(data: str, sizes: list[tuple[int, int]], count: int = 2) -> Any:
    """Yields `count` images at each size, as uint8 RGB arrays: all scenes, then the scenes turned by 90 degrees."""
    paths = sorted((Path(data) / "coco" / "training").iterdir())
    for index, (height, width) in enumerate(sizes):
        for number in range(count * index, count * (index + 1)):
            turns, place = divmod(number, len(paths))
            turned = Image.open(paths[place]).convert("RGB").rotate(90 * turns, expand=True)
            yield np.asarray(turned.resize((width, height)))


def compare(predictor: Any, path: str, images: Any) -> dict[str, Any]:
    """Returns the differences between the outputs of a file and the predictions of the model."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    found: dict[str, Any] = {"agrees": True, "difference": 0.0}
    for image in images:
        inputs = predictor.preprocess(image, 0)["inputs"].float()[None].numpy()
        outputs = dict(zip(names, map(torch.from_numpy, session.run(None, {"images": inputs})), strict=True))
        prediction = predictor(image)
        if "pred_instances" in prediction:
            row = compare_instances(outputs, prediction.pred_instances)
        elif "pred_sem_seg" in prediction:
            probabilities = prediction.seg_logits.data.softmax(0)
            is_best = probabilities.gather(0, outputs["labels"]) > probabilities.amax(0) - 1e-3
            row = {"pixels": float(is_best.double().mean())}
            row["difference"] = largest(outputs["probabilities"][0] - probabilities)
        else:
            scores = torch.stack(list(outputs.values())).sum(0)  # Conformer adds the scores of its two branches
            if hasattr(predictor.model, "matching"):  # a retriever, whose file computes features
                scores = predictor.model.matching(scores)["score"]
            else:
                is_distribution = bool((prediction.pred_score.sum() - 1).abs() < 1e-4)
                scores = scores.softmax(1) if is_distribution else scores.sigmoid()
            row = {"difference": largest(scores[0] - prediction.pred_score)}
        found["difference"] = max(found["difference"], row["difference"])
        if "instances" in row:
            found["instances"] = found.get("instances", 0) + row["instances"]
        if "pixels" in row:
            found["pixels"] = min(found.get("pixels", 1.0), row["pixels"])
    largest_value = max(image.shape) if "instances" in found else 1
    found["agrees"] = found["difference"] < 1e-3 * largest_value and found.get("pixels", 1.0) >= 0.999
    return found | {"difference": float(f"{found['difference']:.1g}")}


def compare_instances(outputs: dict[str, Tensor], predicted: Any) -> dict[str, Any]:
    """Compares each instance above the minimum score with the most similar one of its class, in both directions."""
    ours = [outputs[name] for name in ("boxes", "scores", "labels")]
    theirs = [predicted[name] for name in ("bboxes", "scores", "labels")]
    masks = [outputs.get("masks"), predicted.get("masks")]
    row: dict[str, Any] = {"difference": 0.0, "instances": int((theirs[1] > MINIMUM_SCORE).sum())}
    for (boxes, scores, labels), others, (mask, other_mask) in ((ours, theirs, masks), (theirs, ours, masks[::-1])):
        for index in (scores > MINIMUM_SCORE).nonzero().flatten().tolist():
            distances = (others[0] - boxes[index]).abs().amax(1).maximum((others[1] - scores[index]).abs())
            distances = torch.where(others[2] == labels[index], distances, torch.inf)
            distance, nearest = distances.min(0) if len(distances) else (torch.tensor(torch.inf), None)
            row["difference"] = max(row["difference"], float(distance))
            if mask is not None and nearest is not None:
                same = float((mask[index].bool() == other_mask[nearest].bool()).double().mean())
                row["pixels"] = min(row.get("pixels", 1.0), same)
    return row


def largest(difference: Tensor) -> float:
    """Returns the largest absolute value."""
    return float(difference.abs().max())


def main() -> None:
    """Exports the families and prints a line of JSON for each."""
    parser = make_parser(__doc__, DATA, 400)
    parser.add_argument("--std", type=float, default=1.0, help="the standard deviation of the outputs of each layer")
    args = parser.parse_args()
    set_up(args)
    import_host(args.host, "footplate")
    found, configs = families(args.host, "*"), CONFIGS.get(args.host, {}) | OTHERS
    for family, paths in found.items() if not args.config else ():
        # Self-supervised families are represented by a classifier that is fine-tuned.
        tuned = [path for path in paths if path.parent.name == "benchmarks" and "rcnn" not in path.stem]
        if tuned:
            found[family] = tuned
            configs.pop(family, None)

    def run(path: Path, folder: Path) -> dict[str, Any]:
        return export(args.host, path, args.data, folder, SIZES[args.host], args.std)

    run_families(args, select(args, found, configs), run, exports=False)


if __name__ == "__main__":
    main()
