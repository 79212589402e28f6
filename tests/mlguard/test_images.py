"""Training and predicting see the same pixels of the same file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlguard.data.files import decode_image
from mlguard.images import UnknownMode, decode_rgb
from mlguard.runtime import read_image

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 4), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_both_rooms_decode_a_file_alike(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    deep = Image.fromarray(RGB[..., 0].astype(np.uint16) * 256 + 77)
    picture = deep if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    picture.save(path, exif=exif)
    trained = decode_image(path.read_bytes(), path)
    assert trained.shape == (7, 5, 3)
    np.testing.assert_array_equal(read_image(path)[0].transpose(1, 2, 0), trained)


def test_numbers_of_another_kind_are_not_guessed() -> None:
    with pytest.raises(UnknownMode, match="F"):
        decode_rgb(Image.new("F", (2, 2)))
