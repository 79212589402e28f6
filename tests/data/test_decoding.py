"""Decoding: images of every common kind become RGB, masks stay numbers."""

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlguard.data.draws import Draws
from mlguard.data.files import decode_image, decode_mask
from mlguard.data.shapes import paint
from mlguard.errors import DatasetError

PATH = Path("some.png")


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def grey_png(bits: int, numbers: list[int]) -> bytes:
    """A PNG of one row in grey of a few bits, written by hand."""
    packed = int("".join(f"{number:0{bits}b}" for number in numbers), 2)
    row = packed.to_bytes(bits * len(numbers) // 8, "big")
    header = struct.pack(">IIBBBBB", len(numbers), 1, bits, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" + row)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def chunk(kind: bytes, body: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + checksum


def test_grey_is_repeated_in_three_channels() -> None:
    decoded = decode_image(png(Image.new("L", (3, 2), 77)), PATH)
    assert decoded.shape == (2, 3, 3)
    assert (decoded == 77).all()


def test_sixteen_bit_grey_keeps_its_upper_bits() -> None:
    deep = Image.fromarray(np.full((2, 3), 0x4D21, dtype=np.uint16))
    assert (decode_image(png(deep), PATH) == 0x4D).all()


def test_transparent_parts_are_laid_on_black() -> None:
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 255))
    clear.putpixel((1, 0), (10, 20, 30, 0))
    decoded = decode_image(png(clear), PATH)
    assert decoded.tolist() == [[[10, 20, 30], [0, 0, 0]]]


def test_a_palette_image_is_looked_up() -> None:
    indexed = Image.new("P", (1, 1), 1)
    indexed.putpalette([0, 0, 0, 9, 8, 7])
    assert decode_image(png(indexed), PATH).tolist() == [[[9, 8, 7]]]


def test_an_image_is_turned_upright_as_its_camera_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    turned = decode_image(png(Image.new("RGB", (4, 2)), exif=exif), PATH)
    assert turned.shape == (4, 2, 3)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_masks_of_few_bits_are_not_stretched(bits: int) -> None:
    numbers = [0, 1, 1, 0, 0, 0, 0, (1 << bits) - 1]
    assert decode_mask(grey_png(bits, numbers), PATH).tolist() == [numbers]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_masks_of_few_bits_keep_their_numbers(bits: int) -> None:
    indexed = Image.new("P", (3, 1))
    indexed.putpalette([0, 0, 0, 200, 0, 0])
    indexed.putpixel((2, 0), 1)
    assert decode_mask(png(indexed, bits=bits), PATH).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_a_mask_in_colours_is_refused(mode: str) -> None:
    with pytest.raises(
        DatasetError, match=r"some\.png is a colour PNG, expected 8-bit"
    ):
        decode_mask(png(Image.new(mode, (2, 2))), PATH)


def test_a_mask_of_sixteen_bits_is_refused() -> None:
    deep = Image.fromarray(np.zeros((2, 2), dtype=np.uint16))
    with pytest.raises(DatasetError, match=r"some\.png is a 16-bit PNG"):
        decode_mask(png(deep), PATH)


def test_a_mask_that_is_a_jpeg_is_refused() -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    with pytest.raises(DatasetError, match=r"mask some\.png is not a PNG"):
        decode_mask(buffer.getvalue(), PATH)


@pytest.mark.parametrize("kept", [0, 7, 8, 20, 30, 45])
def test_a_mask_cut_anywhere_in_its_head_is_refused(kept: int) -> None:
    with pytest.raises(DatasetError, match=r"some\.png"):
        decode_mask(png(Image.new("L", (8, 8)))[:kept], PATH)


@pytest.mark.parametrize("position", range(0, 66, 3))
def test_a_damaged_byte_of_a_mask_is_refused_or_harmless(position: int) -> None:
    content = bytearray(png(Image.new("L", (8, 8))))
    content[position] ^= 0x5A
    with contextlib.suppress(DatasetError):  # and nothing else
        assert decode_mask(bytes(content), PATH).dtype == np.uint8


@pytest.mark.parametrize("pixels", [100 << 20, 400 << 20])
def test_a_huge_image_is_refused_before_it_is_decoded(pixels: int) -> None:
    content = bytearray(png(Image.new("L", (8, 8))))
    content[16:24] = struct.pack(">II", 1 << 10, pixels >> 10)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    with pytest.raises(DatasetError, match="more than 67108864 pixels"):
        decode_image(bytes(content), PATH)


def test_an_image_of_another_format_is_refused_whatever_its_name() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "BMP")
    with pytest.raises(DatasetError, match=r"image some\.png is not a JPEG or PNG"):
        decode_image(buffer.getvalue(), PATH)


@given(st.data())
def test_a_damaged_image_is_decoded_or_refused_and_nothing_else(data) -> None:
    kind = data.draw(st.sampled_from(["JPEG", "PNG"]))
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3
    image, _ = paint(Draws(0), 24, 24)
    Image.fromarray(image).save(buffer, kind, exif=exif)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings(), contextlib.suppress(DatasetError):
        warnings.simplefilter("ignore")  # of odd EXIF; the image itself may be fine
        assert decode_image(bytes(content), PATH).dtype == np.uint8
