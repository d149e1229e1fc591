"""The command `footplate export`."""

import argparse
from typing import Any

from footplate.cli.arguments import add_trained, override
from footplate.cli.output import print_result


def add_commands(subparsers: Any) -> None:
    """Adds the command to the parser."""
    parser = subparsers.add_parser(
        "export",
        help="export a trained model to ONNX, torch.export, TorchScript or safetensors",
        description="Export a trained model with its normalization and postprocessing. The exported file is run, and "
        "its outputs are compared with those of the model. To convert only a checkpoint, use `footplate checkpoint "
        "export`.",
        epilog="Example: footplate export work_dirs/config/iter_4000.pth --to onnx",
    )
    add_trained(parser)
    parser.add_argument(
        "--to", metavar="FORMAT", required=True, help="onnx, torch-export, torchscript, or safetensors (weights only)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="the file to write (default: the name of the checkpoint with a new suffix)",
    )
    parser.add_argument("--opset", metavar="N", type=int, help="the version of the ONNX operators")
    parser.add_argument(
        "--size", metavar="N", type=int, nargs=2, help="height and width of the example input (default: the pipeline's)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Exports the model, and prints its inputs, its outputs and the largest difference."""
    from footplate.checkpoint import trusting
    from footplate.inference import describe_export, export_model, open_trained, output_path_of

    target = arguments.output or output_path_of(arguments.checkpoint, arguments.to)
    with trusting(arguments.trust):
        trained = open_trained(arguments.checkpoint, arguments.config)
        arguments.cfg = trained.cfg
        override(trained.cfg, arguments, import_custom_modules=False)
        exported = export_model(trained, target, arguments.to, opset=arguments.opset, size=arguments.size)
    print_result(arguments, exported, describe_export(exported))
    return 0
