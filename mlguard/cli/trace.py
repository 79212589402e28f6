"""`mlguard trace`: find whose copy of a model has leaked."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.answers import Json, answer
from mlguard.cli.extras import need
from mlguard.cli.issue import KeyName, owner
from mlguard.cli.ledger import LedgerFile
from mlguard.cli.parties import SIGNER, SignerName
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.errors import BundleError, WeightsError
from mlguard.grants import LedgerEntry
from mlguard.marks import Finding, Trace
from mlguard.marks import trace as trace_weights


@unlocking
def trace(
    leak: Annotated[
        Path, typer.Argument(help="The leaked file: .mlgb, .onnx or .safetensors.")
    ],
    key: KeyName,
    bundle: Annotated[
        Path, typer.Option(help="Your own bundle, from which you issued.")
    ],
    signer: SignerName = SIGNER,
    ledger: LedgerFile = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Find whose copy of BUNDLE's model has leaked.

    The weights of LEAK may have been rounded, pruned, trained on or mixed, and their
    channels reordered and rescaled.
    """
    if leak.suffix.lower() == ".onnx":
        need("mlguard.foreign")
    from mlguard.issuing.leak import tensors_of_bundle, tensors_of_leak

    refuse_missing(leak)
    with owner(key, signer, ledger, unlock, bundle) as desk:
        if desk.bundle.manifest.issued:
            raise BundleError(
                f"{bundle} was issued to a customer and carries his mark",
                hint="name your own bundle, from which you issued, with --bundle",
            )
        entries = [
            entry
            for entry in desk.book.read().entries
            if entry.kind == "issued" and entry.marked
            if entry.key_id == desk.bundle.manifest.key_id
        ]
        customers = {_name(one): bytes.fromhex(one.grant_id) for one in entries}
        if not customers:
            raise BundleError(
                f"no marked file was issued under {key}, as the ledger says",
                hint="name the ledger with --ledger, if it is elsewhere",
            )
        model_key = desk.held.key
    # Each customer's own: their files may come from different exports.
    subkeys = {
        _name(one): model_key.for_model(bytes.fromhex(one.protection_id))
        for one in entries
    }
    found = trace_weights(
        tensors_of_leak(
            leak, model_key, {one.bundle_sha256: one.grant_id for one in entries}
        ),
        tensors_of_bundle(bundle, model_key),
        customers,
        subkeys,
    )
    answer(_facts(found), "\n".join(_words(found)), as_json=json)


def refuse_missing(path: Path) -> None:
    """Refuse a path without a file.

    Raises:
        WeightsError: There is no file.
    """
    if not path.exists():
        raise WeightsError(f"{path}: no such file", hint="check the path")


def _name(entry: LedgerEntry) -> str:
    return f"{entry.licensee} (grant {entry.grant_id})"


def _words(found: Trace) -> list[str]:
    if not found.related:
        return [
            "cannot compare: the file has no weights of this model that carry codes, "
            "so nobody is named and nobody is cleared"
        ]
    share = found.compared / found.marked
    lines = [f"compared {share:.1%} of the weights that carry codes"]
    named = [_line(one) for one in found.named]
    lines += named or ["nobody: no customer's code is present beyond chance"]
    others = [one for one in found.findings if not one.named]
    if others:
        lines.append(
            f"the highest z of {len(others)} other customers is {others[0].z:.1f}"
        )
    return lines


def _line(one: Finding) -> str:
    return f"{one.customer}  z {one.z:.1f}  chance of a false alarm {_chance(one)}"


def _chance(one: Finding) -> str:
    return f"below {one.false_alarm:.0e}" if one.false_alarm else "below 1e-300"


def _facts(found: Trace) -> dict[str, object]:
    return {
        "named": [one.customer for one in found.named],
        "compared": found.compared,
        "marked": found.marked,
        "alike": found.alike,
        "customers": [
            {
                "customer": one.customer,
                "grant_id": one.grant_id.hex(),
                "z": one.z,
                "false_alarm": one.false_alarm,
                "named": one.named,
            }
            for one in found.findings
        ],
    }
