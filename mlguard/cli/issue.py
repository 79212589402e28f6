"""`mlguard issue`, `renew`, `revoke`, `issued`: customers' files, the owner's side."""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from keystore import Keystore
from mlguard.bundle import Bundle2, glimpse_bundle
from mlguard.cli.answers import Json, answer
from mlguard.cli.ledger import USE, LedgerFile, LedgerOf, missing_in
from mlguard.cli.mark_cost import Answers, Ours, answers_of, compare
from mlguard.cli.model_key import HeldKey, held_key
from mlguard.cli.panels import ADVANCED
from mlguard.cli.parties import (
    SIGNER,
    Customer,
    SignerName,
    open_signer,
)
from mlguard.cli.printable import warn
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.errors import BundleError, ModelFileError, OptionError, Revoked
from mlguard.files import (
    atomic_write,
    prepare_output_folder,
    read_bounded,
    read_text,
    refuse_existing,
    write_new,
)
from mlguard.grants import (
    Grant,
    LedgerEntry,
    Revocations,
    Secrets,
    Terms,
    read_revocations,
    sign_grant,
    sign_revocations,
)
from mlguard.issuing import Issued, issue, renew
from mlguard.issuing.opening import grant_of
from mlguard.signing import SigningKey

WEIGHTS = ".safetensors"
MAX_TERMS_BYTES = 1 << 18
MAX_LIST_BYTES = 1 << 20

KeyName = Annotated[str, typer.Option("--key", help="Name of the model key.")]
Day = Annotated[
    str | None,
    typer.Option(metavar="YYYY-MM-DD", help="In UTC.", show_default=False),
]
RevocationFile = Annotated[
    Path | None,
    typer.Option(
        "--revocations",
        help="Your newest revocation list: customers' loaders then refuse older ones.",
        show_default=False,
        rich_help_panel=ADVANCED,
    ),
]


