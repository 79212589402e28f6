"""Show keys: everything but the secret."""

from typing import Annotated, Any

import typer

from keystore import Keystore
from mlguard.cli.answers import Json, answer
from mlguard.cli.model_key import NO_ID, key_id_of, parse_key_name
from mlguard.cli.with_store import with_store

Name = Annotated[str, typer.Argument(help="The key's name.")]


@with_store
def list_keys(store: Keystore, json: Json = False) -> None:
    """List all keys: name, key id of the primary version, number of versions."""
    keys = [describe(store, name) for name in store.names()]
    width = max((len(key["name"]) for key in keys), default=0)
    lines = [
        f"{key['name']:{width}}  {primary_id(key):16}  {versions_in_words(key)}"
        for key in keys
    ]
    empty = f"{store.location} has no keys yet"
    answer({"keys": keys}, "\n".join(lines) or empty, as_json=json)


@with_store
def show(store: Keystore, name: Name, json: Json = False) -> None:
    """Show everything about a key but its secret: versions, policy and uses."""
    show_entry(store, parse_key_name(name)[0], as_json=json)


def show_entry(store: Keystore, name: str, *, as_json: bool) -> None:
    """Print one key."""
    value = describe(store, name)
    answer(value, _in_words(value), as_json=as_json)


def describe(store: Keystore, name: str) -> dict[str, Any]:
    """Return a key as `--json` prints it."""
    entry, ids = store.info_and_ids(name, key_id_of)
    return {
        "name": entry.name,
        "purpose": entry.purpose,
        "note": entry.note,
        "primary": entry.primary,
        "exportable": entry.policy.exportable,
        "deletion_allowed": entry.policy.deletion_allowed,
        "versions": [
            {
                "version": version.id,
                "key_id": ids.get(version.id),
                "state": version.state,
                "compromised": version.compromised,
                "created": version.created,
            }
            for version in entry.versions
        ],
        "uses": [use.to_json() for use in entry.uses],
    }


def primary_id(key: dict[str, Any]) -> str:
    """Return the key id of the primary version."""
    ids = {each["version"]: each["key_id"] for each in key["versions"]}
    return ids[key["primary"]] or NO_ID


def versions_in_words(key: dict[str, Any]) -> str:
    """Return the number of versions in words."""
    count = len(key["versions"])
    return f"{count} version" if count == 1 else f"{count} versions"


def _in_words(key: dict[str, Any]) -> str:
    lines = [f"name     {key['name']}", f"purpose  {key['purpose']}"]
    if key["note"]:
        lines.append(f"note     {key['note']}")
    allowed = [
        word
        for word, flag in (("export", "exportable"), ("deletion", "deletion_allowed"))
        if key[flag]
    ]
    lines.append(f"allowed  {', '.join(allowed) or 'neither export nor deletion'}")
    for version in key["versions"]:
        marks = [version["state"]]
        marks += ["compromised"] if version["compromised"] else []
        marks += ["primary"] if version["version"] == key["primary"] else []
        lines.append(
            f"version  {version['version']}  {version['key_id'] or NO_ID:16}  "
            f"{version['created']}  {', '.join(marks)}"
        )
    lines += [
        f"use      {use['kind']} {use['reference']} (version {use['version']})"
        for use in key["uses"]
    ]
    return "\n".join(lines)
