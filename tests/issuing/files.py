"""A bundle of an owner's, and what he issues from it."""

from datetime import date
from pathlib import Path

from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.grants import Terms
from mlguard.issuing import Issued, issue
from tests.bundles import KEY
from tests.bundles2 import shuffled, small2
from tests.grants.people import HOSPITAL, OWNER, Person

TERMS = Terms("Hospital A", date(2026, 1, 1), date(2026, 12, 31), "Not for resale.")
JUNE_TERMS = Terms("Hospital A")  # without dates
TODAY = date(2026, 6, 1)


def owners(**changes: object) -> Bundle2:
    """The owner's own bundle."""
    return small2(**({"image": shuffled()} | changes))


def issued(
    folder: Path, person: Person = HOSPITAL, terms: Terms = TERMS, **options: object
) -> Issued:
    """A customer's file."""
    out = folder / f"{person.recipient}.mlgb"
    return issue(owners(), KEY, OWNER, person, terms, out, **options)


def reading(path: Path) -> Bundle2:
    """A bundle of format 2 at a path."""
    found = glimpse_bundle(path)
    assert isinstance(found, Bundle2)
    return found
