"""Step 6: turn a finished run into a bundle.

A bundle is compared with its model before it is written (parity.py). The export needs
the key, because the bundle's commitment and self-test are made with it. The exported
graph is plain ONNX without traces of the owner's source code (scrub.py).
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from torch import nn

from mlguard.bundle import (
    Bundle,
    Facts,
    NormalizationFacts,
    Provenance,
    glimpse_bundle,
    make_bundle,
    write_bundle,
)
from mlguard.bundle.preprocess_graph import build_preprocess_graph
from mlguard.errors import (
    MalformedRun,
    OutputError,
    RunError,
)
from mlguard.files import refuse_existing
from mlguard.keys import ModelKey
from mlguard.models import normalization_of
from mlguard.models.split import Sliced
from mlguard.protect.export.graph import close_slots, export_light
from mlguard.protect.export.halves import export_halves
from mlguard.protect.export.light import LightGraph, return_freed, serialized
from mlguard.protect.export.parity import (
    ParityReport,
    compare_logits,
    refuse_fixed_sizes,
)
from mlguard.protect.export.precision import Rounding
from mlguard.protect.export.sealed import (
    export_sealed,
    feature_maps_of,
    refuse_rounding,
    transform_facts_of,
)
from mlguard.protect.export.traced import trace
from mlguard.protect.run_folder import (
    PROVENANCE,
    RECIPE,
    Protection,
    Run,
    protection_of,
    versions,
)
from mlguard.recipe import recipe_sha256
from mlguard.validation import problems_of


def export_run(
    run: Run,
    key: ModelKey,
    out: Path,
    *,
    sealed: bool | None = None,
    form: Literal[1, 2] = 1,
    backbone: Path | None = None,
    rounding: Rounding | None = None,
) -> ParityReport:
    """Write the bundle of a run.

    Args:
        run: A finished, protected run.
        key: The key that it was protected with.
        out: The bundle to write; it must not exist yet.
        sealed: Whether the model can be read only with the key; None for the recipe's
            choice.
        rounding: To fewer bits, of a sealed bundle of format 2; None leaves all numbers
            as they are.
        form: The bundle's format. A run whose method seals every weight always gets
            format 2, and one that is not sealed format 1, which other runtimes load.
        backbone: Of a split model, where its public half goes; beside `out` if None.

    Raises:
        OutputExists: Something is already there, or was put there in the meantime.
        RunError: The run's method is passport; or it seals every weight, and no seal
            was asked for; or a model of its owner's does not take images of any size;
            or a backbone was asked for, and the model is whole; or fewer bits, and it
            is not sealed, or is split.
        WeightsError: The backbone of a split model is not the public one.
        MalformedRun: The run is a baseline, which has no key; or its weights are
            missing, damaged or of another model.
        WrongKey: The run was protected with another key.
        TamperedRun: This run was not made with the key.
        ParityError: torch cannot export the model, or the exported graph does not
            compute what the model computes.
        BundleError: The model does not fit into a bundle.
        OutputError: There is no space, or the folder is not writable.
    """
    protection = check_exportable(run, out)
    begun = time.perf_counter()
    transform, run = run.transform(key), run.unlocked(key)
    model, normalization = run.load_model(), normalization_of(run.recipe.model)
    if run.build is not None:
        refuse_fixed_sizes(model, transform.block_size)
    if run.recipe.transform.seals and sealed is False:
        raise RunError(
            "the run's method seals every weight, so nothing is left to write "
            "without a seal",
            hint="leave out --no-seal, or bind the plain model by another method",
        )
    if isinstance(model, Sliced):
        if rounding is not None:
            raise RunError(
                f"a split model is not rounded to {rounding.kind}",
                hint="leave out --precision",
            )
        return timed(export_halves(run, model, key, out, backbone=backbone), begun, out)
    if backbone is not None:
        raise RunError(
            f"{run.path} is no split model, so it has no backbone to write",
            hint="leave --backbone out",
        )
    seals = run.recipe.export.seal if sealed is None else sealed
    second = run.recipe.transform.seals or (seals and form > 1)
    if rounding is not None and not second:
        raise RunError(
            f"a bundle of {rounding.kind} is sealed, and of format 2",
            hint="leave out --precision, or --no-seal and --format 1",
        )
    maps = feature_maps_of(run)
    refuse_rounding(rounding, maps)
    facts = None if second else facts_of(run)
    traced = trace(
        model,
        transform,
        normalization,
        opset=run.recipe.export.opset,
        feature_maps=maps,
    )
    del model  # its weights are in the graph, and nowhere else
    return_freed()
    if facts is None:
        report = export_sealed(run, traced, key, out, transform, rounding)
        return timed(report, begun, out)
    reports: list[ParityReport] = []

    def check(written: Path) -> None:
        bundle = glimpse_bundle(written)
        reports.append(compare_logits(bundle, key, traced.expected))

    close_slots(traced.graph.graph, maps)
    made = bundle_graph(
        traced.graph,
        facts,
        key,
        protection_id=protection.protection_id,
        name=str(out),
        sealed=seals,
    )
    write_bundle(out, made, check=check)
    return timed(reports[0], begun, out)


def timed(report: ParityReport, begun: float, out: Path) -> ParityReport:
    """Return the report with the time since `begun`, and the size of the bundle."""
    return replace(
        report,
        export_s=time.perf_counter() - begun,
        size_bytes=out.stat().st_size,
    )


def check_exportable(run: Run, out: Path) -> Protection:
    """Refuse what can be refused before a key is asked for.

    Raises:
        OutputExists: Something is already at `out`.
        MalformedRun: The run is a baseline, which has no key.
        OutputError: The folder of `out` does not exist.
        RunError: Its method is passport, which no bundle has.
    """
    refuse_existing(out)
    if not out.absolute().parent.is_dir():
        raise OutputError(f"cannot write {out}: there is no folder {out.parent}")
    if run.recipe.transform.keys_norms:
        raise RunError(
            f"{run.path} was trained under passports, which no bundle has: the method "
            "is a baseline to compare with",
            hint="measure it with `mlguard audit`; to ship a model, use the method "
            "weights",
        )
    return protection_of(run)


def facts_of(run: Run) -> Facts:
    """Return the facts of a run for its bundle.

    Raises:
        MalformedRun: They are not as `mlguard protect` writes them.
        WeightsError: torchvision does not know the weights that the run started from.
    """
    try:
        return _facts(run)
    except ValidationError as error:
        raise MalformedRun(
            f"{run.path}: {RECIPE} or {PROVENANCE} does not fit into a bundle: "
            f"{problems_of(error)[0]}"
        ) from None


def _facts(run: Run) -> Facts:
    recipe, normalization = run.recipe, normalization_of(run.recipe.model)
    data, task = run.provenance.get("data", {}), recipe.data.task
    return Facts(
        transform=transform_facts_of(run),
        feature_maps=feature_maps_of(run),
        normalization=NormalizationFacts(
            mean=normalization.mean, std=normalization.std
        ),
        task=task,
        class_names=recipe.data.class_names,
        ignore_index=recipe.data.ignore_index if task == "segmentation" else None,
        image_size=recipe.data.size,
        opset=recipe.export.opset,
        licence=recipe.export.licence,
        provenance=Provenance(
            recipe_sha256=recipe_sha256(recipe),
            data_fingerprint=data.get("train_fingerprint", ""),
            versions=versions(),
        ),
    )


def bundle_model(
    model: nn.Module,
    facts: Facts,
    key: ModelKey,
    *,
    protection_id: bytes,
    name: str,
    sealed: bool = True,
) -> Bundle:
    """Return a bundle of any model that takes normalized pixels and returns logits.

    Args:
        model: A model in eval mode, on the CPU.
        facts: The facts for the bundle's manifest.
        key: The model key that it was protected with.
        protection_id: The public identifier of the protected model.
        name: The name of the bundle in a refusal.
        sealed: Whether the model can be read only with the key.

    Raises:
        ParityError: torch cannot export the model, or not as valid ONNX.
        BundleError: The model does not fit into a bundle.
    """
    light = export_light(model, facts.opset, facts.feature_maps)
    close_slots(light.graph, facts.feature_maps)
    return bundle_graph(
        light, facts, key, protection_id=protection_id, name=name, sealed=sealed
    )


def bundle_graph(
    light: LightGraph,
    facts: Facts,
    key: ModelKey,
    *,
    protection_id: bytes,
    name: str,
    sealed: bool,
) -> Bundle:
    """Return a bundle of a graph, whose weights are emptied once they are in it.

    Args and raises: as in `bundle_model`.
    """
    ir_version, model = light.graph.ir_version, light.to_bytes()
    light.weights.clear()
    preprocess = build_preprocess_graph(
        facts.transform.methods,
        facts.transform.block_size,
        mean=facts.normalization.mean,
        std=facts.normalization.std,
        opset=facts.opset,
        ir_version=ir_version,
    )
    return make_bundle(
        facts,
        preprocess=serialized(preprocess),
        model=model,
        subkeys=key.for_model(protection_id),
        name=name,
        sealed=sealed,
    )
