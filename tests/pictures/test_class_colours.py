"""The colours of classes follow PASCAL VOC's rule."""

import numpy as np
import pytest

from mlguard.pictures import VOID, colorize, palette

# The first colours as the VOC 2012 development kit lists them.
VOC_COLOURS = {
    0: (0, 0, 0),  # background
    1: (128, 0, 0),  # aeroplane
    2: (0, 128, 0),  # bicycle
    8: (64, 0, 0),  # cat
    15: (192, 128, 128),  # person
    20: (0, 64, 128),  # tv/monitor
    VOID: (224, 224, 192),  # the pale border of objects
}


@pytest.mark.parametrize(("label", "colour"), VOC_COLOURS.items())
def test_colours_are_those_of_voc(label: int, colour: tuple[int, int, int]) -> None:
    assert palette()[label] == colour


def test_no_two_classes_share_a_colour() -> None:
    assert len(set(palette())) == 256


def test_a_shorter_palette_is_the_start_of_the_whole() -> None:
    assert palette(21) == palette()[:21]


@pytest.mark.parametrize("classes", [0, 257])
def test_an_impossible_number_of_classes_is_a_bug(classes: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 256 classes, got {classes}"):
        palette(classes)


def test_every_pixel_gets_the_colour_of_its_class() -> None:
    mask = np.array([[[0, 1], [15, VOID]]], dtype=np.uint8)
    painted = colorize(mask)
    assert painted.shape == (1, 2, 2, 3)
    assert painted.dtype == np.uint8
    assert painted[0, 1].tolist() == [[192, 128, 128], [224, 224, 192]]


def test_a_mask_of_another_type_is_a_bug() -> None:
    with pytest.raises(TypeError, match="uint8, got int64"):
        colorize(np.zeros((2, 2), dtype=np.int64))
