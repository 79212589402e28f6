"""`mlguard predict`: predict masks or classes of images, without torch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from mlguard.bundle import backbone_of, glimpse_bundle, image_of, task_of
from mlguard.cli.answers import Json, answer
from mlguard.cli.backbone_place import (
    BackboneAuthority,
    BackbonePlace,
    BackboneToken,
    backbone_for,
)
from mlguard.cli.opening import (
    GrantFile,
    KeyOption,
    ListFile,
    ManifestDigest,
    key_for,
    refuse_other_export,
)
from mlguard.cli.panels import ADVANCED
from mlguard.cli.predict_classes import CSV, JSON, Answer, answer_of, write_answers
from mlguard.cli.predict_images import by_mask_name, find_images, say_passed_over
from mlguard.cli.predict_tensors import run_all
from mlguard.cli.printable import shows, warn
from mlguard.cli.trust import Trusted
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.errors import ImageError
from mlguard.files import atomic_write, prepare_output_folder
from mlguard.pictures import mask_png, overlay_png
from mlguard.runtime import Compute, Session, read_image
from mlguard.runtime.backbone import no_backbone

SCALE_TOLERANCE = 1.5  # ratio of a side to the size of training
OVERLAYS = "overlays"  # folder inside --out
ARRAYS = ("tensors", "detection")  # answers in .npz files
GIVES = {
    "tensors": "arrays",
    "detection": "arrays",
    "classification": "an image one class",
}


@unlocking
def predict(
    bundle: Annotated[Path, typer.Argument(help="The bundle, NAME.mlgb.")],
    images: Annotated[
        list[Path],
        typer.Argument(
            help="Images, or folders of them; for a model of other tensors, .npz files."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the answers, new or empty.")],
    key: KeyOption = None,
    overlay: Annotated[
        bool,
        typer.Option("--overlay", help="Also write the masks drawn over the images."),
    ] = False,
    resize: Annotated[
        bool,
        typer.Option(
            "--resize", help="Predict at the size of training, and scale masks back."
        ),
    ] = False,
    provider: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, auto, or an execution provider's name.",
            rich_help_panel=ADVANCED,
        ),
    ] = "cpu",
    threads: Annotated[
        int,
        typer.Option(
            min=0,
            help="How many threads compute one operator; 0 for the container's quota.",
            rich_help_panel=ADVANCED,
        ),
    ] = 0,
    backbone: BackbonePlace = None,
    backbone_token: BackboneToken = None,
    backbone_ca: BackboneAuthority = None,
    grant: GrantFile = None,
    revocations: ListFile = None,
    signer: Trusted = None,
    manifest_sha256: ManifestDigest = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Write a mask for every image, or its class if the bundle classifies.

    Your own bundle opens with --key, one that was issued to you with --identity.

    Masks are PNGs whose values are classes, with a palette; classes are one table, as
    CSV and as JSON. If the model's answer is not known to be either, its outputs are
    arrays in .npz.
    """
    found = find_images(images)
    opened = glimpse_bundle(bundle)
    task = task_of(opened.manifest)
    kind = "tensors" if image_of(opened.manifest) is None or task is None else task.name
    if overlay and kind != "segmentation":
        raise ImageError(
            f"--overlay draws masks, but {bundle} answers with {GIVES[kind]}",
            hint="leave it out",
        )
    if resize and kind in ARRAYS:
        raise ImageError(
            f"--resize scales images, but {bundle} answers with {GIVES[kind]}",
            hint="leave it out",
        )
    facts = backbone_of(opened.manifest)
    if facts is not None and backbone is None:
        raise no_backbone(facts, name=str(bundle))
    by_path = kind == "classification"
    paths = {str(path): path for path in found} if by_path else by_mask_name(found)
    refuse_other_export(opened, manifest_sha256)
    opener = key_for(
        opened, key, unlock, grant=grant, revocations=revocations, signers=signer
    )
    compute = Compute(provider, threads)
    beside = backbone_for(facts, backbone, backbone_token, backbone_ca)
    with Session(opened, opener, compute=compute, backbone=beside) as session:
        say_passed_over(images)
        prepare_output_folder(out)
        refused, text = _answer(
            session, kind, paths, out, overlay=overlay, resize=resize
        )
    value = {
        "folder": str(out),
        "kind": kind,
        "written": len(paths) - len(refused),
        "refused": refused,
    }
    answer(value, text, as_json=json)
    what = "files" if kind in ARRAYS else "images"
    if refused:
        raise ImageError(
            f"refused {len(refused)} of {len(paths)} {what}; the others are done",
            hint=f"see the reasons above, for {_some(refused)}",
        )


