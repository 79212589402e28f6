"""A customer's session: opened with his identity, and nothing else."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from keystore import Identity
from mlguard.cli.parties import Customer
from mlguard.errors import BundleError, Expired, SignatureNotTrusted, WrongKey
from mlguard.grants import Terms
from mlguard.issuing import Conditions, issue
from mlguard.runtime import Session
from tests.bundles import KEY, images
from tests.grants.people import HOSPITAL, OWNER, STRANGER
from tests.issuing.files import TODAY, issued, owners

PIXELS = images(2, 3, 24, 20)
JUNE = Conditions(today=TODAY)
GOLDEN = Path(__file__).parents[1] / "golden" / "v0.1" / "shf.mlgb"


@pytest.mark.parametrize("pq", [False, True])
def test_a_file_of_the_keystores_identity_opens_with_it(
    tmp_path: Path, pq: bool
) -> None:
    me, other = Identity.generate(pq=pq), Identity.generate(pq=pq)
    path = tmp_path / "mine.mlgb"
    customer = Customer.read(me.recipient)
    issue(owners(), KEY, OWNER, customer, Terms("Me"), path, mark=False)
    found = Session.open(path, me).predict(PIXELS)
    np.testing.assert_array_equal(found, Session(owners(), KEY).predict(PIXELS))
    with pytest.raises(WrongKey, match="issued to 'Me'"):
        Session.open(path, other)


def test_conditions_reach_the_file(tmp_path: Path) -> None:
    path = issued(tmp_path).path
    Session.open(path, HOSPITAL, conditions=JUNE)
    with pytest.raises(Expired):
        Session.open(path, HOSPITAL, conditions=Conditions(today=date(2030, 1, 1)))
    given = Conditions(today=TODAY, signers=[STRANGER.public])
    with pytest.raises(SignatureNotTrusted):
        Session.open(path, HOSPITAL, conditions=given)


def test_a_bundle_of_format_1_opens_for_no_identity() -> None:
    with pytest.raises(
        BundleError, match="is of format 1, which cannot be issued to a customer"
    ):
        Session.open(GOLDEN, HOSPITAL)
