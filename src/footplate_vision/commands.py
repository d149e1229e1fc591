"""Implements the commands `footplate predict` and `footplate export`, which use a trained model."""

from argparse import Namespace
from typing import Any

from footplate.cli.arguments import add_command, add_trained, number
from footplate.cli.config_arguments import apply_override_arguments
from footplate.cli.output import print_error, print_result
from footplate.errors import ArgumentError, DataError
from footplate.messages import list_names, pluralize

GROUP = "train and use a model"


def add_commands(subparsers: Any) -> None:
    """Adds the commands to the parser."""
    init = add_command(
        subparsers,
        "init",
        write_initial_config,
        "write a config for a folder with your images and labels",
        "Look at a folder with images and labels, and write a short config that trains on it: class folders, images "
        "with label maps, a COCO file or YOLO labels. If the folder has no split, choose a fifth of the images at "
        "random to validate on. With --from, the config trains a published model on the folder.",
        "footplate init segmentation data/",
    )
    init.add_value("task", "TASK", "classification, segmentation or detection")
    init.add_value("folder", "FOLDER", "the folder with images and labels")
    init.add_value("-o --output", "FILE", "the config to write (default: my_TASK.py)")
    init.add_value("--from", "CONFIG", "a published config to train, such as mmdet::rtmdet/NAME.py", dest="base")
    init.add_flag("--from-scratch", "with --from: do not start from published weights")
    predict = add_command(
        subparsers,
        "predict",
        predict_inputs,
        "predict on images and videos with a checkpoint",
        "Predict on images and videos with a checkpoint. Write an image with the predictions and a JSON "
        "line for each input. Classes, colors and preprocessing come from the checkpoint and the config.",
        "footplate predict work_dirs/config/iter_4000.pth images/ --out predictions",
    )
    add_trained(predict)
    predict.add_value("paths", "PATH", "an image, a folder, a video, or a pattern such as 'images/*.png'", nargs="+")
    predict.add_value("--out", "DIR", "the output folder (default: predictions)", default="predictions")
    predict.add_value(
        "--device",
        "NAME",
        "the device, such as cpu or cuda:1 (default: the accelerator if there is one, otherwise cpu)",
    )
    predict.add_value(
        "--batch-size",
        "N",
        "the number of images or tiles per batch (default: the batch size of the test dataloader; 1 for tiles)",
        type=number(int, 1),
    )
    predict.add_value(
        "--score",
        "X",
        "the minimum score for instances (detection, default: 0.3) or classes (classification, default: the best five)",
        type=number(float, 0, 1),
    )
    predict.add_value("--tile", "N", "predict in overlapping tiles of N pixels, for large images", type=number(int, 1))
    predict.add_value(
        "--overlap", "X", "with --tile: the minimum overlap of tiles, relative to N (default: 0.2)", type=float
    )
    predict.add_flag("--no-pictures", "write only the JSON lines")
    export = add_command(
        subparsers,
        "export",
        export_checkpoint,
        "export a trained model to ONNX or torch.export",
        "Export a trained model. An image model is exported with its normalization and, for most "
        "tasks, its postprocessing. The exported file is run, and its outputs are compared with the model's outputs. "
        "To write only the weights to a safetensors file, use `footplate checkpoint export`.",
        "footplate export work_dirs/config/iter_4000.pth --to onnx",
    )
    add_trained(export)
    export.add_value("--to", "FORMAT", "the format: onnx or torch-export", required=True)
    export.add_value("-o --output", "FILE", "the file to write (default: the checkpoint name with a new suffix)")
    export.add_value("--opset", "N", "the ONNX opset version; for MMDetection detectors, 17 or later", type=int)
    export.add_value(
        "--size",
        ("H", "W"),
        "the height and width of the example input; an image is resized to this size (default: the pipeline's "
        "output size)",
        type=int,
        nargs=2,
    )
    export.add_value(
        "--image",
        "FILE",
        "an image to verify the exported file with, such as one with objects to detect (default: random pixels)",
    )


