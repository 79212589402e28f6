"""Step 6 for the method `split`: a backbone for the host, and a bundle for the client.

The whole model is exported once and cut where its maps become half precision, so that
both halves together compute what it computes. The backbone is compared with the public
weights that the recipe names, tensor by tensor, before anything is written; of an ONNX
file (public_file.py) the host gets the file's graph itself.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from torch import nn

from mlguard.bundle import (
    BackboneFacts,
    BackboneMap,
    Facts2,
    Model2,
    Tensor2,
    glimpse_bundle,
    write_bundle2,
)
from mlguard.bundle.backbone import FILE, IMAGES, probe_image, probe_of
from mlguard.canonical import canonical
from mlguard.errors import (
    MalformedRun,
    MlguardError,
    OutputExists,
    ParityError,
    WeightsError,
)
from mlguard.files import atomic_write, sha256_of
from mlguard.foreign import clear_of, lift_model, model_of
from mlguard.keys import ModelKey
from mlguard.models import Normalization, normalization_of, read_weights
from mlguard.models.split import Backbone, OnnxBackbone, Sliced
from mlguard.protect.export.graph import export_open_graph
from mlguard.protect.export.light import serialized
from mlguard.protect.export.parity import ParityReport, check_parity
from mlguard.protect.export.public_file import BesideBlanks, host_graph
from mlguard.protect.export.sealed import about_run, origin_of
from mlguard.protect.run_folder import RECIPE, Run, protection_of
from mlguard.rules import BYTE_MAX
from mlguard.runtime.backbone import LocalBackbone
from mlguard.runtime.options import Compute
from mlguard.runtime.providers import load_graph, run_feeds
from mlguard.transforms import TransformSet
from mlguard.validation import problems_of

NOTE = "mlguard.backbone"  # in the backbone's metadata
PUBLIC = "public weights alone; nothing in this file is secret, or was trained further"


@dataclass(frozen=True)
class Halves:
    """Both halves of a model, ready to be written.

    Attributes:
        backbone: ONNX, for the host.
        private: ONNX, its weights in it.
        facts: The facts about the backbone for the private half's bundle.
    """

    backbone: bytes
    private: onnx.ModelProto
    facts: BackboneFacts


def export_halves(
    run: Run, model: Sliced, key: ModelKey, out: Path, *, backbone: Path | None = None
) -> ParityReport:
    """Write the two halves of a run's model.

    Args:
        run: The run.
        model: Its model.
        key: The key that it was protected with.
        out: The bundle to write; it must not exist yet.
        backbone: The public half to write; beside the bundle if None. The same file may
            already exist: models can share a backbone.

    Raises:
        WeightsError: The backbone's weights are not the public ones, or these are not
            on this machine.
        OutputExists: Another file is in the backbone's place.
        ParityError: torch cannot export the model, or its halves do not compute what it
            computes.
        BundleError: The model does not fit into a bundle.
        OutputError: There is no space, or a folder is not writable.
    """
    place = out.parent / FILE if backbone is None else backbone
    halves = cut(run, model)
    new = not _is_there(place, halves.facts.sha256)
    subkeys = protection_of(run).subkeys(key)
    reports: list[ParityReport] = []
    beside = LocalBackbone(halves.backbone, halves.facts, Compute(), name=str(place))

    def check(written: Path) -> None:
        bundle = glimpse_bundle(written)
        normalization = normalization_of(run.recipe.model)
        report = check_parity(
            bundle, key, model, TransformSet(), normalization, backbone=beside
        )
        reports.append(report)
        if new:  # last of all, and before the bundle gets its name
            atomic_write(place, halves.backbone)

    private = private_model(run, halves, name=str(out))
    try:
        write_bundle2(out, private, subkeys, check=check)
    except MlguardError:
        if new and reports:
            place.unlink(missing_ok=True)
        raise
    return replace(reports[0], backbone=place)


def cut(run: Run, model: Sliced) -> Halves:
    """Cut a model into its halves.

    Raises:
        WeightsError: As `check_public`.
        ParityError: torch cannot export the model.
    """
    tensors = check_public(run, model)
    exported: nn.Module = model
    if isinstance(model.backbone, OnnxBackbone):
        exported = BesideBlanks(model.private, model.backbone.maps)
    whole = export_open_graph(exported, run.recipe.export.opset)
    names = [one.name for one in model.backbone.maps]
    cuts = _cuts(whole, len(names))
    _name_maps(whole, dict(zip(cuts, names, strict=True)))
    maps = [
        helper.make_tensor_value_info(
            one.name,
            TensorProto.FLOAT16,
            ["N", one.channels, f"H{one.stride}", f"W{one.stride}"],
        )
        for one in model.backbone.maps
    ]
    pixels, logits = whole.graph.input[0], whole.graph.output[0]
    facts = {
        "architecture": model.backbone.name,
        "weights": public_name(model, run),
        "tensors": tensors,
    }
    if isinstance(model.backbone, OnnxBackbone):
        host = host_graph(model.backbone)
        host.graph.output.extend(maps)
    else:
        host = _part(whole, [pixels], maps)
    _take_images(host, normalization_of(run.recipe.model))
    note = canonical(facts | {"what": PUBLIC}).decode()
    host.metadata_props.add(key=NOTE, value=note)
    onnx.checker.check_model(host, full_check=True)
    content = serialized(host)
    try:
        said = BackboneFacts(
            **facts,
            sha256=hashlib.sha256(content).hexdigest(),
            maps=_probed(content, model),
        )
    except ValidationError as error:
        raise MalformedRun(
            f"{run.path}: {RECIPE} does not fit into a bundle: {problems_of(error)[0]}"
        ) from None
    return Halves(content, _part(whole, [pixels, *maps], [logits]), said)


def check_public(run: Run, model: Sliced) -> str:
    """Compare a model's backbone with the public weights; return their SHA-256, in hex.

    An ONNX file was compared when the model was loaded, and its own SHA-256 returns.

    Raises:
        WeightsError: They differ, or the public weights are not on this machine.
    """
    spec = run.recipe.model
    if isinstance(model.backbone, OnnxBackbone):
        return model.backbone.sha256()
    public = Backbone(model.backbone.name, [one.name for one in model.backbone.maps])
    public.load_public(read_weights(spec), source=spec.weights)
    expected, found = public.sha256(), model.backbone.sha256()
    if found != expected:
        raise WeightsError(
            f"the backbone of {run.path} is not the public one: expected the "
            f"weights {spec.weights}, SHA-256 {expected}, got SHA-256 {found}",
            hint="nothing was written, for what differs may be private; restore the "
            "run's own files, or train it again",
        )
    return expected


def public_name(model: Sliced, run: Run) -> str:
    """Return the name of the public weights: torchvision's, or a file's."""
    if isinstance(model.backbone, OnnxBackbone):
        return model.backbone.file
    return Path(run.recipe.model.weights).name


def private_model(run: Run, halves: Halves, *, name: str) -> Model2:
    """Return the contents of the private half's bundle.

    Args:
        run: The run.
        halves: The halves of its model.
        name: The name of the bundle in a refusal.

    Raises:
        MalformedRun: The run's facts do not fit into a bundle.
        ModelFileError: The graph exceeds a bundle's limits.
    """
    lifted = lift_model(halves.private, name=name)
    made = model_of(lifted, about_run(run), name=name)
    maps = {one.name: one.channels for one in halves.facts.maps}
    inputs = tuple(
        Tensor2(name=one.name, datatype="FP16", shape=(-1, maps[one.name], -1, -1))
        if one.name in maps
        else one
        for one in made.facts.inputs
    )
    fields = dict(made.facts) | {"backbone": halves.facts, "inputs": inputs}
    return replace(made, facts=Facts2(**fields), origin=origin_of(run))


def _cuts(graph: onnx.ModelProto, number: int) -> list[str]:
    """Return where maps become half precision, from fine to coarse."""
    found = [
        node.output[0]
        for node in graph.graph.node
        if node.op_type == "Cast"
        and helper.get_node_attr_value(node, "to") == TensorProto.FLOAT16
    ]
    if len(found) != number:
        raise ParityError(f"torch exported {len(found)} maps, expected {number}")
    return found


def _name_maps(whole: onnx.ModelProto, names: dict[str, str]) -> None:
    """Give the maps of a graph their names; tensors that had these get others."""
    prefix = clear_of("private/", names.values())
    new = {name: prefix + name for name in names.values()} | names
    for tensor in whole.graph.initializer:
        tensor.name = new.get(tensor.name, tensor.name)
    for node in whole.graph.node:
        for values in (node.input, node.output):
            values[:] = [new.get(old, old) for old in values]


def _part(
    whole: onnx.ModelProto,
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Return the part of a graph that computes some tensors from others."""
    given = {one.name for one in inputs}
    makers = {out: node for node in whole.graph.node for out in node.output}
    weights = {one.name: one for one in whole.graph.initializer}
    waiting, needed = [one.name for one in outputs], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in given | needed and name in makers:
            waiting += makers[name].input
        needed.add(name)
    nodes = [
        node
        for node in whole.graph.node
        if set(node.output) & needed and not set(node.output) & given
    ]
    graph = helper.make_graph(
        nodes,
        "model",
        inputs,
        outputs,
        [one for name, one in weights.items() if name in needed],
    )
    return helper.make_model(
        graph, opset_imports=whole.opset_import, ir_version=whole.ir_version
    )


