"""A bundle as what is audited: whose it is, and which images it is for. Needs torch."""

import torch
from pydantic import ValidationError

from mlguard import recipe
from mlguard.audit.findings import AuditedModel
from mlguard.audit.log import PROOF_USE, USE
from mlguard.audit.target.black_box import BlackBox, Unlocked
from mlguard.audit.target.subject import Subject
from mlguard.audit.target.target import Target
from mlguard.audit.target.transforms import AuditTransforms
from mlguard.bundle import Bundle, Manifest
from mlguard.errors import DatasetError
from mlguard.keys import ModelKey
from mlguard.rules import CHANNELS_METHOD
from mlguard.runtime import Session
from mlguard.validation import problems_of

ARCHITECTURE = "bundle"  # a bundle does not name the architecture of its graph
KINDS: dict[str, recipe.Kind] = {
    "segmentation": "folder",
    "classification": "imagefolder",
}


def target_of_bundle(
    bundle: Bundle,
    key: ModelKey,
    data: recipe.Data,
    settings: recipe.Audit,
    *,
    key_name: str,
    device: str,
    data_words: tuple[str, ...] = (),
) -> Target:
    """A bundle as what is audited, after everything that its key can check.

    Args:
        bundle: The bundle.
        key: The key it was made for.
        data: Which images; its classes are named.
        settings: The [audit] section.
        key_name: What the owner's keystore calls the key.
        device: "auto", "cpu" or "cuda", for onnxruntime.
        data_words: How `data` came about, as options of the command.

    Raises:
        WrongKey: The bundle was made for another key.
        MalformedBundle: A graph cannot be loaded.
        TamperedBundle: The file is not what the key's owner wrote.
        ProviderError: The device is not available, or computes wrongly.
        DatasetError: The images are not those that the bundle is for.
    """
    check_data(bundle.manifest, data, name=bundle.name)
    manifest = bundle.manifest
    session = Session(bundle, key, provider=device)
    subkeys = key.for_model(bytes.fromhex(manifest.protection_id))
    correct = manifest.keyed.derive(subkeys)
    box: Subject
    if bundle.sealed:
        box, transforms = Unlocked.of(session), AuditTransforms(correct, [], [])
    else:
        box = BlackBox.of(bundle, provider=device)
        transforms = AuditTransforms.derive(
            correct, manifest.keyed.derive, subkeys, settings
        )
    return Target(
        subject=_subject(manifest),
        model_sha256=manifest.files[manifest.model_member].sha256,
        baseline_sha256=None,
        data=data,
        spec=transform_of(manifest),
        model=None,
        build=None,
        transforms=transforms,
        shown_by_weights=manifest.transform.shown_by_weights and not bundle.sealed,
        secret=subkeys.derive(USE),
        proof_secret=subkeys.derive(PROOF_USE),
        load=lambda: box,
        load_baseline=lambda: None,
        device=torch.device("cpu"),
        processor="" if session.provider.startswith("CPU") else session.provider,
        old_proof=False,
        trained_on=0,
        trained_fingerprint=manifest.provenance.data_fingerprint,
        words=("mlguard", "audit", "BUNDLE", "--key", key_name, *data_words),
    )


def data_of(manifest: Manifest, *, name: str) -> recipe.Data:
    """Which images a bundle is for, as far as it says so.

    It does not say how they lie on a disk: the `folder` layout is assumed, and
    `imagefolder` for a classification, with lists of the usual names.

    Raises:
        DatasetError: No recipe could say what the manifest does.
    """
    fields: dict[str, object] = {
        "kind": KINDS[manifest.task],
        "class_names": manifest.class_names,
        "size": manifest.image_size,
    }
    if manifest.ignore_index is not None:
        fields["ignore_index"] = manifest.ignore_index
    try:
        return recipe.Data.model_validate(fields)
    except ValidationError as error:
        problem = problems_of(error, whole="manifest.json")[0]
        raise DatasetError(
            f"{name}: no data set fits its manifest: {problem}"
        ) from None


def check_data(manifest: Manifest, data: recipe.Data, *, name: str) -> None:
    """Refuse images that a bundle is not for.

    Raises:
        DatasetError: Another task, other classes, or another size.
    """
    hint = "audit a bundle on the data it was trained for; --recipe and --set name it"
    if data.task != manifest.task:
        raise DatasetError(
            f"{name} is for {manifest.task}, the data is labelled for {data.task}",
            hint=hint,
        )
    if data.class_names != manifest.class_names:
        raise DatasetError(
            f"{name} has other classes than the data: "
            f"{_first_difference(manifest.class_names, data.class_names)}",
            hint=hint,
        )
    if manifest.ignore_index not in (None, data.ignore_index):
        raise DatasetError(
            f"{name} ignores {manifest.ignore_index} in masks, the data "
            f"{data.ignore_index}",
            hint=hint,
        )
    if data.size != manifest.image_size:
        own, other = (
            f"{height} x {width}" for height, width in (manifest.image_size, data.size)
        )
        raise DatasetError(
            f"{name} was trained at {own} pixels, the data is to be read at {other}",
            hint=f"--set data.size={list(manifest.image_size)}",
        )


def transform_of(manifest: Manifest) -> recipe.Transform:
    """What the key of a bundle does, as a recipe says it."""
    methods: tuple[recipe.Method, ...] = manifest.transform.methods
    layers = tuple(one.layer for one in manifest.feature_maps)
    if layers:
        methods = (*methods, CHANNELS_METHOD)
    return recipe.Transform(
        method=methods,
        block_size=manifest.transform.block_size,
        layers=layers,
        signs=any(one.signs for one in manifest.feature_maps),
    )


def _subject(manifest: Manifest) -> AuditedModel:
    spec = transform_of(manifest)
    return AuditedModel(
        key_id=manifest.key_id,
        protection_id=manifest.protection_id,
        recipe="",
        recipe_sha256=manifest.provenance.recipe_sha256,
        architecture=ARCHITECTURE,
        methods=spec.methods,
        block_size=manifest.transform.block_size,
        layers=spec.layers,
        training_seed=manifest.provenance.seed,
        access="black-box" if manifest.seal is None else "sealed",
    )


def _first_difference(own: tuple[str, ...], other: tuple[str, ...]) -> str:
    if len(own) != len(other):
        return f"it has {len(own)}, the data {len(other)}"
    index = next(i for i, (a, b) in enumerate(zip(own, other, strict=True)) if a != b)
    return f"class {index} is {own[index]!r}, in the data {other[index]!r}"
