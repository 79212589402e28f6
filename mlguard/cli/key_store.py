"""`mlguard keys`: the keystore itself: backup, restore, check and log."""

from pathlib import Path
from typing import Annotated

import typer

import keystore as keystores
from keystore import Keystore, Record
from mlguard.cli.answers import Json, answer
from mlguard.cli.printable import warn
from mlguard.cli.unlock import Unlock, pins, unlocking
from mlguard.cli.with_store import with_store


@with_store
def backup(store: Keystore, file: Path, json: Json = False) -> None:
    """Copy the sealed keystore to FILE, and print its digest."""
    digest = keystores.backup(store, file)
    value = {"file": str(file), "sha256": digest, "generation": store.generation}
    answer(value, f"{file}  generation {store.generation}  {digest}", as_json=json)


@unlocking
def restore(
    file: Path,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Restore a backup, after opening all of it; the old keystore is kept beside it.

    Keys and versions are those of the backup. The slots are those of the present
    keystore, or of the backup if the present one cannot be opened: then members removed
    since can open it again.
    """
    opener, place = unlock.opener(str(file)), unlock.storage
    old, new = keystores.restore(place, file, opener, pins=pins(), say=warn)
    value = {"keystore": place.location, "restored": old, "generation": new}
    text = (
        f"{place.location}  restored from generation {old}, now generation {new}; "
        "slots and versions are those of the backup, see `mlguard keys slots list`"
    )
    answer(value, text, as_json=json)


@with_store
def check(store: Keystore, json: Json = False) -> None:
    """Read every entry and the whole log, and compare with the state seen before."""
    records = store.check()
    elsewhere = store.log_elsewhere(records)
    versions = sum(len(store.info(name).versions) for name in store.names())
    value = {
        "keystore": store.location,
        "store_id": store.store_id,
        "generation": store.generation,
        "keys": len(store.names()),
        "versions": versions,
        "slots": len(store.slots()),
        "log_records": len(records),
        "pinned": store.pinned,
    }
    words = "\n".join(f"{name:12} {found}" for name, found in value.items())
    advice = []
    if len(store.slots()) == 1:
        advice.append("only one slot: `mlguard keys slots add` a recovery identity")
    if not store.pinned:
        advice.append(
            "not pinned here: an older copy put in its place would not be noticed"
        )
    if elsewhere:
        advice.append(_elsewhere(elsewhere))
    unrenewed = ", ".join(slot.label for slot in store.slots() if slot.unrenewed)
    if unrenewed:
        advice.append(
            "slots that come from format 1; the owner of each should run "
            f"`mlguard keys slots renew`: {unrenewed}"
        )
    lines = "".join(f"\nadvice       {line}" for line in advice)
    answer(value | {"advice": advice}, words + lines, as_json=json)


@unlocking
def accept(
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Accept the keystore as it is now, though it went back or was replaced."""
    with unlock.open(accept=True) as store:
        value = {"keystore": store.location, "generation": store.generation}
        text = f"{store.location}  accepted at generation {store.generation}"
        answer(value, text, as_json=json)


@with_store
def log(
    store: Keystore,
    verify: Annotated[
        bool, typer.Option("--verify", help="Print only the verdict.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the audit log. It is verified either way."""
    records = store.log()
    elsewhere = store.log_elsewhere(records)
    if verify:
        value: object = {
            "records": len(records),
            "intact": True,
            "elsewhere": elsewhere,
            "unfinished": store.log_unfinished(records),
        }
        answer(value, _verdict(store, records), as_json=json)
        return
    lines = [
        f"{each.n:5}  {each.time}  {each.user}  {each.op}"
        + (f"  {each.key}" if each.key else "")
        + (f"@{each.version}" if each.version else "")
        for each in records
    ]
    value = {
        "records": [each.to_json() for each in records],
        "elsewhere": elsewhere,
    }
    if elsewhere:
        lines.insert(0, _elsewhere(elsewhere))
    answer(value, "\n".join(lines), as_json=json)


def _verdict(store: Keystore, records: tuple[Record, ...]) -> str:
    words = [f"{len(records)} records, intact"]
    elsewhere = store.log_elsewhere(records)
    if elsewhere:
        words.append(_elsewhere(elsewhere))
    unfinished = store.log_unfinished(records)
    if unfinished:
        words.append(
            f"the last {unfinished} describe a change that the keystore lacks: it was "
            "interrupted, or the keystore was put back by one step"
        )
    return "\n".join(words)


def _elsewhere(number: int) -> str:
    which = "record 1 is" if number == 1 else f"records 1 to {number} are"
    return f"{which} in the log at the place that this keystore came from"
