import numpy as np

from footplate.tasks.panels import LegendEntry, arrange_panels


def test_panels_are_side_by_side_and_enlarged_by_an_integer() -> None:
    red, blue = [200, 0, 0], [0, 0, 200]
    left, right = np.full((100, 64, 3), red, np.uint8), np.full((100, 64, 3), blue, np.uint8)
    page = arrange_panels({"a": left, "b": right})
    assert page.dtype == np.uint8
    for color in (red, blue):
        rows, columns = np.nonzero((page == color).all(axis=2))
        # 3 is the least whole number that makes the longer side at least 256.
        assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (300, 192)
    assert np.nonzero((page == red).all(axis=2))[1].max() < np.nonzero((page == blue).all(axis=2))[1].min()


def test_a_legend_shows_every_color_below_the_panels() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    entries = [LegendEntry((200, 10 * number, 0), f"class number {number}") for number in range(12)]
    plain, page = arrange_panels({"a": image}), arrange_panels({"a": image}, entries)
    assert page.shape[1] == plain.shape[1]
    below = page[plain.shape[0] - 10 :]
    assert all((below == entry.color).all(axis=2).sum() > 50 for entry in entries)


def test_layout_has_the_boxes_of_the_panels_and_the_legend() -> None:
    images = {name: np.full((50, 40, 3), shade, np.uint8) for name, shade in (("a", 200), ("b", 90))}
    page = arrange_panels(images, [LegendEntry((1, 2, 3), "bag")])
    assert page.layout["legend"] == [["bag", 1, 2, 3]]
    for (caption, left, top, right, bottom), (name, image) in zip(page.layout["panels"], images.items(), strict=True):
        assert caption == name
        assert np.array_equal(page[top:bottom, left:right], image.repeat(6, axis=0).repeat(6, axis=1))
