"""Name the kind of a file from its first bytes, if it is not what its name says.

"Damaged, fetch it again" misleads people when nothing is damaged: a server answered
with a web page, Git LFS left its pointer, a phone wrote HEIC. The module looks only at
bytes; nothing is decoded.
"""

START_BYTES = 64  # how many bytes are looked at

_STARTS = (
    (b"version https://git-lfs", "a Git LFS pointer (`git lfs pull` fetches the file)"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x02", "a pickle"),
    (b"\x89HDF", "an HDF5 file"),
    (b"mlguard keystore", "a keystore"),
    (b"\xff\xfe", "a text in UTF-16"),
    (b"\xfe\xff", "a text in UTF-16"),
)
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<?xml", b"<svg")
_BRANDS = {  # of ISO base media files, at byte 8
    b"heic": "a HEIC image",
    b"heix": "a HEIC image",
    b"mif1": "a HEIC image",
    b"avif": "an AVIF image",
}


def kind_of(content: bytes) -> str:
    """Return what a file is, in a few words; empty if unknown.

    Example:
        >>> kind_of(b"<!DOCTYPE html><title>404")
        'a web page'
        >>> kind_of(b"RIFF....WEBPVP8 ")
        'a WebP image'
        >>> kind_of(b"anything")
        ''
    """
    start = content[:START_BYTES]
    if not start:
        return "empty"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_PAGES):
        return "a web page" if b"html" in text or b"<head" in text else "an XML text"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "a WebP image"
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12], "a video or an image from a phone")
    return next((kind for mark, kind in _STARTS if start.startswith(mark)), "")


def but_is(content: bytes) -> str:
    """Return " but …" for a refusal "is not …", if the kind of the file is known.

    Example:
        >>> "a is not a bundle" + but_is(b"%PDF-1.7")
        'a is not a bundle but a PDF document'
    """
    kind = kind_of(content)
    return f" but {kind}" if kind else ""
