"""Image files from strangers: one obvious way to 8-bit RGB, or a refusal by name."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from mlguard.errors import ImageError
from mlguard.runtime import MAX_PIXELS, read_image
from tests.endless import ENDLESS, endless

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    notes: list[str] = []
    pixels = read_image(path, notice=notes.append)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    return pixels[0].transpose(1, 2, 0), notes


def save(tmp_path: Path, picture: Image.Image, name: str, **options: object) -> Path:
    path = tmp_path / name
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tiff", "webp"])
def test_rgb_is_read_as_it_is(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == "webp" else {}
    path = save(tmp_path, Image.fromarray(RGB), f"a.{suffix}", **options)
    pixels, notes = read(path)
    np.testing.assert_array_equal(pixels, RGB)
    assert notes == []


def test_a_jpeg_is_read_as_pillow_decodes_it(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(RGB), "a.jpg")
    with Image.open(path) as picture:
        np.testing.assert_array_equal(read(path)[0], np.asarray(picture))


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    pixels, notes = read(save(tmp_path, Image.fromarray(GREY), "a.png"))
    np.testing.assert_array_equal(pixels, np.stack([GREY] * 3, axis=2))
    assert notes == []


def test_a_palette_becomes_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(GREY % 4)
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    pixels, notes = read(save(tmp_path, picture, "a.png"))
    assert tuple(pixels[GREY % 4 == 1][0]) == (40, 50, 60)
    assert notes == []


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    pixels, _ = read(save(tmp_path, Image.fromarray(GREY > 99), "a.png"))
    np.testing.assert_array_equal(pixels[:, :, 0], (GREY > 99) * 255)


def test_opaque_alpha_is_dropped_without_a_note(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB).convert("RGBA")
    pixels, notes = read(save(tmp_path, picture, "a.png"))
    np.testing.assert_array_equal(pixels, RGB)
    assert notes == []


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_become_black_with_a_note(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    picture.putalpha(Image.fromarray(np.where(GREY > 99, 255, 0).astype(np.uint8)))
    pixels, notes = read(save(tmp_path, picture, "a.png"))
    assert (pixels[GREY <= 99] == 0).all()
    shown = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(pixels[GREY > 99], shown[GREY > 99])
    assert len(notes) == 1
    assert "transparent pixels are composited on black" in notes[0]


def test_a_transparent_palette_colour_becomes_black(tmp_path: Path) -> None:
    picture = Image.fromarray(GREY % 2)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    pixels, notes = read(save(tmp_path, picture, "a.png", transparency=1))
    assert (pixels[GREY % 2 == 1] == 0).all()
    assert (pixels[GREY % 2 == 0] == (10, 20, 30)).all()
    assert len(notes) == 1


def test_cmyk_is_converted_with_a_note(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB).convert("CMYK")
    pixels, notes = read(save(tmp_path, picture, "a.tiff"))
    np.testing.assert_array_equal(pixels, RGB)
    assert "without its colour profile" in notes[0]


def test_16_bit_grey_keeps_the_high_byte_with_a_note(tmp_path: Path) -> None:
    deep = GREY.astype(np.uint16) * 256 + 77
    pixels, notes = read(save(tmp_path, Image.fromarray(deep), "a.png"))
    np.testing.assert_array_equal(pixels[:, :, 0], GREY)
    assert "16-bit grey; the low byte" in notes[0]


def test_16_bit_colour_keeps_the_high_byte(tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    height, width, _ = RGB.shape
    deep = (RGB.astype(">u2") * 256 + 200).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    header = struct.pack(">2I5B", width, height, 16, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(read(path)[0], RGB)


def test_floating_point_grey_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(GREY.astype(np.float32)), "a.tiff")
    with pytest.raises(
        ImageError, match=r"a\.tiff has pixels of mode F, expected 8-bit"
    ):
        read_image(path)


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    path = save(tmp_path, Image.fromarray(RGB), "a.png", exif=exif)
    np.testing.assert_array_equal(read(path)[0], np.rot90(RGB, -1))


def test_a_single_pixel_is_an_image(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(RGB[:1, :1]), "a.png")
    assert read_image(path).shape == (1, 3, 1, 1)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_an_animation_is_refused(tmp_path: Path, suffix: str) -> None:
    first, *others = (Image.fromarray(RGB[..., ::step]) for step in (1, -1))
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=others)
    with pytest.raises(
        ImageError, match=rf"a\.{suffix} has more than one frame, expected one"
    ):
        read_image(path)


def directories_of_a_tiff(number: int) -> bytes:
    """A TIFF of one grey pixel with so many directories, each naming the next."""
    short, long, size = 3, 4, 2 + 9 * 12 + 4
    directories = []
    for index in range(number):
        last = index + 1 == number
        facts = [
            (256, short, 1), (257, short, 1), (258, short, 8), (259, short, 1),
            (262, short, 1), (273, long, 8), (277, short, 1), (278, short, 1),
            (279, long, 1),
        ]  # fmt: skip
        entries = b"".join(struct.pack("<HHII", tag, of, 1, v) for tag, of, v in facts)
        after = 0 if last else 12 + (index + 1) * size
        directories.append(struct.pack("<H", 9) + entries + struct.pack("<I", after))
    return b"II*\0" + struct.pack("<I", 12) + b"\x7f\0\0\0" + b"".join(directories)


def test_frames_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counting them reads a directory for each, of which a small file holds many."""
    path = tmp_path / "many.tiff"
    path.write_bytes(directories_of_a_tiff(1))
    assert (read_image(path) == 127).all()
    path.write_bytes(directories_of_a_tiff(300_000))
    sought: list[int] = []
    seek = TiffImageFile._seek
    monkeypatch.setattr(
        TiffImageFile, "_seek", lambda tiff, to: (sought.append(to), seek(tiff, to))
    )
    with pytest.raises(ImageError, match="more than one frame"):
        read_image(path)
    assert 0 < len(sought) < 5


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_file_without_an_end_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ImageError, match=r"a\.png cannot be read: not a regular file"):
        read_image(endless(tmp_path / "a.png", kind))