@unlocking
def issue_command(
    bundle: Annotated[Path, typer.Argument(help="Your own bundle, of format 2.")],
    key: KeyName,
    to: Annotated[
        list[str],
        typer.Option(help="A customer's recipient: the line, or a file with it."),
    ],
    licensee: Annotated[
        list[str], typer.Option(help="The customer's name, for people.")
    ],
    out: Annotated[
        Path, typer.Option(help="The file to write; for several customers, a folder.")
    ],
    not_before: Day = None,
    not_after: Day = None,
    terms: Annotated[
        Path | None,
        typer.Option(help="A text file with the licence.", show_default=False),
    ] = None,
    mark: Annotated[
        bool,
        typer.Option(
            "--mark/--no-mark",
            help="Mark the weights with the customer's code.",
            rich_help_panel=ADVANCED,
        ),
    ] = True,
    signer: SignerName = SIGNER,
    ledger: LedgerFile = None,
    revocations: RevocationFile = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Write a file that only one customer can open.

    The model key is not in it. Only mlguard's own loader enforces dates.
    """
    warn_of_past(not_after)
    customers = [Customer.read(each) for each in to]
    places = _places(out, licensee, len(customers), bundle)
    days = Terms("", day_of(not_before), day_of(not_after), _text(terms))
    with owner(key, signer, ledger, unlock, bundle) as desk:
        newest = desk.newest_list(revocations)
        for customer, name, place in zip(customers, licensee, places, strict=True):
            given = Terms(name, days.not_before, days.not_after, days.text)
            answers: list[Answers] = []
            done = issue(
                desk.bundle,
                desk.held.key,
                desk.signer,
                customer,
                given,
                place,
                mark=mark,
                revocations=newest,
                record=lambda grant, digest: desk.note(
                    "issued", grant, digest, marked=mark
                ),
                check=desk.comparing(answers) if mark else None,
            )
            told = answers[-1] if answers else None
            answer(facts_of(done, told), _words(done, told), as_json=json)


@unlocking
def renew_command(
    bundle: Annotated[Path, typer.Argument(help="The issued file.")],
    key: KeyName,
    out: Annotated[Path, typer.Option(help="The grant to write; a new file.")],
    not_before: Day = None,
    not_after: Day = None,
    terms: Annotated[
        Path | None,
        typer.Option(help="A text file with the licence.", show_default=False),
    ] = None,
    signer: SignerName = SIGNER,
    ledger: LedgerFile = None,
    revocations: RevocationFile = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Write a new grant for a customer's file, without the model."""
    refuse_existing(out)
    warn_of_past(not_after)
    with owner(key, signer, ledger, unlock, bundle) as desk:
        old = grant_of(desk.bundle, [desk.signer.public])
        desk.refuse_revoked(old)
        text = old.terms if terms is None else _text(terms)
        given = Terms(old.licensee, day_of(not_before), day_of(not_after), text)
        customer = Customer.read(old.recipient)
        newest = max(desk.newest_list(revocations), old.revocations)
        grant = renew(
            desk.bundle,
            desk.held.key,
            desk.signer,
            customer,
            given,
            revocations=newest,
        )
        signed = sign_grant(grant, desk.signer)
        write_new(out, signed)
        desk.note("renewed", grant, hashlib.sha256(signed).hexdigest())
    value = {"file": str(out), **_grant_facts(grant)}
    text = f"{out}  {_grant_words(grant)}"
    answer(value, text, as_json=json)


@unlocking
def revoke_command(
    bundle: Annotated[Path, typer.Argument(help="The issued file.")],
    key: KeyName,
    revocations: Annotated[
        Path,
        typer.Option(
            "--list", help="Your revocation list: created, or replaced by the next one."
        ),
    ],
    signer: SignerName = SIGNER,
    ledger: LedgerFile = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Revoke a customer's grant: put it on your signed revocation list.

    Only a loader that is given the list obeys it.
    """
    with owner(key, signer, ledger, unlock, bundle) as desk:
        grant = grant_of(desk.bundle, [desk.signer.public])
        changed = desk.next_list(revocations, grant.grant_id)
        signed = sign_revocations(changed, desk.signer)
        atomic_write(revocations, signed)
        desk.note("revoked", grant, hashlib.sha256(signed).hexdigest())
    value = {
        "list": str(revocations),
        "sequence": changed.sequence,
        "grant": grant.grant_id,
        "revoked": len(changed.grants),
    }
    text = (
        f"{revocations}  list {changed.sequence}  {len(changed.grants)} revoked; send "
        "it to your customers, whose loaders read it with --revocations"
    )
    answer(value, text, as_json=json)


@unlocking
def issued_command(
    key: Annotated[str, typer.Argument(help="Name of the model key.")],
    signer: SignerName = SIGNER,
    ledger: LedgerFile = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """List the files issued under a model key, from your signed ledger."""
    with open_signer(signer, unlock) as (store, signing):
        book = LedgerOf.at(ledger, unlock, signing)
        written = book.read()
        missing = missing_in(written, store, key)
    entries = [one for one in written.entries if one.key_name == key]
    value = [entry.model_dump(mode="json") for entry in entries]
    lines = [
        f"{one.time}  {one.kind:8}  {one.grant_id}  {one.licensee}"
        f"  {_dates(one.not_before, one.not_after)}{_unmarked(one)}"
        for one in entries
    ]
    answer(value, "\n".join(lines) or f"no file was issued under {key}", as_json=json)
    if missing:
        book.refuse_missing(missing)


@dataclass(frozen=True)
class Desk:
    """The keys and files at hand while an owner issues.

    Attributes:
        store: His keystore, open.
        held: The model key.
        signer: His signing key.
        book: His ledger.
        bundle: The bundle to issue.
    """

    store: Keystore
    held: HeldKey
    signer: SigningKey
    book: LedgerOf
    bundle: Bundle2

    def note(
        self, kind: str, grant: Grant, file_sha256: str, *, marked: bool = False
    ) -> None:
        """Record an issued file in the keystore and in the ledger."""
        self.book.add(
            kind,  # type: ignore[arg-type]
            grant,
            key_name=self.held.name,
            file_sha256=file_sha256,
            marked=marked,
        )
        if kind == "issued":
            self.held.register(USE, grant.grant_id)

    @cached_property
    def answers(self) -> Ours | None:
        """The answers of the owner's own model, run once for all customers."""
        return answers_of(self.bundle, self.held.key)

    def comparing(self, answers: list[Answers]) -> Callable[[Path, Secrets], None]:
        """Return a function that compares a finished file with the owner's own."""

        def check(path: Path, secrets: Secrets) -> None:
            if self.answers is not None:
                answers.append(compare(self.answers, path, secrets))

        return check

    def list_at(self, path: Path) -> Revocations:
        """Return the revocation list at a path, or the first one.

        Raises:
            SignatureNotTrusted: It was not signed by this signer.
        """
        try:
            data = read_bounded(path, MAX_LIST_BYTES)
        except FileNotFoundError:
            return Revocations.first()
        except OSError as error:
            raise OptionError("the list", [f"{path}: {error.strerror}"]) from None
        return read_revocations(data, [self.signer.public], name=str(path))

    def next_list(self, path: Path, grant_id: str) -> Revocations:
        """Return the list after the one at a path, with one more grant.

        It also holds all grants that the ledger calls revoked, and its number is above
        those of earlier lists: loaders would refuse a list begun anew as older.
        """
        entries = self.book.read().entries
        known = [one.grant_id for one in entries if one.kind == "revoked"]
        found = self.list_at(path)
        for each in dict.fromkeys(known):
            if each not in found.grants:
                found = found.with_grant(each)
        least = max(found.sequence, len(known))
        return found.model_copy(update={"sequence": least}).with_grant(grant_id)

    def refuse_revoked(self, grant: Grant) -> None:
        """Refuse to renew a revoked grant.

        Raises:
            Revoked: The ledger says that it was revoked.
        """
        if any(one.kind == "revoked" for one in self.book.read().of(grant.grant_id)):
            raise Revoked(
                f"the grant of {grant.licensee!r} ({grant.grant_id}) was revoked, by "
                "your ledger: loaders with your list would refuse a new one too",
                hint="issue a new file to that customer",
            )

    def newest_list(self, path: Path | None) -> int:
        """Return the number of the list at a path; 0 if none is named."""
        return 0 if path is None else self.list_at(path).sequence


@contextmanager
def owner(
    key: str, signer: str, ledger: Path | None, unlock: Unlock, bundle: Path
) -> Iterator[Desk]:
    """Open a bundle, and the keystore once, with both keys and the ledger.

    Raises:
        ModelFileError: It is a file of weights.
        BundleError: The bundle is of format 1, or cannot be read.
        KeystoreError: The keystore does not open, or lacks a key.
        WrongKey: The bundle was made for another key.
        SignatureNotTrusted: The ledger was changed.
    """
    if bundle.suffix == WEIGHTS:
        raise ModelFileError(
            f"{bundle} is a file of weights, which has no place for a grant: a file "
            "that one customer opens is a bundle",
            hint="export the model it belongs to: docs/models/torch.md; or bind the "
            "file to a key of that customer's own: `mlguard keygen`, `mlguard bind`",
        )
    found = glimpse_bundle(bundle)
    if not isinstance(found, Bundle2):
        raise BundleError(
            f"{bundle} is of format 1, which cannot be issued",
            hint="export it again: `mlguard export` writes format 2",
        )
    with open_signer(signer, unlock) as (store, signing):
        book = LedgerOf.at(ledger, unlock, signing)
        written = book.read()  # a changed ledger stops everything
        held = held_key(store, key, found.manifest.key_id)
        if missing := missing_in(written, store, held.name):
            book.refuse_missing(missing)
        yield Desk(store, held, signing, book, found)


def warn_of_past(text: str | None) -> None:
    """Warn of a last day in the past, as after a typing error in the year."""
    day = day_of(text)
    if day is not None and day < datetime.now(UTC).date():
        warn(f"the last day, {day}, has passed: the file will open nowhere")


def day_of(text: str | None) -> date | None:
    """Read a day from the command line.

    Raises:
        OptionError: It is not a day.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise OptionError(
            "the grant",
            [f"expected a day of the calendar as YYYY-MM-DD, got {text[:40]!r}"],
        ) from None


def facts_of(done: Issued, answers: Answers | None = None) -> dict[str, object]:
    """Return the facts about an issued file, for programs."""
    cost = None if done.cost is None else vars(done.cost)
    return {
        "file": str(done.path),
        "sha256": done.sha256,
        "mark": cost,
        "answers": None if answers is None else vars(answers),
        **_grant_facts(done.grant),
    }


def _grant_facts(grant: Grant) -> dict[str, object]:
    return grant.model_dump(mode="json", exclude={"wrapped", "format", "signer"})


def _grant_words(grant: Grant) -> str:
    days = _dates(grant.not_before, grant.not_after)
    return f"grant {grant.grant_id}  for {grant.licensee}  {days}"


def _words(done: Issued, answers: Answers | None) -> str:
    if done.cost is None:
        mark = "no mark: the weights are bit for bit yours"
    elif not done.cost.marked:
        mark = "no mark: no tensor is large enough to carry one"
    else:
        share = done.cost.marked / done.cost.weights
        mark = (
            f"marked: {share:.0%} of the weights carry the code, each changed by at "
            f"most {done.cost.largest:.2%} of its tensor's largest; "
        )
        mark += str(answers or "its answers were not compared with those of your model")
    return f"{done.path}  {_grant_words(done.grant)}\n{mark}"


def _unmarked(entry: LedgerEntry) -> str:
    return "  no mark" if entry.kind == "issued" and not entry.marked else ""


def _dates(first: str | None, last: str | None) -> str:
    if first is None and last is None:
        return "without dates"
    return f"from {first or 'now'} until {last or 'further notice'}"


def _places(out: Path, names: list[str], count: int, bundle: Path) -> list[Path]:
    if len(names) != count:
        raise OptionError(
            "the grant",
            [f"expected a --licensee for each --to, got {len(names)} for {count}"],
        )
    if count == 1:
        return [out]
    files = [re.sub(r"[^\w.-]+", "-", name).strip("-.") or "customer" for name in names]
    if len({file.casefold() for file in files}) != count:
        raise OptionError("the grants", ["two licensees would get the same file name"])
    prepare_output_folder(out)
    return [out / f"{bundle.stem}-{file}.mlgb" for file in files]


def _text(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return read_text(path, MAX_TERMS_BYTES)
    except OSError as error:
        raise OptionError("the terms", [f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise OptionError("the terms", [f"{path} is not UTF-8 text"]) from None
