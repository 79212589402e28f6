"""`mlguard inspect`: show what a bundle says without any key, running nothing."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from mlguard.bundle import Bundle2, describe, glimpse_bundle
from mlguard.cli.answers import Json, answer
from mlguard.cli.printable import printable
from mlguard.errors import MlguardError
from mlguard.rules import SPLIT_METHOD, WEIGHTS_METHOD
from mlguard.signing import read_envelope
from mlguard.weights import describe_file

SEALING = {WEIGHTS_METHOD, SPLIT_METHOD}  # methods whose key is that of the seal
SHOWN = 8  # items of a list, before it is cut
GRANT_FIELDS = (
    "grant_id",
    "licensee",
    "recipient",
    "issued",
    "not_before",
    "not_after",
)


def inspect(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle NAME.mlgb, or a bound NAME.safetensors.")
    ],
    json: Json = False,
) -> None:
    """Show the facts in FILE, without any key and without authentication."""
    if bundle.suffix.lower() == ".safetensors":
        bound = {"file": str(bundle)} | describe_file(bundle)
        answer(bound, "\n".join(_lines_of_weights(bound)), as_json=json)
        return
    found = glimpse_bundle(bundle)
    facts: dict[str, Any] = {"file": str(bundle), "size": bundle.stat().st_size}
    facts |= describe(found)
    if isinstance(found, Bundle2) and found.grant is not None:
        facts["grant"] = _grant(found.grant, name=str(bundle))
    answer(facts, "\n".join(lines_of(facts)), as_json=json)


def lines_of(facts: dict[str, Any]) -> list[str]:
    """Return the facts as lines; untrusted text cannot begin or end one of them."""
    sealed = facts["sealed"]
    told = "graph and weights" if sealed["graph"] else "weights, not the graph"
    rows = [
        ("bundle", f"{facts['file']}, format {facts['format']}, {facts['size']} bytes"),
        (
            "sealed",
            told if sealed["weights"] else "no: the file holds both in the clear",
        ),
        ("key", f"{facts['key_id']}, model {facts['protection_id']}"),
        ("methods", ", ".join(facts["methods"]) or "none"),
        ("key space", _key_space(facts)),
        *_model(facts),
        *_delivery(facts),
        ("licence", _short(facts["licence"].replace("\n", " / ")) or "none given"),
        ("audit", _audit(facts["audit"])),
        ("made with", _short(_pairs(facts["provenance"]["versions"]))),
    ]
    return [
        *_laid_out(rows),
        "Without the key or a trusted signature, none of this is authenticated.",
    ]


def _lines_of_weights(facts: dict[str, Any]) -> list[str]:
    rows = [
        ("weights", f"{facts['file']}, format {facts['format']}"),
        ("key", f"{facts['key_id']}, model {facts['protection_id']}"),
        ("sealed", f"{facts['tensors']} tensors, {facts['size']} bytes"),
        ("metadata", _short(_pairs(facts["metadata"])) or "none"),
    ]
    return [*_laid_out(rows), "Without the key, none of this is authenticated."]


def _laid_out(rows: list[tuple[str, str]]) -> list[str]:
    return [f"{name:10} {printable(value)}" for name, value in rows]


def _key_space(facts: dict[str, Any]) -> str:
    if set(facts["methods"]) <= SEALING and facts["sealed"]["weights"]:
        return "the seal alone: AES-256-GCM"
    return f"{facts['key_space_bits']:g} bits besides the seal"


def _model(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("takes", _tensors(facts["inputs"])),
        ("gives", _tensors(facts["outputs"])),
    ]
    image, task, coverage = facts["image"], facts["task"], facts.get("coverage")
    if image:
        size = " x ".join(map(str, image["size"]))
        rows.append(
            (
                "image",
                f"{image['input']}: {image['colours']} {image['layout']}, {size}, "
                f"{image['resize']['rule']}",
            )
        )
    if task:
        names = task["class_names"]
        rows.append(
            (
                "task",
                f"{task['name']}, {len(names)} classes: {_short(', '.join(names))}",
            )
        )
    if backbone := facts.get("backbone"):
        maps = ", ".join(one["name"] for one in backbone["maps"])
        rows += [
            ("half", f"private, beside {backbone['architecture']}: {maps}"),
            ("backbone", f"{backbone['weights']}, file {backbone['sha256']}"),
        ]
    if cost := facts.get("precision"):
        rows.append(("precision", _precision(cost)))
    if coverage:
        plain = coverage["plain"]
        rows.append(
            (
                "covered",
                f"{coverage['share']:.2%} of {coverage['size']} bytes of weights",
            )
        )
        rows += [
            ("plain", f"{one['name']}, {one['size']} bytes: {one['reason']}")
            for one in plain[:SHOWN]
        ]
        if len(plain) > SHOWN:
            rows.append(("plain", f"and {len(plain) - SHOWN} more"))
    return rows


def _precision(cost: dict[str, Any]) -> str:
    scores = [cost["before"], cost["after"]]
    said = (
        "" if None in scores else "; score {:.4f} before, {:.4f} after".format(*scores)
    )
    same = f"{cost['agreement']:.2%} the same class on {cost['images']} images"
    return f"{cost['kind']}: {same}{said}"


def _delivery(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if facts["issued"]:
        grant = facts.get("grant") or {}
        told = ", ".join(f"{name} {value}" for name, value in grant.items() if value)
        rows.append(
            ("issued", told or "to one customer, whose grant is a separate file")
        )
    if facts.get("signed"):
        rows.append(("signed", "yes; `mlguard verify` names the signer"))
    return rows


def _tensors(tensors: list[dict[str, Any]]) -> str:
    words = [f"{one['name']} {one['datatype']} {one['shape']}" for one in tensors]
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return _short("; ".join(words[:SHOWN])) + more


def _audit(headline: dict[str, Any] | None) -> str:
    if headline is None:
        return "none in the file"
    words = [f"{name} {value}" for name, value in headline.items() if value is not None]
    return ", ".join(words)


def _pairs(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _short(text: str, most: int = 300) -> str:
    return text if len(text) <= most else text[:most] + " …"


def _grant(content: bytes, *, name: str) -> dict[str, Any] | None:
    """Return the contents of the grant, without checking its signature."""
    try:
        said = json.loads(read_envelope(content, name=name).payload)
        json.dumps(said, allow_nan=False)  # other programs cannot read Infinity
        return {field: said[field] for field in GRANT_FIELDS}
    except (MlguardError, ValueError, TypeError, LookupError, RecursionError):
        return None
