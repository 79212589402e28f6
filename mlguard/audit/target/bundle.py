"""A bundle as the target of an audit. Needs torch."""

import torch

from mlguard import recipe
from mlguard.audit.findings import SEALING, AuditedModel
from mlguard.audit.log import PROOF_USE, USE
from mlguard.audit.target.black_box import BlackBox, Unlocked
from mlguard.audit.target.bundle_data import AnyManifest, check_data
from mlguard.audit.target.subject import Subject
from mlguard.audit.target.target import Target
from mlguard.audit.target.transforms import AuditTransforms
from mlguard.bundle import Bundle, Bundle2, Manifest, Provenance, image_of
from mlguard.keys import ModelKey
from mlguard.rules import CHANNELS_METHOD
from mlguard.runtime import Session

ARCHITECTURE = "bundle"  # a bundle does not name the architecture of its graph


def target_of_bundle(
    bundle: Bundle | Bundle2,
    key: ModelKey,
    data: recipe.Data,
    settings: recipe.Audit,
    *,
    key_name: str,
    device: str,
    data_words: tuple[str, ...] = (),
) -> Target:
    """Return a bundle as the target of an audit, after all checks with its key.

    Args:
        bundle: The bundle.
        key: The key that it was made for.
        data: The images; the classes are named.
        settings: The [audit] section.
        key_name: The key's name in the owner's keystore.
        device: "auto", "cpu" or "cuda", for onnxruntime.
        data_words: The options of the command that define `data`.

    Raises:
        WrongKey: The bundle was made for another key.
        MalformedBundle: A graph cannot be loaded.
        TamperedBundle: The file was changed after the key's owner wrote it.
        ProviderError: The device is not available, or computes wrongly.
        DatasetError: The images do not match the bundle.
    """
    check_data(bundle.manifest, data, name=bundle.name)
    manifest = bundle.manifest
    session = Session(bundle, key, provider=device)
    subkeys = key.for_model(bytes.fromhex(manifest.protection_id))
    correct = manifest.keyed.derive(subkeys)
    box: Subject
    if bundle.sealed or isinstance(bundle, Bundle2):
        box, transforms = Unlocked.of(session), AuditTransforms(correct, [], [])
    else:
        box = BlackBox.of(bundle, provider=device)
        transforms = AuditTransforms.derive(
            correct, manifest.keyed.derive, subkeys, settings
        )
    return Target(
        subject=_subject(manifest, sealed=bundle.sealed),
        model_sha256=_model_sha256(bundle),
        baseline_sha256=None,
        data=data,
        spec=transform_of(manifest),
        model=None,
        build=None,
        transforms=transforms,
        shown_by_weights=_shown(manifest) and not bundle.sealed,
        secret=subkeys.derive(USE),
        proof_secret=subkeys.derive(PROOF_USE),
        load=lambda: box,
        load_baseline=lambda: None,
        device=torch.device("cpu"),
        processor="" if session.provider.startswith("CPU") else session.provider,
        old_proof=False,
        trained_on=0,
        trained_fingerprint=manifest.provenance.data_fingerprint
        if isinstance(manifest, Manifest)
        else None,
        words=("mlguard", "audit", "BUNDLE", "--key", key_name, *data_words),
    )


def _model_sha256(bundle: Bundle | Bundle2) -> str:
    if isinstance(bundle, Bundle2):
        return bundle.digest  # digest of the manifest, which authenticates every tensor
    manifest = bundle.manifest
    return manifest.files[manifest.model_member].sha256


def transform_of(manifest: AnyManifest) -> recipe.Transform:
    """Return a bundle's methods, as a recipe names them; empty if it only seals."""
    keyed = manifest.keyed
    methods = [str(method) for method in keyed.methods]
    layers = tuple(one.layer for one in keyed.layers)
    if layers:
        methods.append(CHANNELS_METHOD)
    signs = any(one.signs for one in keyed.layers)
    size = keyed.block_size if keyed.methods else 1
    if not methods:  # no recipe allows it: a recipe seals weights or has a transform
        return recipe.Transform.model_construct(
            method=(), block_size=size, layers=(), signs=False
        )
    fields = {
        "method": tuple(methods),
        "block_size": size,
        "layers": layers,
        "signs": signs,
    }
    return recipe.Transform.model_validate(fields)


def _subject(manifest: AnyManifest, *, sealed: bool) -> AuditedModel:
    spec, facts = transform_of(manifest), manifest.provenance
    return AuditedModel(
        key_id=manifest.key_id,
        protection_id=manifest.protection_id,
        recipe="",
        recipe_sha256=facts.recipe_sha256 if isinstance(facts, Provenance) else None,
        architecture=ARCHITECTURE,
        methods=spec.methods or (SEALING,),
        block_size=spec.block_size,
        layers=spec.layers,
        training_seed=facts.seed if isinstance(facts, Provenance) else 0,
        access="sealed" if sealed else "black-box",
        sealed_files=not isinstance(facts, Provenance),
    )


def _shown(manifest: AnyManifest) -> bool:
    image = image_of(manifest)
    transform = None if image is None else image.transform
    return transform is not None and transform.shown_by_weights
