"""Defines the visualizer, which passes images, scalars and the run's config to its writers, and draws feature maps."""

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import isfunction
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from footplate.checks import check_choice, check_count, check_fraction
from footplate.error_context import at_key, origin_of, with_origins
from footplate.errors import ArgumentError, FootplateError
from footplate.messages import describe_exception
from footplate.records import BaseVisBackend, ImageArray, Instances, LocalVisBackend
from footplate.records.base_writer import Tracker
from footplate.registry import VISBACKENDS, VISUALIZERS
from footplate.storage import commit_image, output_path
from footplate.visualization.drawing import Drawing, as_array

_logger = logging.getLogger("footplate.visualization")
_MAX_FAILURES = 3
Reduction = Literal["squeeze_mean", "select_max"]


def draw_featmap(
    featmap: Any,
    overlaid_image: Any = None,
    channel_reduction: Reduction | None = "squeeze_mean",
    topk: int = 20,
    arrangement: tuple[int, int] = (4, 5),
    resize_shape: tuple[int, int] | None = None,
    alpha: float = 0.5,
) -> ImageArray:
    """Draws a feature map as an image, with colors from blue (low values) to red (high values).

    Args:
        featmap: An array of shape ``(C, H, W)`` with any range of values.
        overlaid_image: A uint8 image of shape ``(H', W', 3)`` or ``(H', W')``. The feature map is blended with this
            image.
        channel_reduction: "squeeze_mean" draws the mean over channels. "select_max" draws the channel with the largest
            mean. None draws a grid of the `topk` channels with the largest means.
        topk: The number of channels in the grid, or -1 for all.
        arrangement: The numbers of rows and columns in the grid.
        resize_shape: The height and width of the result, or of each channel in a grid. Defaults to the size of
            `overlaid_image`, or of the feature map if there is no image.
        alpha: The weight of the feature map, between 0 and 1. At 1, `overlaid_image` is invisible.

    Returns:
        A uint8 RGB image of shape ``(H, W, 3)``, or ``(rows * H, columns * W, 3)`` for a grid.

    Raises:
        ArgumentError: The feature map is empty or does not have the shape ``(C, H, W)``, or an argument is invalid.

    Example:
        >>> draw_featmap(np.zeros((8, 4, 6)), resize_shape=(40, 60)).shape
        (40, 60, 3)
    """
    planes = as_array(featmap).astype(np.float64)
    if planes.ndim != 3 or not planes.size:
        raise ArgumentError(
            "a feature map must be a non-empty array of shape (C, H, W)", key="featmap", found=planes.shape
        )
    check_fraction("alpha", alpha)
    if channel_reduction is not None:
        check_choice("channel_reduction", channel_reduction, get_args(Reduction))
        chosen = planes.mean(0) if channel_reduction == "squeeze_mean" else planes[planes.mean((1, 2)).argmax()]
        return _render_plane(chosen, overlaid_image, resize_shape, alpha)
    rows, columns = arrangement
    count = len(planes) if topk == -1 else min(check_count("topk", topk), len(planes))
    if rows * columns < count:
        raise ArgumentError(
            f"{count} channels do not fit into a {rows} x {columns} grid", key="arrangement", found=arrangement
        )
    best = np.argsort(-planes.mean((1, 2)), kind="stable")[:count]
    tiles = [_render_plane(planes[channel], overlaid_image, resize_shape, alpha) for channel in best]
    tiles += [np.full_like(tiles[0], 255)] * (rows * columns - count)
    return np.concatenate([np.concatenate(tiles[row * columns :][:columns], axis=1) for row in range(rows)])


