"""Identity files: private, checksummed, and refused when they are not."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore import Identity, IdentityError


@pytest.fixture
def file(tmp_path: Path, identity: Identity) -> Path:
    identity.write(tmp_path / "identity")
    return tmp_path / "identity"


def test_a_written_identity_is_read_back(file: Path, identity: Identity) -> None:
    assert Identity.read(file).reveal() == identity.reveal()


def test_a_new_identity_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        Identity.generate().write(tmp_path / "identity")
    finally:
        os.umask(old)
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600


def test_an_identity_file_is_never_overwritten(file: Path) -> None:
    before = file.read_bytes()
    with pytest.raises(IdentityError, match="never overwritten"):
        Identity.generate().write(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601], ids=oct)
def test_a_file_that_is_open_to_others_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(IdentityError, match="open to other users"):
        Identity.read(file)


def test_a_link_to_an_identity_is_refused(file: Path) -> None:
    link = file.with_name("link")
    link.symlink_to(file)
    with pytest.raises(IdentityError, match="is a symbolic link"):
        Identity.read(link)


def test_another_users_file_is_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        os.chown(file, 4711, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with pytest.raises(IdentityError, match="belongs to another user"):
        Identity.read(file)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="there is no file at"):
        Identity.read(tmp_path / "nothing")


def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(IdentityError, match="not a regular file"):
        Identity.read(tmp_path / "pipe")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "there is no secret in"),
        ("hunter\n2\n", "not an identity"),
        ("hunter2\n", "not an identity"),
        ("x" * 5000, "is too long"),
    ],
    ids=["empty", "two", "other", "long"],
)
def test_a_file_that_is_no_identity_is_refused(
    file: Path, text: str, reason: str
) -> None:
    file.write_text(text)
    with pytest.raises(IdentityError, match=reason):
        Identity.read(file)


def test_lines_copied_from_a_recovery_sheet_are_read(
    file: Path, identity: Identity
) -> None:
    text = identity.reveal()
    file.write_text(f"# from the safe\n{text[:30]}\n\n  {text[30:]}\n")
    assert Identity.read(file).id == identity.id


def test_a_binary_file_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(IdentityError, match="not text"):
        Identity.read(file)


def test_typing_it_in_small_letters_without_hyphens_is_fine(
    identity: Identity,
) -> None:
    typed = identity.reveal().lower().replace("-", " ")
    assert Identity.parse(typed).id == identity.id


@given(secret=st.binary(min_size=32, max_size=32), data=st.data())
def test_one_mistyped_character_is_noticed(secret: bytes, data: st.DataObject) -> None:
    text = Identity(secret).reveal()
    at = data.draw(st.integers(0, len(text) - 1).filter(lambda i: text[i] != "-"))
    other = data.draw(st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
    typed = text[:at] + other + text[at + 1 :]
    if other != text[at]:
        with pytest.raises(IdentityError, match=r"checksum|not an identity"):
            Identity.parse(typed)


@given(text=st.text(max_size=120))
def test_nothing_but_an_identity_error_comes_out_of_parsing(text: str) -> None:
    with pytest.raises(IdentityError, match=r"."):
        Identity.parse("MLGUARD-IDENTITY-1-" + text)
