"""What may happen to a key: pure rules from one entry to the next.

Enabled → disabled → destroyed, and back from disabled. Nothing here reads, writes or
logs; the keystore does. Deletion and export are off by default.
"""

from dataclasses import replace

from keystore.canonical import PURPOSE, now
from keystore.entries import MAX_NOTE, MAX_REFERENCE, MAX_USES, Entry, Use, Version
from keystore.errors import InvalidName, KeyInUse, KeyNotUsable, NotAllowed

MAX_SHOWN_USES = 5  # in a refusal


def promote(entry: Entry, number: int) -> Entry:
    """Make a version the primary one.

    Raises:
        KeyNotFound: There is no such version.
        KeyNotUsable: It is disabled or destroyed.
    """
    version = entry.version(number)
    if version.state != "enabled":
        raise KeyNotUsable(_state_of(entry, version))
    return replace(entry, primary=version.id)


def disable(entry: Entry, number: int, *, compromised: bool = False) -> Entry:
    """Take a version out of use, and note whether its secret may be known to others.

    Raises:
        KeyNotFound: There is no such version.
        KeyNotUsable: It is destroyed.
    """
    version = entry.version(number)
    if version.state == "destroyed":
        raise KeyNotUsable(_state_of(entry, version))
    known = compromised or version.compromised
    return _with(entry, replace(version, state="disabled", compromised=known))


def enable(entry: Entry, number: int, *, force: bool = False) -> Entry:
    """Take a disabled version into use again.

    Args:
        entry: The key.
        number: The version.
        force: Also if it was marked compromised; the mark is cleared.

    Raises:
        KeyNotFound: There is no such version.
        KeyNotUsable: It is destroyed.
        NotAllowed: It was marked compromised.
    """
    version = entry.version(number)
    if version.state == "destroyed":
        raise KeyNotUsable(_state_of(entry, version))
    if version.compromised and not force:
        raise NotAllowed(
            f"version {version.id} of {entry.name} was marked compromised",
            hint="rotate the key instead; use --force if it was marked by mistake",
        )
    return _with(entry, replace(version, state="enabled", compromised=False))


def destroy(entry: Entry, number: int, *, force: bool = False) -> Entry:
    """Erase the secret of a disabled version for ever; its place remains.

    Args:
        entry: The key.
        number: The version.
        force: Also if something registered still needs it.

    Raises:
        KeyNotFound: There is no such version.
        KeyNotUsable: It is destroyed already.
        NotAllowed: The policy forbids it, or it is still enabled.
        KeyInUse: Something registered needs it.
    """
    version = entry.version(number)
    if version.state == "destroyed":
        raise KeyNotUsable(_state_of(entry, version))
    if not entry.policy.deletion_allowed:
        raise NotAllowed(
            f"the policy of {entry.name} does not allow deletion",
            hint=f"`mlguard keys allow {entry.name} --deletion` changes it",
        )
    if version.state == "enabled":
        raise NotAllowed(
            f"version {version.id} of {entry.name} is enabled",
            hint="disable it first, and see whether anything still needs it",
        )
    if not force:
        _refuse_uses(entry, version)
    return _with(entry, replace(version, state="destroyed", secret=None))


def allow(
    entry: Entry, *, exportable: bool | None = None, deletion: bool | None = None
) -> Entry:
    """Change what the policy allows; None leaves a flag as it is."""
    policy = entry.policy
    if exportable is not None:
        policy = replace(policy, exportable=exportable)
    if deletion is not None:
        policy = replace(policy, deletion_allowed=deletion)
    return replace(entry, policy=policy)


def check_exportable(entry: Entry) -> None:
    """Refuse to export a secret unless the policy allows it.

    Raises:
        NotAllowed: The policy forbids it.
    """
    if not entry.policy.exportable:
        raise NotAllowed(
            f"the policy of {entry.name} does not allow export",
            hint=f"`mlguard keys allow {entry.name} --export` changes it",
        )


def note(entry: Entry, text: str) -> Entry:
    """Replace the note of a key.

    Raises:
        InvalidName: The note is too long, or not one printable line.
    """
    if len(text) > MAX_NOTE or not text.isprintable():
        raise InvalidName(
            "the note is not a printable line",
            hint=f"write at most {MAX_NOTE} characters on one line",
        )
    return replace(entry, note=text)


def add_use(entry: Entry, kind: str, reference: str, number: int) -> Entry:
    """Register that something needs a version; registering twice changes nothing.

    Raises:
        KeyNotFound: There is no such version.
        InvalidName: The kind or reference is not valid.
        NotAllowed: There are too many uses already.
    """
    version = entry.version(number)
    fits = 1 <= len(reference) <= MAX_REFERENCE and reference.isprintable()
    if not PURPOSE.fullmatch(kind) or not fits:
        raise InvalidName(f"{kind} {reference!r} is not a valid use")
    use = Use(kind=kind, reference=reference, version=version.id, since=now())
    if use in entry.uses:
        return entry
    if len(entry.uses) == MAX_USES:
        raise NotAllowed(
            f"{entry.name} has {MAX_USES} uses already",
            hint="remove uses that no longer exist with `mlguard keys uses NAME "
            "--remove`",
        )
    return replace(entry, uses=tuple(sorted((*entry.uses, use))))


def remove_use(entry: Entry, reference: str) -> Entry:
    """Remove every use with this reference, whatever its version.

    Raises:
        InvalidName: No use has that reference.
    """
    kept = tuple(use for use in entry.uses if use.reference != reference)
    if kept == entry.uses:
        raise InvalidName(
            f"{entry.name} has no use {reference!r}",
            hint=f"`mlguard keys uses {entry.name}` lists them",
        )
    return replace(entry, uses=kept)


def _refuse_uses(entry: Entry, version: Version) -> None:
    needed = [use for use in entry.uses if use.version == version.id]
    if needed:
        listed = ", ".join(
            f"{use.kind} {use.reference}" for use in needed[:MAX_SHOWN_USES]
        )
        more = len(needed) - MAX_SHOWN_USES
        listed += f" and {more} more" if more > 0 else ""
        raise KeyInUse(
            f"version {version.id} of {entry.name} is needed by {len(needed)}: {listed}"
        )


def _with(entry: Entry, version: Version) -> Entry:
    versions = (version if old.id == version.id else old for old in entry.versions)
    return replace(entry, versions=tuple(versions))


def _state_of(entry: Entry, version: Version) -> str:
    return f"version {version.id} of {entry.name} is {version.state}"
