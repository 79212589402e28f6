"""Secrets, libraries and files that a stranger could have put in the way."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keystore import (
    Identity,
    IdentityError,
    Keystore,
    KeystoreError,
    write_private,
)
from keystore.textform import KEY_1, to_text
from mlguard.cli.app import run

ROOT = Path(__file__).parents[2]
OWNER = Identity(bytes(range(32)))
SECRET = b"\x07" * 32


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A keystore that the environment names, and an identity that opens it."""
    path = tmp_path / "a" / "keystore"
    Keystore.create(path, OWNER).add("unet", SECRET)
    OWNER.write(tmp_path / "owner.identity")
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(path))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return path


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    status = run(list(words))
    return status, capsys.readouterr().err


def test_an_all_zero_key_is_not_imported(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, secret in (("zero", bytes(32)), ("good", bytes(range(32)))):
        write_private(tmp_path / name, to_text(KEY_1, secret), comments=[])
    status, err = typed(capsys, "keys", "import", "zero", str(tmp_path / "zero"))
    assert status == 15
    assert "is not random: it has only 1 distinct bytes" in err
    assert run(["keys", "import", "good", str(tmp_path / "good")]) == 0
    assert Keystore.open(path, OWNER).names() == ("good", "unet")


def test_a_short_passphrase_is_not_taken_without_a_word(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "passphrase"
    file.touch(0o600)
    for text, said in (("x", True), ("five words that nobody knows", False)):
        file.write_text(text)
        words = ["keys", "slots", "add", f"n{len(text)}", "--new-passphrase-file"]
        status, err = typed(capsys, *words, str(file))
        assert status == 0
        assert ("the passphrase is short" in err) == said


def test_a_store_that_everybody_can_write_is_not_taken_without_a_word(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "can write" not in typed(capsys, "keys", "list")[1]
    path.chmod(0o602)
    assert (
        "every user of this machine can write to it" in typed(capsys, "keys", "list")[1]
    )
    path.chmod(0o600)
    path.parent.chmod(0o777)
    assert "can replace it in its folder" in typed(capsys, "keys", "list")[1]
    path.parent.chmod(0o1777)
    assert "can replace" not in typed(capsys, "keys", "list")[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_a_store_of_another_owner_is_not_taken_without_a_word(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(path, 4711, -1)
    assert "belongs to another user (uid 4711)" in typed(capsys, "keys", "list")[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder away")
def test_a_store_in_a_folder_of_another_owner_is_not_taken_without_a_word(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.chown(path.parent, 4711, -1)
    said = "another user (uid 4711) owns its folder and can replace it"
    assert said in typed(capsys, "keys", "list")[1]


def test_a_link_in_the_place_of_the_lock_empties_no_file(tmp_path: Path) -> None:
    mine, place = tmp_path / "mine.txt", tmp_path / "keystore"
    mine.write_text("precious")
    (tmp_path / "keystore.lock").symlink_to(mine)
    with pytest.raises(KeystoreError, match="cannot lock"):
        Keystore.create(place, OWNER)
    assert mine.read_text() == "precious"
    assert not place.exists()


def test_a_library_that_the_environment_names_is_not_loaded_unless_it_is_the_systems(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    library = tmp_path / "evil.so"
    library.touch()
    tmp_path.chmod(0o777)
    (tmp_path / "pin").touch(0o600)
    (tmp_path / "pin").write_text("1234")
    uri = f"pkcs11:object=a?module-path={library}"
    monkeypatch.delenv("MLGUARD_IDENTITY_FILE")
    monkeypatch.setenv("MLGUARD_TOKEN", uri)
    words = ["keys", "list", "--pin-file", str(tmp_path / "pin")]
    status, err = typed(capsys, *words)
    assert status == 11
    assert "users other than root could have put it there" in err
    status, err = typed(capsys, *words, "--token", uri)
    assert status == 11  # it is loaded, and is no library
    assert "users other than root" not in err


def test_the_log_believes_the_system_and_not_logname(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(variable, "somebody-else")
    store = Keystore.open(path, OWNER)
    store.add("second", SECRET)
    assert "somebody-else" not in store.log()[-1].user


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("words", [["keys", "list"], ["identity", "new", "new"]])
def test_a_command_that_holds_keys_leaves_no_core_dump(
    path: Path, tmp_path: Path, words: list[str]
) -> None:
    script = (
        "import ctypes, resource, sys\n"
        "hard = resource.getrlimit(resource.RLIMIT_CORE)[1]\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
        "from mlguard.cli.app import run\n"
        "from mlguard.cli.process import set_up\n"
        "set_up()\n"
        "assert run(sys.argv[1:]) == 0\n"
        "dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)\n"
        "print(dumpable, *resource.getrlimit(resource.RLIMIT_CORE), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "0 1 1"


# Secrets as containers deliver them.


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o444], ids=oct)
def test_a_read_only_file_is_taken(tmp_path: Path, mode: int) -> None:
    said: list[str] = []
    OWNER.write(tmp_path / "identity")
    (tmp_path / "identity").chmod(mode)
    assert Identity.read(tmp_path / "identity", say=said.append).id == OWNER.id
    assert len(said) == (mode != 0o400)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o666, 0o445], ids=oct)
def test_a_file_that_is_open_and_can_be_written_is_refused(
    tmp_path: Path, mode: int
) -> None:
    OWNER.write(tmp_path / "identity")
    (tmp_path / "identity").chmod(mode)
    with pytest.raises(IdentityError, match="is open to other users") as refusal:
        Identity.read(tmp_path / "identity")
    assert "0440" in refusal.value.hint


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A Secret as Kubernetes mounts it: the name leads through ..data."""
    folder = tmp_path / "secret"
    inner = folder / "..2026_01_02_03_04_05.123456789"
    inner.mkdir(parents=True)
    OWNER.write(inner / "identity")
    (inner / "identity").chmod(0o440)
    (folder / "..data").symlink_to(inner.name)
    (folder / "identity").symlink_to("..data/identity")
    folder.chmod(0o1777)
    return folder / "identity"


def test_the_links_of_a_mounted_secret_are_followed(secret: Path) -> None:
    assert Identity.read(secret).id == OWNER.id


def test_a_mounted_secret_that_everybody_can_swap_is_refused(secret: Path) -> None:
    secret.parent.chmod(0o777)
    with pytest.raises(IdentityError, match="is a symbolic link"):
        Identity.read(secret)


def test_links_of_a_secret_that_lead_elsewhere_are_refused(
    secret: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    OWNER.write(elsewhere / "identity")
    (secret.parent / "..data").unlink()
    (secret.parent / "..data").symlink_to(elsewhere)
    with pytest.raises(IdentityError, match="is a symbolic link"):
        Identity.read(secret)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a link away")
def test_links_of_somebody_else_are_refused(secret: Path) -> None:
    os.chown(secret, 4711, -1, follow_symlinks=False)
    with pytest.raises(IdentityError, match="is a symbolic link"):
        Identity.read(secret)


COMMANDS = {
    "process substitution": "mlguard keys list --identity <(cat mine)",
    "standard input": "cat mine | mlguard keys list --identity -",
    "a file as standard input": "mlguard keys list --identity - < mine",
    "/dev/stdin": "cat mine | mlguard keys list --identity /dev/stdin",
    "a descriptor": "mlguard keys list --identity /dev/fd/3 3< mine",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_identity_comes_through_what_a_shell_has_opened(
    path: Path, tmp_path: Path, command: str
) -> None:
    OWNER.write(tmp_path / "mine")
    line = COMMANDS[command].replace("mlguard", f"{sys.executable} -m mlguard")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    del environment["MLGUARD_IDENTITY_FILE"]
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "unet" in done.stdout


def test_a_descriptor_that_is_not_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="cannot read /dev/fd/999"):
        Identity.read(Path("/dev/fd/999"))


def test_a_byte_order_mark_is_no_part_of_a_passphrase(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, store = tmp_path / "passphrase", tmp_path / "keystore"
    file.touch(0o600)
    file.write_bytes(b"\xef\xbb\xbffive words that nobody knows\r\n")
    words = ["--keystore", str(store), "--passphrase-file", str(file)]
    status, err = typed(capsys, "keygen", "acme", "--no-recovery", *words)
    assert (status, "byte-order mark" in err) == (0, True)
    file.write_bytes(b"five words that nobody knows\n")
    assert run(["keys", "list", *words]) == 0


def test_a_byte_order_mark_is_no_part_of_an_identity(tmp_path: Path) -> None:
    OWNER.write(tmp_path / "identity")
    text = (tmp_path / "identity").read_bytes()
    (tmp_path / "identity").write_bytes(b"\xef\xbb\xbf" + text)
    assert Identity.read(tmp_path / "identity").id == OWNER.id


def test_line_ends_that_were_converted_have_words_of_their_own(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    status, err = typed(capsys, "keys", "list")
    assert status == 12
    assert "its line ends were converted" in err
    assert ".gitattributes" in err


# No home, no passwd entry.


def without_home(*words: str, cwd: Path, keystore: str = "") -> tuple[int, str]:
    """Run a command as a user whom the system does not know."""
    script = (
        "import pwd, sys\n"
        "def nobody(_):\n"
        "    raise KeyError('uid not found')\n"
        "pwd.getpwuid = nobody\n"
        "from mlguard.cli.app import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    drop = ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "MLGUARD_KEYSTORE")
    environment = {k: v for k, v in os.environ.items() if k not in drop}
    environment |= {"PYTHONPATH": str(ROOT)}
    environment |= {"MLGUARD_KEYSTORE": keystore} if keystore else {}
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


def test_without_a_home_it_goes_on_unpinned_and_says_so(
    path: Path, tmp_path: Path
) -> None:
    status, err = without_home("keys", "list", cwd=tmp_path, keystore=str(path))
    assert status == 0
    assert (
        "there is no home folder, so the state of the keystore is not remembered" in err
    )


def test_without_a_home_the_usual_keystore_is_refused_in_words(tmp_path: Path) -> None:
    status, err = without_home("keys", "list", cwd=tmp_path)
    assert status == 10
    assert "names a home folder that does not exist" in err
    assert "--keystore" in err
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("place", ["~nosuchuser/k", "sqlite:///~nosuchuser/k"])
def test_the_home_of_nobody_is_refused_in_words(
    path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, err = typed(capsys, "keys", "list", "--keystore", place)
    assert status == 10
    assert "names a home folder that does not exist" in err


# Windows: no fcntl, pwd, resource, geteuid, O_NOFOLLOW, and no folder to sync.


WINDOWS = """
import os, sys
for name in ("fcntl", "pwd", "resource", "grp", "termios"):
    sys.modules[name] = None
for name in ("geteuid", "getuid", "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "pread"):
    delattr(os, name)
real = os.open
def no_folders(path, *rest, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied")
    return real(path, *rest, **more)
os.open = no_folders
from mlguard.cli.app import run
sys.exit(run(sys.argv[1:]))
"""


def on_windows(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", WINDOWS, *words],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_identity_files_work_on_windows(tmp_path: Path) -> None:
    made = on_windows("identity", "new", "me", "--pq", "--json", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    shown = on_windows("identity", "show", "me", "--json", cwd=tmp_path)
    assert json.loads(shown.stdout) == json.loads(made.stdout)
    assert on_windows("identity", "new", "me", cwd=tmp_path).returncode == 11


def test_a_keystore_on_windows_is_refused_in_words(path: Path, tmp_path: Path) -> None:
    done = on_windows("keys", "list", cwd=tmp_path)
    assert done.returncode == 10
    assert "needs a POSIX system" in done.stderr
    assert "WSL" in done.stderr
