"""The command `footplate predict`."""

import argparse
from typing import Any

from footplate.cli.arguments import add_trained, override
from footplate.cli.output import print_error, print_result


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "predict",
        help="predict on pictures and videos with a checkpoint",
        description="Predict on pictures and videos with a checkpoint. Write a picture with the predictions and a JSON "
        "line for each input. Classes, colors and preprocessing come from the checkpoint's config.",
        epilog="Example: footplate predict work_dirs/config/iter_4000.pth images/ --out predictions",
    )
    add_trained(parser)
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="an image, a folder, a video, or a pattern such as 'images/*.png'"
    )
    parser.add_argument("--out", metavar="DIR", default="predictions", help="the output folder (default: predictions)")
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="the device, such as cpu or cuda:1 (default: the accelerator if there is one, otherwise cpu)",
    )
    parser.add_argument(
        "--batch-size", metavar="N", type=int, help="the number of images in a batch (default: as in the test data)"
    )
    parser.add_argument(
        "--score",
        metavar="X",
        type=float,
        help="the minimum score of instances in detection (default: 0.3) and of classes in classification (default: 0)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="write only the JSON lines")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Predicts on the inputs and prints the path of the predictions."""
    from footplate.checks import check_count, check_fraction

    if arguments.batch_size is not None:
        check_count("--batch-size", arguments.batch_size)
    if arguments.score is not None:
        check_fraction("--score", arguments.score)
    from footplate.checkpoint import trusting  # after the checks, because it imports torch
    from footplate.errors import DataError
    from footplate.inference import Predictor, open_trained, predict_files
    from footplate.messages import pluralize

    with trusting(arguments.trust):
        trained = open_trained(arguments.checkpoint, arguments.config)
    arguments.cfg = trained.cfg
    override(trained.cfg, arguments, import_custom_modules=False)
    predictor = Predictor(trained, device=arguments.device, batch_size=arguments.batch_size)
    found = predict_files(
        predictor, arguments.paths, arguments.out, score=arguments.score, draw=not arguments.no_pictures
    )
    rate = found.images / max(found.seconds, 1e-9)
    result = {"images": found.images, "seconds": found.seconds, "file": found.path, "failures": found.failures}
    print_result(arguments, result, f"{pluralize(found.images, 'image')}, {rate:.1f} per second: {found.path}\n")
    for failure in found.failures:
        print_error(f"error: {failure.error}\n")
    return DataError.exit_code if found.failures else 0
