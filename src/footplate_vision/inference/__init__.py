"""Runs trained models on images and videos, and exports them to other formats."""

from footplate_vision.inference.exported_file import Export, ExportError
from footplate_vision.inference.exporting import describe_export, export_model, output_path_of
from footplate_vision.inference.predicted_files import predict_files
from footplate_vision.inference.predictor import Predictor
from footplate_vision.inference.trained_model import TrainedModel, open_trained

__all__ = [
    "Export",
    "ExportError",
    "Predictor",
    "TrainedModel",
    "describe_export",
    "export_model",
    "open_trained",
    "output_path_of",
    "predict_files",
]
