"""Step 6 for the method `weights`: a bundle of format 2, every weight under the key.

The other methods stay: a keyed transform of images before the graph, key slots inside
it. Then the weights are taken out (mlguard.foreign) and sealed one by one.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx
from pydantic import ValidationError

from mlguard.bundle import (
    Bundle2,
    Facts2,
    FeatureMapFacts,
    FileOwner,
    ImageFacts,
    Model2,
    Origin,
    ResizeFacts,
    TaskFacts,
    TransformFacts,
    bundle2_bytes,
    bundle2_of,
    glimpse_bundle,
    write_bundle2,
)
from mlguard.bundle.preprocess_graph import build_preprocess_graph
from mlguard.errors import MalformedRun, RunError
from mlguard.foreign import About, lift_model, model_of
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.models import normalization_of
from mlguard.protect.export.graph import (
    INPUT,
    OUTPUT,
    close_slots,
)
from mlguard.protect.export.light import LightGraph, return_freed, serialized
from mlguard.protect.export.parity import ParityReport, compare_logits
from mlguard.protect.export.precision import Rounding, cost_of, rounded
from mlguard.protect.export.slots import example_slots
from mlguard.protect.export.traced import Traced
from mlguard.protect.run_folder import RECIPE, Run, protection_of, versions
from mlguard.recipe import recipe_sha256
from mlguard.runtime import Session
from mlguard.transforms import TransformSet
from mlguard.validation import problems_of


def export_sealed(
    run: Run,
    traced: Traced,
    key: ModelKey,
    out: Path,
    transforms: TransformSet,
    rounding: Rounding | None = None,
) -> ParityReport:
    """Write the bundle of a run whose method seals its weights.

    Args:
        run: The run.
        traced: Its model, whose weights are emptied once they are written.
        key: The key that it was protected with.
        out: The bundle to write; it must not exist yet.
        transforms: The other transforms of the key.
        rounding: To fewer bits; None leaves all numbers as they are.

    Raises:
        ParityError: The bundle does not compute what the model computes.
        BundleError: The model does not fit into a bundle.
        OutputError: There is no space, or the folder is not writable.
    """
    reports: list[ParityReport] = []

    def check(written: Path) -> None:
        weights.clear()  # they are in the file, and what it holds is read back
        traced.graph.weights.clear()
        return_freed()
        bundle = glimpse_bundle(written)
        reports.append(compare_logits(bundle, key, traced.expected))

    subkeys, name = protection_of(run).subkeys(key), str(out)
    made = sealed_model(run, traced.graph, name=name)
    weights = list(made.tensors)
    if rounding is None:
        made = replace(made, tensors=weights)
        write_bundle2(out, made, subkeys, check=check)
        return reports[0]
    before = _in_memory(made, subkeys, name=name)
    report = compare_logits(before, key, traced.expected)
    graph = traced.graph.to_proto()
    pixels = rounding.pixels(transforms, normalization_of(run.recipe.model))
    graph = rounded(graph, rounding.kind, pixels)
    made = sealed_model(run, LightGraph(graph, []), name=name)
    after = Session(_in_memory(made, subkeys, name=name), key)
    cost = cost_of(rounding.kind, Session(before, key), after, rounding.scored)
    facts = made.facts.model_copy(update={"precision": cost})
    write_bundle2(out, replace(made, facts=facts), subkeys)
    return replace(report, rounded=cost)


def _in_memory(made: Model2, subkeys: ModelSubkeys, *, name: str) -> Bundle2:
    content = bundle2_bytes(made, FileOwner.of(subkeys), name=name)
    return bundle2_of(content, name=name)


def refuse_rounding(rounding: Rounding | None, maps: Sequence[FeatureMapFacts]) -> None:
    """Refuse fewer bits of a model whose feature maps the key permutes.

    Raises:
        RunError: It is such a one.
    """
    if rounding is not None and maps:
        raise RunError(
            "the key permutes feature maps of this model, which is not rounded to "
            f"{rounding.kind}",
            hint="leave out --precision, or bind it by another method",
        )


def sealed_model(run: Run, light: LightGraph, *, name: str) -> Model2:
    """Return the contents of a run's bundle.

    Args:
        run: The run.
        light: Its model, its key slots still inputs; left as it is.
        name: The name of the bundle in a refusal.

    Raises:
        MalformedRun: The run's facts do not fit into a bundle.
        ModelFileError: The graph exceeds a bundle's limits.
    """
    maps, emptied = feature_maps_of(run), onnx.ModelProto()
    emptied.CopyFrom(light.graph)
    lifted = lift_model(emptied, name=name, held=light.weights)
    slots = set(example_slots(maps))
    closed = onnx.load_model_from_string(lifted.graph)
    close_slots(closed, maps)
    lifted = replace(
        lifted,
        graph=serialized(closed),
        inputs=tuple(one for one in lifted.inputs if one.name not in slots),
    )
    made = model_of(lifted, about_run(run), name=name)
    facts = Facts2(**(dict(made.facts) | {"feature_maps": maps}))
    return replace(
        made,
        facts=facts,
        preprocess=_preprocess(run, closed.ir_version),
        origin=origin_of(run),
    )


def feature_maps_of(run: Run) -> tuple[FeatureMapFacts, ...]:
    """Return the feature maps that the key permutes inside the model."""
    signs = run.recipe.transform.signs
    return tuple(
        FeatureMapFacts(layer=layer, channels=channels, signs=signs)
        for layer, channels in run.feature_channels().items()
    )


def transform_facts_of(run: Run) -> TransformFacts:
    """Return the facts about the key's transform of images."""
    transform = run.recipe.transform
    return TransformFacts(
        methods=transform.image_methods,
        block_size=transform.image_block_size,
        shown_by_weights=run.shown_by_weights,
    )


def about_run(run: Run) -> About:
    """What a run says of its model: which input is an image, what the answer means.

    Raises:
        MalformedRun: It says what does not fit into a bundle.
    """
    data, transform = run.recipe.data, run.recipe.transform
    normalization = normalization_of(run.recipe.model)
    segments = data.task == "segmentation"
    try:
        image = ImageFacts(
            input=INPUT,
            mean=normalization.mean,
            std=normalization.std,
            size=data.size,
            resize=ResizeFacts(rule="pad", multiple=transform.image_block_size),
            transform=transform_facts_of(run) if transform.image_methods else None,
        )
        task = TaskFacts(
            name=data.task,
            output=OUTPUT,
            class_names=data.class_names,
            ignore_index=data.ignore_index if segments else None,
        )
    except ValidationError as error:
        raise MalformedRun(
            f"{run.path}: {RECIPE} does not fit into a bundle: {problems_of(error)[0]}"
        ) from None
    return About(image=image, task=task, licence=run.recipe.export.licence)


def _preprocess(run: Run, ir_version: int) -> bytes | None:
    transform = run.recipe.transform
    if not transform.image_methods:
        return None
    normalization = normalization_of(run.recipe.model)
    graph = build_preprocess_graph(
        transform.image_methods,
        transform.block_size,
        mean=normalization.mean,
        std=normalization.std,
        opset=run.recipe.export.opset,
        ir_version=ir_version,
    )
    return serialized(graph)


def origin_of(run: Run) -> Origin:
    """Where the model of a run comes from."""
    data = run.provenance.get("data", {})
    return Origin(
        recipe_sha256=recipe_sha256(run.recipe),
        data_fingerprint=data.get("train_fingerprint") or None,
        versions=versions(),
    )
