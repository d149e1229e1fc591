"""Draws boxes, masks, points, lines and text on an image."""

import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, lru_cache
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from typing_extensions import Self

from footplate.errors import ArgumentError
from footplate.records import ImageArray

Color = str | Sequence[int]
RGB = tuple[int, int, int]
_load_font = lru_cache(maxsize=32)(ImageFont.truetype)

# Pillow's text anchors, by alignment.
_COLUMNS = {"left": "l", "center": "m", "right": "r"}
_ROWS = {"top": "a", "center": "m", "center_baseline": "m", "baseline": "s", "bottom": "d"}


class Drawing:
    """An image to draw on. All `draw_*` methods return the drawing itself.

    Coordinates are in pixels, x before y. `colors` is a single color, or a list with one color per shape. The same
    applies to line widths, font sizes and alignments. The `style` of a shape consists of `edge_colors`, `line_styles`,
    `line_widths`, `face_colors` and `alpha`, which can be passed in this order or by keyword. Shapes and texts with
    non-finite coordinates, which untrained models may predict, are skipped. Lines are always solid. Text is drawn in
    DejaVu Sans, or in another installed font if DejaVu Sans lacks a character. `line_styles`, `marker`, `font_families`
    and `font_properties` are accepted for compatibility and ignored.

    Args:
        image: A uint8 image: RGB ``(H, W, 3)`` or grayscale ``(H, W)``.

    Example:
        >>> import numpy as np
        >>> drawing = Drawing(np.zeros((8, 8, 3), np.uint8))
        >>> drawing.draw_bboxes([[1, 1, 6, 6]], edge_colors="red").get_image()[1, 1].tolist()
        [255, 0, 0]
    """

    def __init__(self, image: Any = None) -> None:
        self._canvas: Image.Image | None = None
        self._axes: Any = None
        self._image: Any = None  # visualizers of code bases read and replace this array
        if image is not None:
            self.set_image(image)

    def set_image(self, image: Any) -> None:
        """Sets the image, of shape ``(H, W, 3)`` (RGB) or ``(H, W)`` (grayscale), with values from 0 to 255.

        Raises:
            ArgumentError: The image does not have one of these shapes.
        """
        pixels = as_array(image)
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        if pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ArgumentError("an image must have the shape (H, W, 3) or (H, W)", key="image", found=pixels.shape)
        self._image = np.ascontiguousarray(pixels.clip(0, 255).astype(np.uint8))
        self._canvas = Image.fromarray(self._image)
        self._axes = None

    def get_image(self) -> ImageArray:
        """Returns the current image as a uint8 RGB array of shape ``(H, W, 3)``."""
        return np.array(self._drawn)

    def draw_points(self, positions: Any, colors: Any = "g", marker: Any = None, sizes: Any = None) -> Self:
        """Draws points of shape ``(N, 2)`` as filled circles.

        As in matplotlib, `sizes` are squared diameters in points of 1/72 inch, 36 by default, at 100 pixels per inch.
        """
        radii = np.sqrt(as_array(36 if sizes is None else sizes)) * 100 / 144
        return self.draw_circles(positions, radii, edge_colors=colors, face_colors=colors)

    def draw_circles(self, center: Any, radius: Any, *style: Any, **styles: Any) -> Self:
        """Draws N circles with centers of shape ``(N, 2)``, and a single radius or one radius per circle."""
        centers = _as_rows(center, 2)
        radii = np.broadcast_to(as_array(radius).astype(float).reshape(-1, 1), (len(centers), 1))
        around = np.concatenate([centers - radii, centers + radii], axis=1).tolist()
        return self._draw_shapes(ImageDraw.ImageDraw.ellipse, around, *style, **styles)

    def draw_lines(
        self, x_datas: Any, y_datas: Any, colors: Any = "g", line_styles: Any = "-", line_widths: Any = 1
    ) -> Self:
        """Draws N lines. `x_datas` and `y_datas`, of shape ``(N, 2)``, contain the coordinates of the endpoints."""
        ends = np.stack([_as_rows(x_datas, 2), _as_rows(y_datas, 2)], axis=2).reshape(-1, 4).tolist()
        return self._draw_shapes(
            lambda draw, line, fill, outline, width: draw.line(line, fill=outline, width=width),
            ends,
            colors,
            line_widths=line_widths,
        )

    def draw_bboxes(self, bboxes: Any, *style: Any, **styles: Any) -> Self:
        """Draws boxes of shape ``(N, 4)``, where each row contains two opposite corners: x1, y1, x2, y2."""
        boxes = np.sort(_as_rows(bboxes, 4).reshape(-1, 2, 2), axis=1).reshape(-1, 4).tolist()
        return self._draw_shapes(ImageDraw.ImageDraw.rectangle, boxes, *style, **styles)

    def draw_polygons(self, polygons: Any, *style: Any, **styles: Any) -> Self:
        """Draws a polygon of shape ``(M, 2)``, or a list of polygons, each with any number of corners."""
        several = list(polygons) if isinstance(polygons, (list, tuple)) else [polygons]
        if several and np.shape(as_array(several[0])) == (2,):
            several = [several]  # the corners of a single polygon
        corners = [list(map(tuple, _as_rows(polygon, 2).tolist())) for polygon in several]
        return self._draw_shapes(ImageDraw.ImageDraw.polygon, corners, *style, **styles)

    def draw_binary_masks(self, binary_masks: Any, colors: Any = "g", alphas: Any = 0.8) -> Self:
        """Draws boolean masks of shape ``(H, W)`` or ``(N, H, W)`` with opacities `alphas`.

        Raises:
            ArgumentError: A mask does not have the same size as the image.
        """
        masks = as_array(binary_masks).astype(bool)
        masks = masks[None] if masks.ndim == 2 else masks
        if not masks.size:
            return self
        image = self.get_image().astype(np.float32)
        if masks.shape[1:] != image.shape[:2]:
            raise ArgumentError("the masks must have the same size as the image", key="binary_masks", found=masks.shape)
        opacities = np.broadcast_to(np.asarray(alphas, dtype=np.float32), (len(masks),))
        for mask, color, alpha in zip(masks, _color_each(colors, len(masks)), opacities, strict=True):
            if color is not None:
                image[mask] += alpha * (np.asarray(color, dtype=np.float32) - image[mask])
        self.set_image(np.rint(image))
        return self

    def draw_texts(
        self,
        texts: str | Sequence[str],
        positions: Any,
        font_sizes: Any = None,
        colors: Any = "g",
        vertical_alignments: str | Sequence[str] = "top",
        horizontal_alignments: str | Sequence[str] = "left",
        font_families: Any = "sans-serif",
        bboxes: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        font_properties: Any = None,
    ) -> Self:
        """Draws texts at N positions, of shape ``(N, 2)``. Alignments set the part of a text at its position.

        Args:
            texts: The texts.
            positions: The positions of the texts.
            font_sizes: The heights of the texts in pixels. The default depends on the image size.
            colors: The colors of the texts.
            vertical_alignments: "top", "center", "center_baseline", "baseline" or "bottom".
            horizontal_alignments: "left", "center" or "right".
            font_families: Ignored; accepted for compatibility.
            bboxes: Background boxes for the texts, as dicts with a `facecolor` and an opacity `alpha`.
            font_properties: Ignored; accepted for compatibility.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        usual = max(9, round(math.sqrt(self._drawn.width * self._drawn.height) / 40))
        settings = (font_sizes, horizontal_alignments, vertical_alignments, bboxes or {})
        columns = (_each(value, len(texts)) for value in settings)
        places = _as_rows(positions, 2).tolist(), _color_each(colors, len(texts))
        for text, place, color, size, horizontal, vertical, box in zip(texts, *places, *columns, strict=True):
            if not np.isfinite(place).all():
                continue
            anchor = _COLUMNS[horizontal] + _ROWS[vertical]
            font = text_font(round(size or usual), text)
            behind = ImageDraw.Draw(self._drawn).textbbox(place, text, font=font, anchor=anchor)
            self.draw_bboxes([behind], "none", face_colors=box.get("facecolor", "none"), alpha=box.get("alpha", 1.0))
            ImageDraw.Draw(self._drawn).text(place, text, fill=color, font=font, anchor=anchor)
        return self

    @property
    def ax_save(self) -> Any:
        """Matplotlib axes that cover the image, in pixel coordinates. User-defined visualizers draw on them."""
        if self._axes is None:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            width, height = self._drawn.size
            figure = Figure((width / 100, height / 100), dpi=100, facecolor="none")
            FigureCanvasAgg(figure)
            self._axes = figure.add_axes((0, 0, 1, 1), autoscale_on=False)
            self._axes.axis("off")
            self._axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        return self._axes

    @property
    def fig_save(self) -> Any:
        """The matplotlib figure that contains `ax_save`."""
        return self.ax_save.figure

    @property
    def _drawn(self) -> Image.Image:
        if self._canvas is None:
            raise ArgumentError("there is no image to draw on", notes=["Call set_image(image) first."])
        if self._axes is not None:
            canvas = self._axes.figure.canvas
            self._axes = None
            canvas.draw()
            drawn = Image.fromarray(np.asarray(canvas.buffer_rgba()))
            self._canvas.paste(drawn, mask=drawn)
        return self._canvas

    def _draw_shapes(
        self,
        draw_one: Callable[..., None],
        shapes: Sequence[Any],
        edge_colors: Any = "g",
        line_styles: Any = "-",
        line_widths: Any = 1,
        face_colors: Any = "none",
        alpha: float = 1.0,
    ) -> Self:
        """Draws outlined or filled shapes. Blends them with the image if `alpha` is below 1."""
        faces = _color_each(face_colors, len(shapes))
        edges = _color_each(edge_colors, len(shapes))
        target = self._drawn.copy() if alpha < 1 else self._drawn
        draw = ImageDraw.Draw(target)
        widths = [max(1, round(float(width))) for width in _each(line_widths, len(shapes))]
        for shape, face, edge, width in zip(shapes, faces, edges, widths, strict=True):
            # With neither face nor edge, Pillow would draw a white outline.
            if (face is not None or edge is not None) and len(shape) > 1 and np.isfinite(shape).all():
                draw_one(draw, shape, fill=face, outline=edge, width=width)
        if alpha < 1:
            self._canvas = Image.blend(self._drawn, target, alpha)
        return self


def as_rgb(color: Color) -> RGB:
    """Converts a name ("red"), letter ("r"), hex code ("#ff0000") or three numbers from 0 to 255 to an RGB color.

    Raises:
        ArgumentError: The color is invalid.
    """
    from matplotlib.colors import to_rgb  # slow to import

    try:
        rgb: Any = color if isinstance(color, str) else [int(value) / 255 for value in color]
        red, green, blue = to_rgb(rgb)
    except ValueError as error:
        raise ArgumentError("a color must be a name or three numbers from 0 to 255", found=color) from error
    return round(255 * red), round(255 * green), round(255 * blue)


def as_array(values: Any) -> NDArray[Any]:
    """Converts a tensor on any device, or any array-like value, to an array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # NumPy has no such type
            values = values.float()
    return np.asarray(values)


