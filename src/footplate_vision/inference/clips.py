"""Converts videos and folders of frames into batches for a clip classification model."""

import os
import re
from typing import Any

from footplate.config import Config
from footplate.data import Compose
from footplate.error_context import at_key
from footplate.errors import ArgumentError, DataError
from footplate_vision.inference.trained_model import EvaluationData, name_of, reading

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".gif")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_SAMPLES_FRAMES = re.compile(r"\w*SampleFrames|UniformSample")  # transforms of MMAction2


class ClipPreprocessing(EvaluationData):
    """Converts clips to batches in the same way as MMAction2's test dataloader.

    Args:
        cfg: The config, in second-generation form.

    Attributes:
        reads_frames: Whether a clip is a folder of frames rather than a video file.
    """

    def __init__(self, cfg: Config) -> None:
        super().__init__(cfg)
        self.reads_frames = "RawFrameDecode" in map(name_of, self.transforms)
        with at_key(self.key), at_key("pipeline"):
            self._pipeline = Compose(self.transforms)
        # The keys that the datasets of MMAction2 add to a sample, and their defaults.
        usual = {"filename_tmpl": "img_{:05}.jpg", "start_index": int(self.reads_frames), "modality": "RGB"}
        self._settings = {name: self.dataset.get(name, value) for name, value in usual.items()}

    def __call__(self, clip: Any, index: int) -> Any:
        """Returns the preprocessed sample of a clip.

        Args:
            clip: The path of a video file or of a folder of frames.
            index: The index of the clip, which becomes its `sample_idx`.

        Raises:
            ArgumentError: `clip` is not a path.
            DataError: The clip cannot be read.
        """
        kind = "folder of frames" if self.reads_frames else "video file"
        if not isinstance(clip, str):
            raise ArgumentError(f"the model classifies clips, so each input must be the path of a {kind}")
        if self.reads_frames and not os.path.isdir(clip):
            raise DataError(f"the model's pipeline reads folders of frames, but the input '{clip}' is not a folder")
        sample = {"sample_idx": index, "label": -1, "filename": clip, **self._settings}
        with reading(f"the {kind} '{clip}'"):
            if self.reads_frames:
                frames = [name for name in os.listdir(clip) if name.lower().endswith(PICTURES)]
                sample |= {"frame_dir": clip, "total_frames": len(frames)}
            return self._pipeline(sample)


def reads_clips(cfg: Config) -> bool:
    """Checks whether the test pipeline samples frames from clips, as in MMAction2."""
    return any(_SAMPLES_FRAMES.fullmatch(name_of(step)) for step in EvaluationData(cfg).transforms)
