"""What a stranger's file can make the reader pay: seconds and megabytes, not more."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_MIB = 900  # above what the imports take
SIDE = 8190  # pixels; just below the limit of an image
PNG = b"\x89PNG\r\n\x1a\n"
MEASURED = """
import resource, sys
from pathlib import Path
{before}
base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{program}
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


def mib_of(before: str, program: str) -> int:
    """What a program takes of memory, beyond what stands before it."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED.format(before=before, program=program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return int(done.stdout)


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def bomb(path: Path, colour: int, bits: int, extra: bytes = b"") -> Path:
    """A black PNG of SIDE × SIDE pixels in a few kilobytes."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + (SIDE * channels * bits + 7) // 8)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(SIDE)) + packer.flush()
    header = struct.pack(">IIBBBBB", SIDE, SIDE, bits, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", data), chunk(b"IEND", b""))
    path.write_bytes(PNG + b"".join(parts))
    return path


TWO_COLOURS = chunk(b"PLTE", bytes(3) + b"\xff" * 3) + chunk(b"tRNS", b"\x00\xff")


@pytest.mark.parametrize(
    ("colour", "bits", "extra"),
    [(0, 8, b""), (3, 1, TWO_COLOURS), (6, 8, b"")],
    ids=["grey", "two colours, one transparent", "transparent"],
)
def test_an_image_of_few_kilobytes_takes_less_than_a_gigabyte(
    tmp_path: Path, colour: int, bits: int, extra: bytes
) -> None:
    path = bomb(tmp_path / "a.png", colour, bits, extra)
    assert path.stat().st_size < 300_000
    read = f"decode_image(Path({str(path)!r}).read_bytes(), Path('a.png'))"
    assert mib_of("from mlguard.data.files import decode_image", read) < MOST_MIB


def test_a_mask_of_few_kilobytes_takes_less_than_a_gigabyte(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.png", 0, 8)
    read = f"count_values(decode_mask(Path({str(path)!r}).read_bytes(), Path('a.png')))"
    before = "from mlguard.data.files import count_values, decode_mask"
    assert mib_of(before, read) < MOST_MIB


def test_large_images_are_decoded_one_after_the_other(tmp_path: Path) -> None:
    path = bomb(tmp_path / "a.png", 0, 8)
    before = "from mlguard.data.files import decode_image; import threading, time"
    read = f"content = Path({str(path)!r}).read_bytes(); "
    read += "many = [threading.Thread(target=lambda: decode_image(content, Path('a')))"
    read += " for _ in range(4)]; [t.start() for t in many]; [t.join() for t in many]"
    assert mib_of(before, read) < MOST_MIB


@pytest.mark.parametrize(
    "key",
    [
        ".".join("a" * 60_000) + " = 1",
        ".".join(['"a"'] * 30_000) + " = 1",
        "[" + " . ".join("a" * 60_000) + "]",
        "x = {" + ".".join("a" * 60_000) + " = 1}",
        ".".join([r'"\""'] * 24_000) + " = 1",
        ".".join(['"' + "a" * 300 + '"'] * 3_000) + " = 1",
    ],
    ids=["bare", "quoted", "table", "inline", "escaped", "long parts"],
)
def test_a_key_of_thousands_of_parts_is_refused_at_once(
    tmp_path: Path, key: str
) -> None:
    path = tmp_path / "a.toml"
    path.write_text(key)
    before = "from mlguard.recipe import read_recipe; from mlguard.errors import *"
    read = f"try: read_recipe({str(path)!r})\nexcept RecipeError: pass\n"
    read += "else: raise SystemExit('it was taken')"
    assert mib_of(before, read) < MOST_MIB / 4