def text_font(size: int, text: str) -> ImageFont.FreeTypeFont:
    """Returns a font with a height of `size` pixels and, if possible, a glyph for every character in `text`."""
    return _load_font(_font_file(frozenset("a0").union(letter for letter in text if not letter.isascii())), size)


@cache
def _font_file(letters: frozenset[str]) -> str:
    """Returns a font file with all these characters: matplotlib's DejaVu Sans, or else an installed font.

    If no font has all of them, returns DejaVu Sans.
    """
    import matplotlib

    usual = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    if _has_letters(usual, letters):
        return usual
    from matplotlib.font_manager import fontManager  # this import lists the installed fonts, which is slow

    # "Last Resort" has only placeholder boxes.
    fonts = [font for font in fontManager.ttflist if font.style == "normal" and "Last Resort" not in font.name]
    files = [font.fname for font in sorted(fonts, key=lambda font: (font.weight != 400, font.fname))]
    return next((file for file in files if _has_letters(file, letters)), usual)


def _has_letters(file: str, letters: Collection[str]) -> bool:
    from matplotlib.ft2font import FT2Font

    return all(map(FT2Font(file).get_char_index, map(ord, letters)))


def canvas_to_image(canvas: Any) -> ImageArray:
    """Draws a matplotlib canvas and returns its content as a uint8 RGB image of shape ``(H, W, 3)``."""
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _as_rows(values: Any, width: int) -> NDArray[np.float64]:
    """Returns coordinates as a float array of shape ``(N, width)``. Splits a flat array into rows."""
    rows = as_array(values).astype(np.float64)
    if rows.size % width or rows.ndim > 2 or (rows.ndim == 2 and rows.size and rows.shape[1] != width):
        raise ArgumentError(f"coordinates must have the shape (N, {width})", found=rows.shape)
    return rows.reshape(-1, width)


def _each(value: Any, count: int) -> list[Any]:
    """Returns one value for each of `count` shapes, by repeating a single value or a shorter list if needed."""
    items = value if isinstance(value, (list, tuple)) or np.ndim(value) else [value]
    return list(islice(cycle(items), count))


def _color_each(colors: Any, count: int) -> list[RGB | None]:
    """Returns one color for each of `count` shapes. "none" becomes None."""
    is_single = isinstance(colors, str) or (
        len(colors) == 3 and all(np.isscalar(n) and not isinstance(n, str) for n in colors)
    )
    several = _each([colors] if is_single else list(colors), count)
    return [None if isinstance(color, str) and color == "none" else as_rgb(color) for color in several]