def _answer(
    session: Session,
    kind: str,
    paths: dict[str, Path],
    out: Path,
    *,
    overlay: bool,
    resize: bool,
) -> tuple[list[str], str]:
    """Write the answers of a kind; the names of what was refused, and what to say."""
    if kind == "classification":
        refused = classify_all(session, paths, out, resize=resize)
        written = f"the classes of {len(paths) - len(refused)} of {len(paths)} images"
        return refused, f"wrote {written} to {out / CSV} and {JSON}"
    if kind == "segmentation":
        if overlay:
            prepare_output_folder(out / OVERLAYS)
        refused = predict_all(session, paths, out, overlay=overlay, resize=resize)
        what = "masks"
    else:
        refused, what = run_all(session, paths, out), "answers"
    done = len(paths) - len(refused)
    return refused, f"wrote {done} of {len(paths)} {what} to {out}"


def predict_all(
    session: Session, paths: dict[str, Path], out: Path, *, overlay: bool, resize: bool
) -> list[str]:
    """Write the masks, continuing after an image that is refused.

    Returns:
        The names of the refused images; the reasons are on standard error.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """

    def write(name: str, pixels: NDArray[np.uint8]) -> None:
        mask = _predict(session, pixels, resize=resize)
        atomic_write(out / f"{name}.png", mask_png(mask))
        if overlay:
            atomic_write(out / OVERLAYS / f"{name}.png", overlay_png(pixels[0], mask))

    return _each(session, paths, write, resize=resize)


def classify_all(
    session: Session, paths: dict[str, Path], out: Path, *, resize: bool
) -> list[str]:
    """Write the classes, continuing after refused images, as `predict_all` does."""
    answers: list[Answer] = []

    def note(name: str, pixels: NDArray[np.uint8]) -> None:
        shown = _scaled_down(session, pixels) if resize else pixels
        (logits,) = session.logits(shown)
        answers.append(answer_of(name, logits, session.class_names))

    refused = _each(session, paths, note, resize=resize)
    write_answers(out, answers)
    return refused


def _each(
    session: Session,
    paths: dict[str, Path],
    handle: Callable[[str, NDArray[np.uint8]], None],
    *,
    resize: bool,
) -> list[str]:
    """Read every image and pass it on; return the names of refused ones."""
    refused, scaled = [], []
    with _progress(list(paths)) as names:
        for name in names:
            try:
                pixels = read_image(paths[name], notice=warn)
            except ImageError as refusal:
                warn(f"{refusal}; {refusal.hint}" if refusal.hint else str(refusal))
                refused.append(name)
                continue
            if not resize and _is_another_scale(pixels, session):
                scaled.append(name)
            handle(name, pixels)
    if scaled:
        height, width = _size(session)
        classifies = session.task is not None and session.task.name == "classification"
        answers = "answers" if classifies else "masks"
        warn(
            f"{_some(scaled)}: far from the {height} x {width} pixels that the model "
            f"was trained at, so expect poor {answers}; --resize predicts at that "
            "size"
        )
    return refused


def _size(session: Session) -> tuple[int, int]:
    """Return the height and width in pixels that the model was trained at."""
    if session.image is None:
        raise AssertionError("asked of a bundle that takes no images")
    height, width = session.image.size
    return height, width


def _is_another_scale(pixels: NDArray[np.uint8], session: Session) -> bool:
    sides = zip(pixels.shape[-2:], _size(session), strict=True)
    return any(max(a / b, b / a) > SCALE_TOLERANCE for a, b in sides)


def _predict(
    session: Session, pixels: NDArray[np.uint8], *, resize: bool
) -> NDArray[np.uint8]:
    """Predict the mask of one image. Shape: (1, 3, H, W) uint8 to (H, W) uint8."""
    if not resize:
        return np.asarray(session.predict(pixels)[0])
    (mask,) = session.predict(_scaled_down(session, pixels))
    height, width = pixels.shape[-2:]
    scaled = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(scaled)


def _scaled_down(session: Session, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale an image to the size of training. Shape: (1, 3, H, W) uint8."""
    height, width = _size(session)
    picture = Image.fromarray(np.ascontiguousarray(pixels[0].transpose(1, 2, 0)))
    small = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return small.transpose(2, 0, 1)[None]


@contextmanager
def _progress(names: list[str]) -> Iterator[Iterator[str]]:
    """Show a bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    bar = track(
        names,
        "predicting",
        console=console,
        transient=True,
        disable=not shows(console),
    )
    yield iter(bar)


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
