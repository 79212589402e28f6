"""A run folder as the target of an audit. Needs torch.

A run folder has weights, a recipe and perhaps a plain twin.
"""

import torch

from mlguard import recipe
from mlguard.audit.findings import AuditedModel
from mlguard.audit.log import PROOF_USE, USE
from mlguard.audit.target.subject import Subject
from mlguard.audit.target.target import Target
from mlguard.audit.target.transforms import AuditTransforms
from mlguard.keys import ModelKey
from mlguard.protect.run_folder import BUILT_BY, Run, protection_of
from mlguard.recipe import recipe_sha256


def target_of_run(
    run: Run, key: ModelKey, settings: recipe.Audit, device: torch.device
) -> Target:
    """Return a run folder as the target of an audit.

    Raises:
        WrongKey: The model was protected with another key.
        MalformedRun: The run is a baseline run, or its weights are missing.
        TamperedRun: This run was not made with the key.
    """
    protection = protection_of(run)
    run = run.unlocked(key)
    subkeys = key.for_model(protection.protection_id)
    twin = run.baseline(key)
    data = run.provenance.get("data", {})
    number = data.get("train_images")
    return Target(
        subject=_subject(run),
        model_sha256=run.weights_sha256,
        baseline_sha256=None if twin is None else twin.weights_sha256,
        data=run.recipe.data,
        spec=run.recipe.transform,
        model=run.recipe.model,
        build=run.build,
        transforms=AuditTransforms.derive(
            run.transform(key), run.derive, subkeys, settings
        ),
        shown_by_weights=run.shown_by_weights,
        secret=subkeys.derive(USE),
        proof_secret=subkeys.derive(PROOF_USE),
        load=lambda: Subject.load(run, device),
        load_baseline=lambda: None if twin is None else Subject.load(twin, device),
        device=device,
        processor="",
        old_proof=run.old_proof,
        trained_on=number if isinstance(number, int) and number > 0 else 0,
        trained_fingerprint=data.get("train_fingerprint"),
        words=("mlguard", "audit", "RUN", "--key", protection.key_name, *_built(run)),
    )


def _built(run: Run) -> tuple[str, ...]:
    """Return the option of the command that names the owner's own `build`."""
    name = run.provenance.get(BUILT_BY)
    return ("--build", name) if isinstance(name, str) and name.isprintable() else ()


def _subject(run: Run) -> AuditedModel:
    protection = protection_of(run)
    return AuditedModel(
        key_id=protection.key_id,
        protection_id=protection.protection_id.hex(),
        recipe=str(run.provenance.get("recipe", "")),
        recipe_sha256=recipe_sha256(run.recipe),
        architecture=_built(run)[1] if _built(run) else run.recipe.model.name,
        methods=run.recipe.transform.methods,
        block_size=run.recipe.transform.image_block_size,
        layers=run.recipe.transform.layers,
        training_seed=run.recipe.train.seed,
        # With --keep-plain, or a copy beside them, the files hold the model in the
        # clear.
        sealed_files=run.recipe.transform.seals and not run.open_weights(),
    )
