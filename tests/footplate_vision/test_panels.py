import numpy as np

from footplate.data.data_element import BaseDataElement
from footplate_vision.panels import arrange_panels
from footplate_vision.visualization import origin_of_image


def test_a_legend_shows_every_color_below_the_panels() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    legend = {f"class number {number}": (200, 10 * number, 0) for number in range(12)}
    plain, page = arrange_panels({"a": image}), arrange_panels({"a": image}, legend)
    assert page.shape[1] == plain.shape[1]
    below = page[plain.shape[0] - 10 :]
    assert all((below == color).all(axis=2).sum() > 50 for color in legend.values())


def test_layout_has_the_title_and_the_file_of_the_image() -> None:
    sample = BaseDataElement(metainfo={"title": "7.png: wrong", "img_path": "data/stop sign/7.png"})
    page = arrange_panels({"a": np.zeros((256, 256, 3), np.uint8)}, None, **origin_of_image(sample))
    assert (page.layout["title"], page.layout["path"]) == ("7.png: wrong", "data/stop sign/7.png")
    assert origin_of_image(None) == {"title": "", "path": ""}
