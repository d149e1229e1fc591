import numpy as np

from footplate_vision.panels import arrange_panels


def test_a_legend_shows_every_color_below_the_panels() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    legend = {f"class number {number}": (200, 10 * number, 0) for number in range(12)}
    plain, page = arrange_panels({"a": image}), arrange_panels({"a": image}, legend)
    assert page.shape[1] == plain.shape[1]
    below = page[plain.shape[0] - 10 :]
    assert all((below == color).all(axis=2).sum() > 50 for color in legend.values())


def test_layout_has_the_boxes_of_the_panels_and_the_legend() -> None:
    images = {name: np.full((50, 40, 3), shade, np.uint8) for name, shade in (("a", 200), ("b", 90))}
    page = arrange_panels(images, {"bag": (1, 2, 3)})
    assert page.layout["legend"] == [["bag", 1, 2, 3]]
    for (caption, left, top, right, bottom), (name, image) in zip(page.layout["panels"], images.items(), strict=True):
        assert caption == name
        assert np.array_equal(page[top:bottom, left:right], image.repeat(6, axis=0).repeat(6, axis=1))