def write_initial_config(arguments: Namespace) -> None:
    """Writes a config for a folder of images."""
    from footplate.checks import check_choice
    from footplate_vision.initial_config import TASKS, write_config

    task = check_choice("TASK", arguments.task, TASKS)
    file = arguments.output or f"my_{task}.py"
    found = write_config(task, arguments.folder, file, arguments.base, from_scratch=arguments.from_scratch)
    lines = [
        f"{file}: {task} of the images in {arguments.folder}",
        f"classes     {len(found['classes'])}: {list_names(found['classes'], 20)}",
        f"images      {found['train']} to train on, {found['val']} to validate on",
        *(f"written     {path}" for path in found["files"][1:]),
        *(f"note        {note}" for note in found["notes"]),
        f"next        footplate check {file}",
        f"            footplate train {file}",
    ]
    print_result(arguments, found, "\n".join(lines) + "\n")


def _open_trained(arguments: Namespace) -> Any:
    """Opens the checkpoint of a command, and applies the overrides to its config."""
    from footplate_vision.inference import open_trained

    trained = open_trained(arguments.checkpoint, arguments.config)
    arguments.cfg = trained.cfg
    apply_override_arguments(trained.cfg, arguments, import_custom_modules=False)
    return trained


def predict_inputs(arguments: Namespace) -> int:
    """Runs inference on the inputs and prints the path of the output file. Returns 2 if an input cannot be read."""
    from footplate_vision.inference import Predictor, predict_files
    from footplate_vision.inference.predictor import DEFAULT_SCORE

    trained = _open_trained(arguments)
    if arguments.overlap is not None and arguments.tile is None:
        raise ArgumentError("--overlap needs --tile", key="--overlap", found=arguments.overlap)
    overlap = 0.2 if arguments.overlap is None else arguments.overlap
    predictor = Predictor(
        trained, device=arguments.device, batch_size=arguments.batch_size, tile=arguments.tile, overlap=overlap
    )
    found = predict_files(
        predictor, arguments.paths, arguments.out, score=arguments.score, draw=not arguments.no_pictures
    )
    rate = found.images / max(found.seconds, 1e-9)
    result = {"images": found.images, "seconds": found.seconds, "file": found.path, "failures": found.failures}
    text = f"{pluralize(found.images, 'image')}, {rate:.1f} per second: {found.path}\n"
    if found.replaces:
        text += "The earlier predictions in this folder were replaced. To keep them, use another --out.\n"
    if found.instances == 0:
        settings, key = trained.cfg["model"].get("test_cfg"), "model.test_cfg"
        if isinstance(settings, dict) and "rcnn" in settings:
            settings, key = settings["rcnn"], f"{key}.rcnn"
        limit = settings.get("score_thr", 0) if isinstance(settings, dict) else 0
        if limit < (DEFAULT_SCORE if arguments.score is None else arguments.score):
            text += "No instance reaches the minimum score. Use a lower --score to show more.\n"
        elif limit:
            text += f"No instance reaches the model's minimum score. Pass --set {key}.score_thr=0.0 to show more.\n"
        else:
            text += "The model predicts no instances.\n"
    print_result(arguments, result, text)
    for failure in found.failures:
        print_error(f"error: {failure.error}\n")
    return DataError.exit_code if found.failures else 0


def export_checkpoint(arguments: Namespace) -> None:
    """Exports the model.

    Prints the inputs and outputs of the exported file, and how much these outputs differ from the model's outputs.
    """
    from footplate_vision.inference import describe_export, export_model, output_path_of

    target = arguments.output or output_path_of(arguments.checkpoint, arguments.to)
    trained = _open_trained(arguments)
    exported = export_model(
        trained, target, arguments.to, opset=arguments.opset, size=arguments.size, image=arguments.image
    )
    print_result(arguments, exported, describe_export(exported))
