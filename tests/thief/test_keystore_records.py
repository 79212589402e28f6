"""Records that somebody cuts, and an older store put back where nobody would look."""

import os
from pathlib import Path

import pytest

from keystore import (
    Identity,
    Keystore,
    Pins,
    RolledBackKeystore,
    TamperedLog,
    backup,
    restore,
)
from mlguard.cli.app import run

SECRET = b"\x07" * 32
OWNER = Identity(bytes(range(32)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a" / "keystore"
    Keystore.create(path, OWNER).add("unet", SECRET)
    return path


@pytest.fixture
def pins(tmp_path: Path) -> Pins:
    return Pins(tmp_path / "pins")


def log_of(path: Path) -> Path:
    return path.with_name(path.name + ".log")


def cut(path: Path, lines: int) -> None:
    """Remove the last lines of the log."""
    kept = log_of(path).read_bytes().splitlines(keepends=True)[:-lines]
    log_of(path).write_bytes(b"".join(kept))


@pytest.mark.parametrize("deed", ["export", "backup"])
def test_the_record_of_an_export_or_a_backup_cannot_be_cut_off(
    path: Path, tmp_path: Path, deed: str
) -> None:
    store = Keystore.open(path, OWNER)
    store.allow("unet", exportable=True)
    if deed == "export":
        store.export("unet")
    else:
        backup(store, tmp_path / "copy")
    assert store.log()[-1].op == deed
    cut(path, 1)
    with pytest.raises(TamperedLog, match="lacks record 4"):
        Keystore.open(path, OWNER).log()


def test_an_older_store_with_its_pin_removed_is_told_by_the_log(
    path: Path, pins: Pins, tmp_path: Path
) -> None:
    older = path.read_bytes()
    store = Keystore.open(path, OWNER, pins=pins)
    store.add("second", SECRET)
    store.add("third", SECRET)
    path.write_bytes(older)
    for pin in (tmp_path / "pins").iterdir():
        pin.unlink()
    store = Keystore.open(path, OWNER, pins=pins)
    with pytest.raises(RolledBackKeystore, match="the log is at generation 4"):
        store.log()
    with pytest.raises(RolledBackKeystore, match="the log is at generation 4"):
        store.add("fourth", SECRET)


def test_a_store_put_back_by_one_step_is_said(
    path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A write that was interrupted looks the same, so it is no refusal."""
    OWNER.write(tmp_path / "owner.identity")
    older = path.read_bytes()
    Keystore.open(path, OWNER).add("second", SECRET)
    path.write_bytes(older)
    words = ["--keystore", str(path), "--identity", str(tmp_path / "owner.identity")]
    assert run(["keys", "log", "--verify", *words]) == 0
    out, err = capsys.readouterr()
    assert "put back by one step" in out
    assert "was not seen from here before" in err


def test_an_older_store_that_is_accepted_can_be_written_again(
    path: Path, pins: Pins
) -> None:
    older = path.read_bytes()
    store = Keystore.open(path, OWNER, pins=pins)
    store.add("second", SECRET)
    store.add("third", SECRET)
    path.write_bytes(older)
    store = Keystore.open(path, OWNER, pins=pins, accept=True)
    assert store.log()[-1].op == "accept"
    store.add("again", SECRET)
    assert Keystore.open(path, OWNER, pins=pins).names() == ("again", "unet")


def test_an_older_store_of_other_members_that_is_accepted_can_be_written_again(
    path: Path, pins: Pins
) -> None:
    store = Keystore.open(path, OWNER, pins=pins)
    store.add_slot(Identity.generate(), label="leaver")
    older = path.read_bytes()
    store.remove_slot("leaver")
    store.add("third", SECRET)
    path.write_bytes(older)
    said: list[str] = []
    store = Keystore.open(path, OWNER, pins=pins, accept=True, say=said.append)
    assert "was set aside" in said[0]
    store.add("again", SECRET)
    assert [each.op for each in store.log()] == ["arrive", "add"]


def rolled_back(path: Path, pins: Pins) -> None:
    """Seen at a later state, then put back."""
    older = path.read_bytes()
    Keystore.open(path, OWNER, pins=pins).add("second", SECRET)
    path.write_bytes(older)


def test_a_folder_that_is_a_symbolic_link_hides_nothing(
    path: Path, pins: Pins, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(path.parent)
    rolled_back(path, pins)
    with pytest.raises(RolledBackKeystore, match="went back"):
        Keystore.open(tmp_path / "link" / "keystore", OWNER, pins=pins)


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="needs /proc")
def test_the_working_folder_by_another_name_hides_nothing(
    path: Path, pins: Pins, monkeypatch: pytest.MonkeyPatch
) -> None:
    rolled_back(path, pins)
    monkeypatch.chdir(path.parent)
    with pytest.raises(RolledBackKeystore, match="went back"):
        Keystore.open(Path("/proc/self/cwd/keystore"), OWNER, pins=pins)


@pytest.mark.parametrize("variable", ["XDG_STATE_HOME", "HOME"])
def test_another_place_for_state_hides_nothing(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
) -> None:
    """What the user's own home remembers counts, whatever the environment says."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: _Entry(home))
    rolled_back(path, Pins(home / ".local" / "state" / "mlguard" / "pins"))
    OWNER.write(tmp_path / "owner.identity")
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    words = ["--keystore", str(path), "--identity", str(tmp_path / "owner.identity")]
    assert run(["keys", "list", *words]) == 14
    assert "went back" in capsys.readouterr().err


class _Entry:
    def __init__(self, home: Path) -> None:
        self.pw_dir, self.pw_name = str(home), "me"


def test_a_pin_that_cannot_be_read_is_not_taken_for_none(
    path: Path, pins: Pins, tmp_path: Path
) -> None:
    rolled_back(path, pins)
    (pin,) = (tmp_path / "pins").iterdir()
    pin.unlink()
    pin.mkdir()
    with pytest.raises(RolledBackKeystore, match="cannot be read"):
        Keystore.open(path, OWNER, pins=pins)


def test_a_store_that_was_not_seen_here_is_said(path: Path, pins: Pins) -> None:
    said: list[str] = []
    Keystore.open(path, OWNER, pins=pins, say=said.append)
    assert "not seen from here before" in said[0]
    Keystore.open(path, OWNER, pins=pins, say=said.append)
    assert len(said) == 1


# A legitimate move is no tampering, and tampering is no legitimate move.


@pytest.fixture
def moved(path: Path, tmp_path: Path, pins: Pins) -> Path:
    """A backup of three records, restored where nothing was."""
    backup(Keystore.open(path, OWNER), tmp_path / "copy")
    there = tmp_path / "b" / "keystore"
    restore(there, tmp_path / "copy", OWNER, pins=pins)
    return there


def test_a_store_restored_elsewhere_verifies_from_there_on(
    moved: Path, pins: Pins
) -> None:
    store = Keystore.open(moved, OWNER, pins=pins)
    records = store.log()
    assert [each.op for each in records] == ["arrive", "restore"]
    assert store.log_elsewhere(records) == 3
    store.add("second", SECRET)
    assert [each.op for each in store.check()] == ["arrive", "restore", "add"]


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_the_log_of_a_moved_store_cannot_be_cut(
    moved: Path, pins: Pins, lines: int
) -> None:
    Keystore.open(moved, OWNER, pins=pins).add("second", SECRET)
    cut(moved, lines)
    with pytest.raises(TamperedLog, match="lacks record 6"):
        Keystore.open(moved, OWNER, pins=pins).log()


def test_the_first_records_of_a_moved_store_cannot_be_cut(
    moved: Path, pins: Pins
) -> None:
    lines = log_of(moved).read_bytes().splitlines(keepends=True)
    log_of(moved).write_bytes(lines[1])
    with pytest.raises(TamperedLog, match="expected record 1 of the log, found 5"):
        Keystore.open(moved, OWNER, pins=pins).log()


def test_the_records_of_before_cannot_be_cut_where_they_were(
    path: Path, tmp_path: Path, pins: Pins
) -> None:
    """A restore in the old place goes on with the log that is there."""
    Keystore.open(path, OWNER, pins=pins)
    backup(Keystore.open(path, OWNER, pins=pins), tmp_path / "copy")
    log_of(path).unlink()
    restore(path, tmp_path / "copy", OWNER, pins=pins)
    with pytest.raises(TamperedLog, match="expected record 1 of the log, found 4"):
        Keystore.open(path, OWNER, pins=pins).log()


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_store_that_was_copied_alone_verifies(
    path: Path, tmp_path: Path, pins: Pins, writes: int
) -> None:
    there = tmp_path / "b"
    there.write_bytes(path.read_bytes())
    Keystore.open(there, OWNER, pins=pins)
    for number in range(writes):
        Keystore.open(there, OWNER, pins=pins).add(f"k-{number}", SECRET)
    store = Keystore.open(there, OWNER, pins=pins)
    records = store.log()
    expected = ["arrive"] + ["add"] * writes if writes else []
    assert [each.op for each in records] == expected
    assert store.log_elsewhere(records) == 2


def test_the_log_of_a_copied_store_that_is_removed_is_missed(
    path: Path, tmp_path: Path, pins: Pins
) -> None:
    there = tmp_path / "b"
    there.write_bytes(path.read_bytes())
    Keystore.open(there, OWNER, pins=pins).add("k", SECRET)
    os.unlink(log_of(there))
    with pytest.raises(TamperedLog, match="lacks record 4"):
        Keystore.open(there, OWNER, pins=pins).log()


def test_a_log_that_is_removed_where_it_was_is_missed(path: Path, pins: Pins) -> None:
    Keystore.open(path, OWNER, pins=pins)
    os.unlink(log_of(path))
    with pytest.raises(TamperedLog, match="lacks record 2"):
        Keystore.open(path, OWNER, pins=pins).log()


def test_the_move_of_the_backup_page_ends_with_0(
    path: Path,
    moved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    OWNER.write(tmp_path / "owner.identity")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    words = ["--keystore", str(moved), "--identity", str(tmp_path / "owner.identity")]
    assert run(["keys", "log", "--verify", *words]) == 0
    out = capsys.readouterr().out
    assert "2 records, intact" in out
    assert "records 1 to 3 are in the log at the place" in out
    assert run(["keys", "check", *words]) == 0
    cut(moved, 1)
    assert run(["keys", "log", "--verify", *words]) == 12
