"""`mlguard trace`: whose copy of a model has turned up."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.extras import need
from mlguard.cli.issue import KeyName, owner
from mlguard.cli.ledger import LedgerFile
from mlguard.cli.parties import SIGNER, SignerName
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.cli.with_store import Json, answer
from mlguard.errors import BundleError
from mlguard.marks import Finding, Trace
from mlguard.marks import trace as trace_weights


@unlocking
def trace(
    leak: Annotated[
        Path, typer.Argument(help="What turned up: .mlgb, .onnx or .safetensors.")
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
    """Say whose copy of BUNDLE's model has leaked, or that it is nobody's.

    The weights of LEAK may have been rounded, pruned, trained on or mixed, and their
    channels reordered and rescaled.
    """
    if leak.suffix.lower() == ".onnx":
        need("mlguard.foreign")
    from mlguard.issuing.leak import tensors_of_bundle, tensors_of_leak

    with owner(key, signer, ledger, unlock, bundle) as desk:
        customers = {
            f"{entry.licensee} (grant {entry.grant_id})": bytes.fromhex(entry.grant_id)
            for entry in desk.book.read().entries
            if entry.kind == "issued"
            and entry.marked
            and entry.protection_id == desk.bundle.manifest.protection_id
        }
        if not customers:
            raise BundleError(
                f"no marked file was issued from {bundle}, as the ledger says",
                hint="name the ledger with --ledger, if it lies elsewhere",
            )
        model_key = desk.held.key
    subkeys = model_key.for_model(bytes.fromhex(desk.bundle.manifest.protection_id))
    found = trace_weights(
        tensors_of_leak(leak, model_key),
        tensors_of_bundle(bundle, model_key),
        customers,
        subkeys,
    )
    answer(_facts(found), "\n".join(_words(found)), as_json=json)


def _words(found: Trace) -> list[str]:
    if not found.related:
        return ["nobody: the file has no weights of this model that carry codes"]
    share = found.compared / found.marked
    lines = [f"compared {share:.1%} of the weights that carry codes"]
    named = [_line(one) for one in found.named]
    lines += named or ["nobody: no customer's code is there beyond chance"]
    others = [one for one in found.findings if not one.named]
    if others:
        lines.append(
            f"of {len(others)} other customers the highest z is {others[0].z:.1f}"
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