def test_a_file_above_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlguard.runtime.images.MAX_FILE_BYTES", 5)
    path = save(tmp_path, Image.fromarray(RGB), "a.png")
    with pytest.raises(ImageError, match="cannot be read: larger than 5 bytes"):
        read_image(path)


def test_a_huge_image_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    body = b"IHDR" + header
    path = tmp_path / "huge.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip
    with pytest.raises(ImageError, match=r"huge\.png: .*3600000000 pixels") as refusal:
        read_image(path)
    assert "tiles" in refusal.value.hint


def test_the_limit_is_in_pixels_and_can_be_lowered(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(RGB), "a.png")
    assert read_image(path, max_pixels=35).shape == (1, 3, 5, 7)
    with pytest.raises(ImageError, match="7×5 pixels, expected at most 34"):
        read_image(path, max_pixels=34)
    assert MAX_PIXELS >= 24_000_000  # a camera's photograph fits


def test_a_corrupt_jpeg_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path, Image.fromarray(RGB).resize((64, 64)), "a.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=r"a\.jpg cannot be read as an image"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_not_an_image_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.png cannot be read as an image"):
        read_image(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        read_image(tmp_path / "none.png")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    suffix=st.sampled_from(["png", "jpg", "gif", "tiff", "webp", "bmp"]),
    start=st.integers(0, 600),
    damage=st.binary(min_size=1, max_size=20),
)
def test_no_damage_escapes_as_anything_but_a_refusal(
    tmp_path: Path, suffix: str, start: int, damage: bytes
) -> None:
    path = save(tmp_path, Image.fromarray(RGB), f"a.{suffix}")
    data = path.read_bytes()
    start %= len(data)
    path.write_bytes(data[:start] + damage + data[start + len(damage) :])
    with contextlib.suppress(ImageError):
        assert read_image(path).dtype == np.uint8


def test_a_phones_jpeg_with_a_preview_is_one_image(tmp_path: Path) -> None:
    picture, preview = Image.fromarray(RGB), Image.fromarray(RGB[::2])
    path = tmp_path / "phone.jpg"
    picture.save(path, format="MPO", save_all=True, append_images=[preview])
    assert read_image(path).shape == (1, 3, 5, 7)
