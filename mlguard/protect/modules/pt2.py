"""Read a .pt2 file, a program saved by torch.export, without running code in it.

torch's own reader unpickles example inputs and odd tensors, evaluates formulas of sizes
as Python and executes guards. So the file is read once, refused if it needs any of
that, and handed to torch without the unneeded parts: example inputs, guards, stack
traces.
"""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from mlguard.errors import ModelFileError
from mlguard.files import read_bounded
from mlguard.protect.export import cause_of
from mlguard.protect.modules.convert import quiet

MAX_BYTES = 1 << 36  # larger files do not occur
MAX_MEMBERS = 1 << 17
PROGRAM = "models/model.json"
KEPT = (
    re.compile(  # the files of the archive that torch's reader needs, below its folder
        r"archive_(format|version)|byteorder|\.data/\w+|version|models/model\.json"
        r"|data/(weights|constants)/[\w.]+"
    )
)
EMPTIED = re.compile(r"data/sample_inputs/[\w.]+")  # a pickle
LEFT_OUT = re.compile(r"extra/.*")
NAMES = r"[A-Za-z0-9_]+"
PRIVATE = (
    r"(?!__(?!(?:i?and|i?or|i?xor|i?lshift|i?rshift)__))"  # no internals of Python
)
OPERATOR = re.compile(
    rf"torch\.ops\.(?:aten|prims|torchvision)\.(?!from_file){PRIVATE}{NAMES}\.{NAMES}"
    r"|torch\.ops\.higher_order\.(?:cond|while_loop|scan|wrap_with_set_grad_enabled)"
    r"|torch\.(?:_?sym_\w+)|_operator\.(?!\w*(?:caller|attrgetter))[a-z_]+"
    r"|math\.(?:ceil|floor|trunc|sqrt|pow|log2)"
)
# A formula of sizes: numbers, symbols, functions, and no access to attributes. A quoted
# name can only be a symbol's.
QUOTED = r"'[a-z]{1,3}\d+'"
FORMULA = re.compile(
    rf"(?:[A-Za-z_][A-Za-z0-9_]*|\d+(?:\.\d+)?|{QUOTED}|[\s+\-*/%(),<>=!&|~])*"
)
SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
KNOWN = re.compile(
    r"[a-z]{1,3}\d+|[A-Z][A-Za-z]*|True|False|oo|int_oo"
    r"|positive|nonnegative|negative|integer|real|finite|evaluate"
)
WEIGHTS = re.compile(r"data/(?:weights|constants)/model_\w+_config\.json")
HINT = "save it again with torch.export.save, by torch 2.9 or later"


def read_program(path: Path) -> ExportedProgram:
    """Read a .pt2 file.

    Raises:
        ModelFileError: It cannot be read, is not such a file, or needs more than
            tensors and operators.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
        cleaned = _cleaned(data, str(path))
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from None
    except (zipfile.BadZipFile, ValueError, RecursionError, KeyError, EOFError):
        raise ModelFileError(
            f"{path} is not a .pt2 file of torch.export", hint=HINT
        ) from None
    try:
        with quiet():
            return torch.export.load(cleaned)
    except Exception as error:
        raise ModelFileError(
            f"torch {torch.__version__} cannot read {path}: {cause_of(error)}",
            hint=HINT,
        ) from None


def _cleaned(data: bytes, name: str) -> io.BytesIO:
    """Return the archive without its unneeded parts; refuse unexpected ones."""
    cleaned = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        inside = {one.filename.partition("/")[2]: one for one in members}
        if PROGRAM not in inside or len(members) > MAX_MEMBERS:
            raise ValueError("no program")
        if any(one.compress_type != zipfile.ZIP_STORED for one in members):
            raise ValueError("compressed")
        with zipfile.ZipFile(cleaned, "w", zipfile.ZIP_STORED) as out:
            for place, member in inside.items():
                content = _member(archive, member, place, name)
                if content is not None:
                    out.writestr(member.filename, content)
    cleaned.seek(0)
    return cleaned


def _member(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, place: str, name: str
) -> bytes | None:
    if EMPTIED.fullmatch(place):
        return b""
    if LEFT_OUT.fullmatch(place):
        return None
    if not KEPT.fullmatch(place):
        raise ModelFileError(
            f"{name} holds {_shown(place)}, which is not part of a program of tensors",
            hint="compiled code and pickles are not accepted",
        )
    content = archive.read(member)
    if place == PROGRAM:
        return _program(content, name)
    if WEIGHTS.fullmatch(place):
        _check_payloads(json.loads(content), name)
    return content


def _check_payloads(config: dict[str, Any], name: str) -> None:
    """Refuse pickled tensors, and constants that are not tensors."""
    for tensor, payload in config["config"].items():
        plain = re.fullmatch(r"(weight|tensor)_\d+", payload["path_name"])
        if payload["use_pickle"] or not plain:
            raise ModelFileError(
                f"{name}: {_shown(tensor)} is stored as a pickle, and pickles are "
                "never loaded",
                hint="save the program with plain tensors: on the CPU, dense, and of "
                "torch's own class",
            )


def _program(content: bytes, name: str) -> bytes:
    program = json.loads(content)
    program["guards_code"] = []
    for part in _parts(program):
        target, formula = part.get("target"), part.get("expr_str")
        if isinstance(target, str) and "inputs" in part:
            part["metadata"] = {}
            if not OPERATOR.fullmatch(target):
                raise ModelFileError(
                    f"{name}: operator {_shown(target)} is not allowed in a program "
                    "of tensors"
                )
        if isinstance(formula, str) and not _is_formula(formula):
            raise ModelFileError(
                f"{name}: {_shown(formula)} is not a formula of sizes of tensors"
            )
    return json.dumps(program).encode()


def _is_formula(text: str) -> bool:
    symbols = SYMBOL.findall(text)
    return bool(FORMULA.fullmatch(text)) and all(map(KNOWN.fullmatch, symbols))


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a JSON document."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
