"""What a stranger's bundle may cost before a key has vouched for it: next to nothing.

12.8: a sparse bundle of 2 GiB took 12 s and 2.2 GB before any MAC was looked at.
"""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from mlguard.bundle import archive, archive2, glimpse_bundle, write_bundle2
from mlguard.errors import BundleError, MalformedBundle, TamperedBundle, WrongKey
from mlguard.keys import ModelKey
from mlguard.runtime import Session
from tests.bundles import KEY, OTHER_KEY, PROTECTION_ID, small_bundle
from tests.bundles2 import SUBKEYS, model2

MOST_BYTES = 64 << 20  # beside the file's announced 2 GiB
READ = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from mlguard.errors import MlguardError
from mlguard.keys import ModelKey
from mlguard.runtime import Session
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + {most}, used + {most}))
try:
    Session.open(Path({path!r}), ModelKey(bytes(range(1, 33))))
except MlguardError as refusal:
    print(type(refusal).__name__)
"""


def sparse_1(path: Path) -> None:
    """A forged bundle of format 1 whose model announces 2 GiB of zeros."""
    bundle, size = small_bundle(sealed=True), archive.MEMBERS[archive.SEALED_MODEL]
    member = bundle.manifest.files[archive.SEALED_MODEL]
    files = bundle.manifest.files | {
        archive.SEALED_MODEL: member.model_copy(update={"size": size})
    }
    content = bundle.manifest.model_copy(update={"files": files}).to_bytes()
    with open(path, "wb") as file:
        for name, data in (
            (archive.MANIFEST, content),
            (archive.PREPROCESS, bundle.preprocess),
        ):
            header = archive._local_header(name, zlib.crc32(data), len(data))
            file.write(header + data)
        file.write(archive._local_header(archive.SEALED_MODEL, 0, size))
    os.truncate(path, path.stat().st_size + size)


def sparse_2(path: Path) -> None:
    """A forged bundle of format 2 whose graph and weights announce gigabytes."""
    write_bundle2(path, model2(), SUBKEYS)
    found = glimpse_bundle(path)
    files = dict(found.manifest.files)
    for name, size in (
        (archive2.SEALED_GRAPH, (1 << 31) - 1),
        ("weights.bin", 1 << 33),
    ):
        files[name] = files[name].model_copy(update={"size": size})
    manifest = found.manifest.model_copy(update={"files": files})
    content = manifest.to_bytes()
    members = archive2.place(manifest.members(content, zlib.crc32(content)))
    path.unlink()
    with open(path, "wb") as file:
        for member in members:
            file.seek(member.header_at)
            file.write(member.header())
        file.seek(members[0].starts_at)
        file.write(content)
        file.seek(members[-1].ends_at)
        file.write(archive2.directory(members))


@pytest.mark.parametrize("forge", [sparse_1, sparse_2], ids=["format 1", "format 2"])
def test_two_sparse_gigabytes_cost_no_memory_before_a_key_has_vouched(
    forge, tmp_path: Path
) -> None:
    path, root = tmp_path / "sparse.mlgb", str(Path(__file__).parents[2])
    forge(path)
    assert path.stat().st_size > 2_000_000_000
    program = READ.format(root=root, path=str(path), most=MOST_BYTES)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("WrongKey\n", "")
    with pytest.raises(
        TamperedBundle, match=r"manifest\.json was changed|key commitment"
    ):
        Session.open(path, KEY)


def test_the_probe_would_see_two_gigabytes() -> None:
    """Without this, the test above would prove nothing."""
    program = READ.format(root=".", path="x", most=MOST_BYTES)
    program = program.partition("try:")[0] + f"bytes({MOST_BYTES} * 2)"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, check=False
    )
    assert b"MemoryError" in done.stderr


@pytest.mark.parametrize("size", [1 << 47, (1 << 63) + 1, (1 << 64) - 1])
def test_an_absurd_size_is_refused_by_its_number(size: int, tmp_path: Path) -> None:
    path = tmp_path / "x.mlgb"
    write_bundle2(path, model2(), SUBKEYS)
    data = bytearray(path.read_bytes())
    at = archive.LOCAL.size + len(archive2.MANIFEST) + archive2.SIZES.size - 8
    data[at : at + 8] = size.to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(MalformedBundle, match=f"announces {size} bytes"):
        glimpse_bundle(path)


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(BundleError, match=r"regular file|cannot read bundle"):
            Session.open(path, KEY)


def test_a_key_id_that_is_forged_does_not_reach_the_model(tmp_path: Path) -> None:
    """Who renames the key of a stranger's bundle to the victim's gets no further."""
    path = tmp_path / "x.mlgb"
    stranger = OTHER_KEY.for_model(PROTECTION_ID)
    write_bundle2(path, model2(), stranger)
    data = path.read_bytes()
    own, victim = OTHER_KEY.key_id.encode(), KEY.key_id.encode()
    changed = data.replace(own, victim)
    start = data.index(b"{")
    size = archive2.SIZES.unpack_from(data, start - archive2.SIZES.size)[-1]
    old, new = (zlib.crc32(d[start : start + size]) for d in (data, changed))
    changed = changed.replace(old.to_bytes(4, "little"), new.to_bytes(4, "little"))
    path.write_bytes(changed)
    with pytest.raises(TamperedBundle, match="key commitment does not match"):
        Session.open(path, KEY)
    with pytest.raises(WrongKey, match="made for key"):
        Session.open(path, ModelKey(bytes(32)))