def _render_plane(plane: NDArray[np.float64], image: Any, shape: tuple[int, int] | None, alpha: float) -> ImageArray:
    """Returns the colors of one channel, blended with `image`."""
    from matplotlib import colormaps  # slow to import

    below = None if image is None else Image.fromarray(as_array(image)).convert("RGB")
    height, width = shape or (plane.shape if below is None else (below.height, below.width))
    finite = np.nan_to_num(plane)
    low, high = finite.min(), finite.max()
    relative = (finite - low) / (high - low) if high > low else np.zeros_like(finite)
    enlarged = Image.fromarray(relative.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    colors: ImageArray = np.ascontiguousarray(colormaps["jet"](np.asarray(enlarged), bytes=True)[..., :3])
    if below is None:
        return colors
    return np.asarray(Image.blend(below.resize((width, height)), Image.fromarray(colors), alpha))


@contextmanager
def skipping_failed_image(name: str) -> Iterator[None]:
    """Logs an exception in the block as a warning, so that an image that cannot be drawn does not end the run."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - it may come from a user-defined visualizer
        _logger.warning("The image '%s' cannot be drawn and is skipped: %s: %s", name, type(error).__name__, error)


def _skippable(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a method that draws and writes one image.

    If `skips_failed_images` is set, errors are logged as warnings.
    """

    @wraps(draw)
    def skipping(self: "Visualizer", *args: Any, **kwargs: Any) -> Any:
        if not self.skips_failed_images:
            return draw(self, *args, **kwargs)
        name = args[0] if args else kwargs.get("name")
        with skipping_failed_image(name if isinstance(name, str) else draw.__name__):
            return draw(self, *args, **kwargs)

    return skipping


class Visualizer(Drawing, Instances):
    """Draws images, and passes images, scalars and configs to all writers.

    Attributes:
        skips_failed_images: Whether errors in `add_datasample` and in the `visualize_...` methods of subclasses are
            logged as warnings instead of raised. True for a run's visualizer.

    Args:
        name: The name for `get_instance`.
        image: The initial image, a uint8 RGB array of shape ``(H, W, 3)``.
        vis_backends: The writers, as objects or dicts for VISBACKENDS. `get_backend` finds a writer by the `name` in
            its config, or by its class name if the config sets no name.
        save_dir: The run's folder. Writers write to its subfolder `vis_data` unless their config sets a folder.
        fig_save_cfg: Not used; stored as an attribute for compatibility.
        fig_show_cfg: Not used; stored as an attribute for compatibility.

    Raises:
        ArgumentError: Two writers have the same name.

    Example:
        >>> import numpy as np
        >>> visualizer = Visualizer(image=np.zeros((32, 32, 3), np.uint8))
        >>> visualizer.draw_circles([16, 16], 8, face_colors="blue").get_image()[16, 16].tolist()
        [0, 0, 255]
    """

    skips_failed_images = False

    def __init__(
        self,
        name: str = "visualizer",
        image: Any = None,
        vis_backends: Sequence[Any] | None = None,
        save_dir: str | None = None,
        fig_save_cfg: Any = None,
        fig_show_cfg: Any = None,
    ) -> None:
        Instances.__init__(self, name)
        Drawing.__init__(self, image)
        self.dataset_meta: Mapping[str, Any] = {}
        self.fig_save_cfg = dict(fig_save_cfg or {})
        self.fig_show_cfg = dict(fig_show_cfg or {})
        self._warned_of_display = False
        self._vis_backends: dict[str, BaseVisBackend] = {}
        self._failures: Counter[tuple[str, str]] = Counter()  # consecutive failures, by writer name and method
        folder = None if save_dir is None else os.path.join(save_dir, "vis_data")
        for index, cfg in enumerate(vis_backends or ()):
            with at_key(f"vis_backends[{index}]"):
                settings = {"save_dir": folder, **cfg} if isinstance(cfg, Mapping) else {}
                backend_name = settings.pop("name", None)
                backend = VISBACKENDS.build(with_origins(settings, cfg)) if settings else cfg
                backend_name = backend_name or type(backend).__name__
                if backend_name in self._vis_backends:
                    message = f"two backends have the name '{backend_name}'"
                    raise ArgumentError(message, notes=["Set a different `name`."])
                self._vis_backends[backend_name] = backend
        type(self).keep_instance(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, method in list(vars(cls).items()):
            if isfunction(method) and (name == "add_datasample" or name.startswith("visualize_")):
                setattr(cls, name, _skippable(method))

    draw_featmap = staticmethod(draw_featmap)

    def _call_writers(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Calls `method` on every writer.

        If it fails, for example because a disk is full or a server is down, logs a warning once. After three
        consecutive failures, the method is no longer called on that writer, unless it is `close`. A FootplateError is
        not suppressed, because it reports a user error.
        """
        for name, writer in self._vis_backends.items():
            call = (name, method)
            if self._failures[call] >= _MAX_FAILURES and method != "close":
                continue
            try:
                getattr(writer, method)(*args, **kwargs)
            except FootplateError:
                raise
            except Exception as error:  # an error in a library must not stop the run
                if call not in self._failures:
                    _logger.warning(
                        "The writer '%s' failed in %s (%s). The run continues; %s is skipped after %d failures in a "
                        "row.",
                        *call,
                        describe_exception(error),
                        method,
                        _MAX_FAILURES,
                    )
                self._failures[call] += 1
            else:
                if call in self._failures:
                    self._failures[call] = 0

    def get_backend(self, name: str) -> BaseVisBackend:
        """Returns the writer named `name`. Raises a KeyError if there is no such writer."""
        return self._vis_backends[name]

    def add_config(self, config: Any, **kwargs: Any) -> None:
        """Passes the run's config to all writers."""
        self._call_writers("add_config", config, **kwargs)

    def add_graph(self, model: Any, data_batch: Any, **kwargs: Any) -> None:
        """Passes the model's graph to all writers that support graphs."""
        self._call_writers("add_graph", model, data_batch, **kwargs)

    def add_image(self, name: str, image: Any, step: int = 0) -> None:
        """Passes a uint8 image of shape ``(H, W)`` or ``(H, W, C)`` to all writers, where C is 1, 3 (RGB) or 4 (RGBA).

        Raises:
            ArgumentError: The image does not have this type or one of these shapes, and a writer of footplate needs it.
        """
        # A PanelImage keeps its layout.
        image = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asanyarray(image)
        is_suitable = image.dtype == np.uint8 and image.ndim in (2, 3) and image.shape[2:] in ((), (1,), (3,), (4,))
        if not is_suitable and any(isinstance(each, LocalVisBackend | Tracker) for each in self._vis_backends.values()):
            raise ArgumentError(
                "an image must be a uint8 array of shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)",
                found=f"shape {image.shape} and type {image.dtype}",
                notes=["Convert a float tensor (3, H, W) with (255 * image).byte().permute(1, 2, 0)."],
            )
        if image.shape[2:] == (1,):  # not all writers accept it
            image = image[..., 0]
        self._call_writers("add_image", name, image, step)

    def add_scalar(self, name: str, value: Any, step: int = 0, **kwargs: Any) -> None:
        """Passes a scalar to all writers."""
        self._call_writers("add_scalar", name, value, step, **kwargs)

    def add_scalars(
        self, scalar_dict: Mapping[str, Any], step: int = 0, file_path: str | None = None, **kwargs: Any
    ) -> None:
        """Passes the scalars for one step to all writers."""
        self._call_writers("add_scalars", scalar_dict, step, file_path, **kwargs)

    def add_datasample(
        self,
        name: str,
        image: Any,
        data_sample: Any = None,
        draw_gt: bool = True,
        draw_pred: bool = True,
        show: bool = False,
        wait_time: float = 0,
        out_file: str | None = None,
        step: int = 0,
    ) -> None:
        """Draws a sample with `render`, optionally shows it, and saves it or passes it to the writers.

        Args:
            name: The name of the image.
            image: A uint8 RGB image of shape ``(H, W, 3)``.
            data_sample: The annotations and predictions. If None, only the image is drawn.
            draw_gt: Whether to draw the ground truth.
            draw_pred: Whether to draw the prediction.
            show: Whether to show the image on the screen.
            wait_time: The minimum time to show the image, in seconds.
            out_file: The path to save the image to, instead of passing it to the writers.
            step: The iteration or epoch.
        """
        drawn = self.render(image, data_sample, draw_gt=draw_gt, draw_pred=draw_pred)
        if show:
            self.show(drawn, win_name=name, wait_time=wait_time)
        if out_file is not None:
            commit_image(out_file, Image.fromarray(drawn))
        else:
            self.add_image(name, drawn, step)

    def render(self, image: Any, data_sample: Any, *, draw_gt: bool = True, draw_pred: bool = True) -> ImageArray:
        """Returns the image as a uint8 RGB array, without drawing the sample.

        Task visualizers override this method to draw the sample. Their result may be larger than the image.
        """
        self.set_image(image)
        return self.get_image()

    def show(
        self,
        drawn_img: Any = None,
        win_name: str = "image",
        wait_time: float = 0,
        continue_key: str = " ",
        backend: str = "matplotlib",
    ) -> None:
        """Opens an image in the system's image viewer. Warns once if there is no display.

        Args:
            drawn_img: The image. Defaults to the image that was last drawn.
            win_name: The title.
            wait_time: The minimum time to show the image, in seconds.
            continue_key: Ignored; accepted for compatibility.
            backend: Ignored; accepted for compatibility.
        """
        has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
        if not has_display and sys.platform not in ("darwin", "win32"):
            if not self._warned_of_display:
                _logger.warning("Cannot show images, because there is no display.")
            self._warned_of_display = True
            return
        image = self.get_image() if drawn_img is None else np.asarray(drawn_img)
        Image.fromarray(image).show(title=win_name)
        time.sleep(wait_time)

    def close(self) -> None:
        """Closes all writers."""
        self._call_writers("close")
        self._failures.clear()

    def state_dict(self) -> dict[str, Any]:
        """Returns the states to restore when a run resumes, keyed by writer name."""
        return {name: state for name, writer in self._vis_backends.items() if (state := writer.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores the states that `state_dict` returned, except for writers added or removed since then.

        Call this method before anything is written.
        """
        for name in self._vis_backends.keys() & state.keys():
            self._vis_backends[name].load_state_dict(state[name])

    def move(self, before: str, now: str) -> None:
        """Redirects writers from the folder `before` to the folder `now`.

        Call this method before anything is written.
        """
        for backend in self._vis_backends.values():
            if isinstance(backend, BaseVisBackend):
                backend.move(before, now)


# Not a decorator, because the registry checks for subclasses of this class, which must be defined first.
VISUALIZERS.register_module(module=Visualizer)


def build_visualizer(visualizer: Any, *, name: str, work_dir: str, log_dir: str) -> Visualizer:
    """Builds the visualizer. Resolves each `save_dir`, of the visualizer and its backends, against the work_dir.

    Does not change a `save_dir` that the running script sets, as `tools/test.py --show-dir` does.

    Args:
        visualizer: The visualizer, its config dict, or None for a visualizer that writes scalars and images to the log
            folder.
        name: The default name of the visualizer.
        work_dir: The run's local folder.
        log_dir: The run's log folder.
    """
    if not isinstance(visualizer, Visualizer):
        cfg = visualizer if visualizer is not None else {"vis_backends": [{"type": "LocalVisBackend"}]}
        with at_key("visualizer"):
            settings = {"type": "Visualizer", "name": name, "save_dir": log_dir, **_in_folder(work_dir, cfg)}
            settings["vis_backends"] = [
                _in_folder(work_dir, backend, f"vis_backends[{position}].save_dir")
                for position, backend in enumerate(settings.get("vis_backends") or ())
            ]
            visualizer = VISUALIZERS.build(with_origins(settings, cfg))
    visualizer.skips_failed_images = True
    return visualizer  # type: ignore[no-any-return]


def _in_folder(work_dir: str, cfg: Any, key: str = "save_dir") -> Any:
    """Resolves the `save_dir` in the config of a visualizer or backend against `work_dir`. Errors refer to `key`."""
    if not isinstance(cfg, Mapping) or cfg.get("save_dir") is None:
        return cfg
    origin = origin_of(cfg, "save_dir")
    if origin and os.path.abspath(origin.file) == getattr(sys.modules["__main__"], "__file__", None):
        return cfg
    return with_origins({**cfg, "save_dir": output_path(work_dir, cfg["save_dir"], key=key)}, cfg)
