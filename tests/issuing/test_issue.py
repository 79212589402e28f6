"""One file for one customer: who opens it, when, and what is in it."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlguard.bundle import Bundle2, Model2, Tensor2, write_bundle2
from mlguard.errors import (
    BundleError,
    Expired,
    NotYetValid,
    OptionError,
    OutputExists,
    Revoked,
    SignatureNotTrusted,
    TamperedBundle,
    WrongKey,
)
from mlguard.grants import Revocations, Terms, sign_grant, sign_revocations
from mlguard.issuing import (
    Conditions,
    SeenLists,
    issue,
    open_issued,
    renew,
    verify_bundle,
)
from mlguard.marks import trace
from tests.bundles import KEY, OTHER_KEY
from tests.bundles2 import SUBKEYS, facts2, graph_of, outside
from tests.grants.people import CLINIC, HOSPITAL, OWNER, STRANGER
from tests.issuing.files import TERMS, TODAY, issued, owners, reading

JUNE = Conditions(today=TODAY)


def tensors_of(bundle: Bundle2, key) -> dict[str, bytes]:
    opened = bundle.unlock(key)
    return {r.header.name: d.tobytes() for r, d in opened.tensors(opened.graph().rows)}


def test_the_customer_opens_his_file_and_nobody_elses_key_does(tmp_path: Path) -> None:
    bundle = reading(issued(tmp_path).path)
    secrets = open_issued(bundle, HOSPITAL, JUNE)
    assert set(tensors_of(bundle, secrets)) == {"w", "b"}
    with pytest.raises(WrongKey, match="issued to 'Hospital A'"):
        open_issued(bundle, CLINIC, JUNE)
    with pytest.raises(WrongKey, match="issued to a customer"):
        bundle.unlock(KEY)


def test_without_a_mark_the_weights_are_the_owners_bit_for_bit(tmp_path: Path) -> None:
    bundle = reading(issued(tmp_path, mark=False).path)
    secrets = open_issued(bundle, HOSPITAL, JUNE)
    assert tensors_of(bundle, secrets) == tensors_of(owners(), KEY)


def test_the_model_key_is_not_in_what_is_wrapped(tmp_path: Path) -> None:
    secrets = open_issued(reading(issued(tmp_path).path), HOSPITAL, JUNE)
    assert KEY.reveal() not in secrets.to_bytes()
    assert KEY.reveal().hex().encode() not in secrets.to_bytes()
    assert set(secrets.subkeys) == {"shf/m=4/c=3"}


def test_two_files_of_one_customer_share_no_key(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one, other = (reading(issued(tmp_path / name).path) for name in "ab")
    secrets = open_issued(one, HOSPITAL, JUNE)
    assert one.manifest.salt != other.manifest.salt
    with pytest.raises(TamperedBundle):
        other.unlock(secrets)


def test_days_outside_the_grant_are_refused(tmp_path: Path) -> None:
    bundle = reading(issued(tmp_path).path)
    with pytest.raises(NotYetValid, match="from 2026-01-01 on"):
        open_issued(bundle, HOSPITAL, Conditions(today=date(2025, 12, 31)))
    with pytest.raises(Expired, match="until 2026-12-31"):
        open_issued(bundle, HOSPITAL, Conditions(today=date(2027, 1, 1)))


def test_a_renewed_grant_opens_the_old_file(tmp_path: Path) -> None:
    bundle = reading(issued(tmp_path).path)
    later = Terms("Hospital A", not_after=date(2027, 12, 31))
    grant = sign_grant(renew(bundle, KEY, OWNER, HOSPITAL, later), OWNER)
    assert len(grant) < 6000
    next_year = date(2027, 6, 1)
    with pytest.raises(Expired):
        open_issued(bundle, HOSPITAL, Conditions(today=next_year))
    given = Conditions(today=next_year, grant=grant)
    assert tensors_of(bundle, open_issued(bundle, HOSPITAL, given))


def test_a_grant_opens_no_other_file(tmp_path: Path) -> None:
    mine, other = issued(tmp_path), issued(tmp_path, CLINIC)
    given = Conditions(today=TODAY, grant=reading(mine.path).grant)
    with pytest.raises(WrongKey, match="is for another file"):
        open_issued(reading(other.path), HOSPITAL, given)


def test_only_the_owner_renews(tmp_path: Path) -> None:
    bundle = reading(issued(tmp_path).path)
    with pytest.raises(WrongKey):
        renew(bundle, OTHER_KEY, OWNER, HOSPITAL, TERMS)
    with pytest.raises(SignatureNotTrusted):
        renew(bundle, KEY, STRANGER, HOSPITAL, TERMS)
    with pytest.raises(BundleError, match="was not issued"):
        renew(owners(), KEY, OWNER, HOSPITAL, TERMS)


def test_a_revoked_grant_is_refused_where_a_list_is_given(tmp_path: Path) -> None:
    done = issued(tmp_path)
    lists = [Revocations.first().with_grant("00" * 16)]
    lists.append(lists[0].with_grant(done.grant.grant_id))
    older, newer = (sign_revocations(one, OWNER) for one in lists)
    bundle, seen = reading(done.path), SeenLists(tmp_path / "state")

    def given(data: bytes) -> Conditions:
        return Conditions(today=TODAY, revocations=data, seen=seen)

    open_issued(bundle, HOSPITAL, given(older))
    with pytest.raises(Revoked, match="was revoked by the owner"):
        open_issued(bundle, HOSPITAL, given(newer))
    open_issued(bundle, HOSPITAL, JUNE)  # nobody has to look at a list


def test_an_older_list_than_one_seen_is_refused(tmp_path: Path) -> None:
    done = issued(tmp_path)
    first = Revocations.first().with_grant("00" * 16)
    older = sign_revocations(first, OWNER)
    newer = sign_revocations(first.with_grant("01" * 16), OWNER)
    bundle, seen = reading(done.path), SeenLists(tmp_path / "state")
    for data in (older, newer):
        given = Conditions(today=TODAY, revocations=data, seen=seen)
        open_issued(bundle, HOSPITAL, given)
    given = Conditions(today=TODAY, revocations=older, seen=seen)
    with pytest.raises(Revoked, match="expected number 2 or later, got number 1"):
        open_issued(bundle, HOSPITAL, given)


def test_a_foreign_list_is_refused(tmp_path: Path) -> None:
    foreign = sign_revocations(Revocations.first(), STRANGER)
    with pytest.raises(SignatureNotTrusted):
        open_issued(
            reading(issued(tmp_path).path),
            HOSPITAL,
            Conditions(today=TODAY, revocations=foreign),
        )


def test_where_nothing_can_be_remembered_nothing_stops(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    seen = SeenLists(tmp_path / "file" / "in")
    seen.remember(OWNER.public, 3)
    assert seen.newest(OWNER.public) == 0


def test_a_pinned_signer_is_asked_for(tmp_path: Path) -> None:
    bundle = reading(issued(tmp_path).path)
    good = Conditions(today=TODAY, signers=[STRANGER.public, OWNER.public])
    open_issued(bundle, HOSPITAL, good)
    with pytest.raises(SignatureNotTrusted, match="not one of the trusted signers"):
        open_issued(
            bundle, HOSPITAL, Conditions(today=TODAY, signers=[STRANGER.public])
        )


def test_who_signed_the_whole_file_is_said(tmp_path: Path) -> None:
    statement = verify_bundle(reading(issued(tmp_path).path), [OWNER.public])
    assert statement.signer == OWNER.public
    assert "weights.bin" in statement.files
    with pytest.raises(SignatureNotTrusted, match="is not signed"):
        verify_bundle(owners(), [OWNER.public])


def test_the_owners_own_file_opens_for_no_identity() -> None:
    with pytest.raises(BundleError, match="the owner's own file"):
        open_issued(owners(), HOSPITAL, JUNE)


def test_an_issued_file_is_not_issued_again(tmp_path: Path) -> None:
    bundle = reading(issued(tmp_path).path)
    with pytest.raises(BundleError, match="cannot be issued again"):
        issue(bundle, KEY, OWNER, CLINIC, TERMS, tmp_path / "again.mlgb")


def test_another_key_issues_nothing(tmp_path: Path) -> None:
    with pytest.raises(WrongKey):
        issue(owners(), OTHER_KEY, OWNER, CLINIC, TERMS, tmp_path / "x.mlgb")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("terms", [Terms(""), Terms("A", text="\x1b[2J")])
def test_terms_are_refused_before_anything_is_written(
    tmp_path: Path, terms: Terms
) -> None:
    with pytest.raises(OptionError):
        issue(owners(), KEY, OWNER, CLINIC, terms, tmp_path / "x.mlgb")
    assert not any(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path) -> None:
    issued(tmp_path)
    with pytest.raises(OutputExists):
        issued(tmp_path)


def test_every_flipped_bit_of_a_file_is_noticed(tmp_path: Path) -> None:
    """With a pinned signer; every 29th bit here, all of them in the slow tier."""
    assert_flips_are_noticed(tmp_path, step=29)


@pytest.mark.slow
def test_every_single_flipped_bit_of_a_file_is_noticed(tmp_path: Path) -> None:
    assert_flips_are_noticed(tmp_path, step=1)


def assert_flips_are_noticed(folder: Path, *, step: int) -> None:
    content = issued(folder).path.read_bytes()
    given = Conditions(today=TODAY, signers=[OWNER.public])
    path = folder / "flipped.mlgb"
    for bit in range(0, 8 * len(content), step):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises((BundleError, SignatureNotTrusted, WrongKey)):
            open_all(path, given)


def open_all(path: Path, given: Conditions) -> None:
    bundle = reading(path)
    tensors_of(bundle, open_issued(bundle, HOSPITAL, given))


def test_a_check_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def check(path: Path, secrets: object) -> None:
        raise BundleError("not good")

    with pytest.raises(BundleError, match="not good"):
        issued(tmp_path, check=check)
    assert not any(tmp_path.iterdir())


def test_marked_weights_lead_to_the_customer(tmp_path: Path) -> None:
    big = np.random.default_rng(0).normal(size=(64, 64, 3, 3)).astype(np.float32)
    path = write_big(tmp_path / "big.mlgb", big)
    files = {}
    for person in (HOSPITAL, CLINIC):
        terms = Terms(person.recipient)
        out = tmp_path / f"{person.recipient}.mlgb"
        files[person.recipient] = issue(reading(path), KEY, OWNER, person, terms, out)
    cost = files[HOSPITAL.recipient].cost
    assert cost is not None
    assert 0 < cost.largest < 0.05
    assert cost.marked == big.size
    bundle = reading(files[HOSPITAL.recipient].path)
    leak = tensors_of(bundle, open_issued(bundle, HOSPITAL))
    found = trace(
        {"w": np.frombuffer(leak["w"], np.float32).reshape(big.shape)},
        {"w": big},
        {name: bytes.fromhex(one.grant.grant_id) for name, one in files.items()},
        SUBKEYS,
    )
    assert [one.customer for one in found.named] == [HOSPITAL.recipient]


def write_big(path: Path, weight: np.ndarray) -> Path:
    """A convolution with enough weights for a mark."""
    slot, data = outside("w", weight)
    channels = weight.shape[1]
    shape = ["N", channels, "H", "W"]
    graph = graph_of(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4)],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [slot],
    )
    x, y = (
        Tensor2(name=name, datatype="FP32", shape=(-1, channels, -1, -1))
        for name in "xy"
    )
    facts = facts2(inputs=(x,), outputs=(y,), image=None, task=None)
    write_bundle2(path, Model2(facts, graph, [data]), SUBKEYS)
    return path