def _take_images(host: onnx.ModelProto, normalization: Normalization) -> None:
    """Let a graph take 8-bit images and normalize them itself, in place."""
    mean, std = (
        np.array(one, np.float64).reshape(1, 3, 1, 1)
        for one in (normalization.mean, normalization.std)
    )
    scale, shift = 1 / (BYTE_MAX * std), -mean / std
    (pixels,) = (one.name for one in host.graph.input)
    prefix = clear_of(f"{IMAGES}/", [one.name for one in host.graph.output])
    single, by, scaled, to = (
        prefix + one for one in ("float", "scale", "scaled", "shift")
    )
    head = [
        helper.make_node("Cast", [IMAGES], [single], to=TensorProto.FLOAT),
        helper.make_node("Mul", [single, by], [scaled]),
        helper.make_node("Add", [scaled, to], [pixels]),
    ]
    nodes = [*head, *host.graph.node]
    del host.graph.node[:], host.graph.input[:]
    host.graph.node.extend(nodes)
    host.graph.input.append(
        helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["N", 3, "H", "W"])
    )
    host.graph.initializer.extend(
        numpy_helper.from_array(value.astype(np.float32), name)
        for name, value in ((by, scale), (to, shift))
    )


def _probed(content: bytes, model: Sliced) -> tuple[BackboneMap, ...]:
    session = load_graph(content, name=FILE)
    maps = model.backbone.maps
    found = run_feeds(session, [one.name for one in maps], {IMAGES: probe_image()})
    return tuple(
        BackboneMap(
            name=one.name,
            channels=one.channels,
            stride=one.stride,
            probe=probe_of(features),
        )
        for one, features in zip(maps, found, strict=True)
    )


def _is_there(place: Path, digest: str) -> bool:
    """Whether this backbone is already there; refuse another file."""
    if not place.exists():
        return False
    if sha256_of(place) != digest:
        raise OutputExists(
            f"{place} exists, and is not the backbone of this run",
            hint="give another place with --backbone",
        )
    return True
