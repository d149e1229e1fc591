import numpy as np

from footplate_vision.panels import arrange_panels


def test_a_legend_shows_every_color_below_the_panels() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    legend = {f"class number {number}": (200, 10 * number, 0) for number in range(12)}
    plain, page = arrange_panels({"a": image}), arrange_panels({"a": image}, legend)
    assert page.shape[1] == plain.shape[1]
    below = page[plain.shape[0] - 10 :]
    assert all((below == color).all(axis=2).sum() > 50 for color in legend.values())
