"""Bind a trained model to a key without training, and rebind it to another key.

The key's transforms are folded into the layers that read images and feature maps
(fold.py). The result is a run folder like that of training, with the plain model as its
baseline. Nothing is written before a comparison with the original model.
"""

import errno
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mlguard.errors import BindingError, OutputError, OutputExists
from mlguard.files import (
    PRIVATE_FOLDER,
    atomic_fill,
    atomic_write,
    prepare_output_folder,
    read_bounded,
    refuse_filled_folder,
)
from mlguard.keys import ModelKey, ModelSubkeys, new_protection_id
from mlguard.models import NO_KEY, keyed, normalization_of, rewrite
from mlguard.models.binding import norms_with_statistics
from mlguard.protect import run_folder
from mlguard.protect.binding.fold import answers, compare, fold, stem_form, unfold
from mlguard.protect.key_work import hollow_model, name_of
from mlguard.protect.run_folder import (
    Keeper,
    Protection,
    Run,
    read_run,
    versions,
)
from mlguard.recipe import Recipe, recipe_sha256
from mlguard.transforms import TransformSet

MAX_CURVES_BYTES = 1 << 26  # of metrics or their picture; a training has few epochs


@dataclass(frozen=True)
class Bound:
    """A bound model, and its comparison with the original.

    Attributes:
        run: Its run folder.
        fold_ms: The time of folding in milliseconds.
        difference: The largest difference of two logits.
        largest_logit: The largest logit, as the scale of `difference`.
        unfolded: Names and kinds of layers that keep their running statistics although
            batch norms were to be folded.
    """

    run: Run
    fold_ms: float
    difference: float
    largest_logit: float
    unfolded: Mapping[str, str] = field(default_factory=dict)


def bind_model(
    plain: Run,
    recipe: Recipe,
    key: ModelKey,
    out: Path,
    *,
    key_name: str,
    keep_plain: bool = False,
) -> Bound:
    """Bind a plain model to a key.

    Args:
        plain: The plain model.
        recipe: The recipe of the bound model, from `bound_recipe`.
        key: The model key.
        out: The run folder to write, new or empty.
        key_name: The key's name in the owner's keystore.
        keep_plain: Under the method `weights`, leave the files of the folder in the
            clear.

    Raises:
        OutputExists: The folder is not empty.
        MalformedRun: The plain weights are missing, damaged or of another model.
        BindingError: The key's transforms cannot be folded into the model.
        ParityError: The bound model does not compute what the plain one does.
        OutputError: There is no space, or the folder is not writable.
    """
    refuse_filled_folder(out)
    form, model = stem_form(plain, recipe), plain.load_model()
    expected = answers(model, NO_KEY, recipe)
    protection = Protection(new_protection_id(), key.key_id, key_name)
    draft = Run(out, recipe, protection, dict(plain.provenance), plain.build)
    transforms = draft.derive(protection.subkeys(key))
    begun = time.perf_counter()
    rewrite(model, recipe.model, recipe.transform.block_size)
    fold(model, transforms, normalization_of(recipe.model))
    fold_ms = (time.perf_counter() - begun) * 1e3
    difference, largest = compare(answers(model, keyed(transforms), recipe), expected)
    facts = {
        "stem": form or "",
        "tied": form == "lifted",
        "source_sha256": plain.weights_sha256,
    }
    seals = recipe.transform.seals and not keep_plain
    run = _write(draft, model, key, facts, plain, seals=seals)
    folded = recipe.model.batch_norm == "folded"
    unfolded = norms_with_statistics(model) if folded else {}
    return Bound(run, fold_ms, difference, largest, unfolded)


def rebind_run(
    run: Run, old: ModelKey, key: ModelKey, out: Path, *, key_name: str
) -> Bound:
    """Give a bound model another key, and a new protection id.

    Args:
        run: A protected run.
        old: The key that it needs now.
        key: The key that the new run will need.
        out: The run folder to write, new or empty.
        key_name: The new key's name in the owner's keystore.

    Raises:
        WrongKey: The run was protected with another key than `old`.
        TamperedRun: This run was not made with `old`.
        MalformedRun: It is a baseline run, or is damaged.
        OutputExists: The folder is not empty.
        BindingError: The run was not bound but trained under its key, and the
            transforms cannot be folded.
        ParityError: The new model does not compute what the old one does.
        OutputError: There is no space, or the folder is not writable.
    """
    refuse_filled_folder(out)
    if run.recipe.transform.keys_norms:
        raise _trained(run)
    was, run = run.transform(old), run.unlocked(old)
    model, normalization = run.load_model(), normalization_of(run.recipe.model)
    expected = answers(model, keyed(was), run.recipe)
    protection = Protection(new_protection_id(), key.key_id, key_name)
    draft = Run(out, run.recipe, protection, run.provenance, run.build)
    becomes = draft.derive(protection.subkeys(key))
    begun = time.perf_counter()
    _unfold_old(model, was, run)
    fold(model, becomes, normalization)
    fold_ms = (time.perf_counter() - begun) * 1e3
    got = answers(model, keyed(becomes), run.recipe)
    difference, largest = compare(got, expected)
    twin = run.baseline(old)
    known = run.provenance.get(run_folder.BOUND)
    facts = dict(known) if isinstance(known, dict) else {}
    facts["source_sha256"] = run.weights_sha256
    seals = run.recipe.transform.seals
    written = _write(draft, model, key, facts, twin, seals=seals)
    return Bound(written, fold_ms, difference, largest)


def _unfold_old(model: nn.Module, was: TransformSet, run: Run) -> None:
    try:
        unfold(model, was, normalization_of(run.recipe.model))
    except BindingError:
        if run_folder.BOUND in run.provenance:
            raise
        raise _trained(run) from None


def _trained(run: Run) -> BindingError:
    return BindingError(
        f"{run.path} was trained under its key, and the key is not folded into it",
        hint="train it again under the new key, or train a plain model and bind it",
    )


def _write(
    draft: Run,
    model: nn.Module,
    key: ModelKey,
    facts: dict[str, Any],
    plain: Run | None,
    *,
    seals: bool,
) -> Run:
    """Write a bound run completely or not at all: beside its place, then into it."""
    protection = draft.protection
    assert protection is not None
    _check_form(model, draft)
    subkeys = protection.subkeys(key)
    whole = draft.path.with_name(f".{secrets.token_hex(8)}.tmp")
    prepare_output_folder(whole, mode=PRIVATE_FOLDER)
    try:
        run_folder.write_json(whole / run_folder.PROVENANCE, _provenance(draft, facts))
        made = name_of(draft.build) if draft.build else None
        run_folder.write_setup(whole, draft.recipe, protection, built_by=made)
        if plain is not None:
            _write_twin(plain, whole / run_folder.BASELINE, subkeys, seals=seals)
        keeper = Keeper(subkeys, run_folder.RUN, hidden=True) if seals else None
        _write_weights(whole, model.state_dict(), keeper)
        run_folder.write_proofs(whole, protection, key)
        _put(whole, draft.path)
    except BaseException:
        shutil.rmtree(whole, ignore_errors=True)
        raise
    return read_run(draft.path, build=draft.build)


def _check_form(model: nn.Module, draft: Run) -> None:
    """Refuse a model that its own recipe does not build: nobody could load it."""
    blank = hollow_model(draft.recipe, draft.build)
    problem = run_folder.load_tensors(blank, model.state_dict(), assign=True)
    if problem:
        raise BindingError(f"the recipe does not build a model of this form: {problem}")


def _put(whole: Path, out: Path) -> None:
    """Move a folder to a new place, or over an empty folder."""
    try:
        whole.rename(out)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise OutputExists(f"{out} is not an empty folder") from None
        raise OutputError(f"cannot write {out}: {error.strerror}") from None


def _provenance(draft: Run, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about the training and the binding."""
    return draft.provenance | {
        "recipe_sha256": recipe_sha256(draft.recipe),
        run_folder.BOUND: facts
        | {
            "versions": versions(),
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    }


def _write_weights(
    path: Path, tensors: dict[str, Tensor], keeper: Keeper | None
) -> None:
    """Write weights, sealed from the first byte if the method seals."""
    if keeper is None:
        run_folder.write_tensors(path / run_folder.MODEL, tensors)
    else:
        keeper.write(path / run_folder.MODEL, tensors)


def _write_twin(plain: Run, twin: Path, subkeys: ModelSubkeys, *, seals: bool) -> None:
    """Copy the plain model beside the bound one, so that an audit can compare."""
    prepare_output_folder(twin, mode=PRIVATE_FOLDER)
    run_folder.write_json(twin / run_folder.PROVENANCE, plain.provenance)
    made = name_of(plain.build) if plain.build else None
    run_folder.write_setup(twin, plain.recipe, None, built_by=made)
    source = plain.weights.parent
    trained_here = (source / run_folder.RECIPE).exists()
    curves = (run_folder.METRICS, run_folder.CURVES) if trained_here else ()
    try:
        for name in curves:
            if (source / name).exists():
                data = read_bounded(source / name, MAX_CURVES_BYTES)
                atomic_write(twin / name, data, mode=run_folder.PRIVATE)
    except OSError as error:
        raise OutputError(f"cannot copy to {twin}: {error.strerror}") from None
    if seals:
        sealed = Keeper(subkeys, run_folder.TWIN, hidden=True)
        return _write_weights(twin, plain.read_tensors(), sealed)
    # Not a link: training on into the same file would change every twin.
    place = twin / run_folder.MODEL
    return atomic_fill(place, plain.copy_weights, mode=run_folder.PRIVATE)
