"""`mlguard selftest`: check that a bundle works on this machine, with this key."""

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mlguard.bundle import glimpse_bundle
from mlguard.cli.answers import Json, answer
from mlguard.cli.opening import GrantFile, KeyOption, ListFile, key_for
from mlguard.cli.panels import ADVANCED
from mlguard.cli.trust import Trusted
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.errors import ProviderError
from mlguard.runtime import Session


@unlocking
def selftest(
    bundle: Annotated[Path, typer.Argument(help="The bundle, NAME.mlgb.")],
    key: KeyOption = None,
    provider: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, auto, or an execution provider's name.",
            rich_help_panel=ADVANCED,
        ),
    ] = "cpu",
    grant: GrantFile = None,
    revocations: ListFile = None,
    signer: Trusted = None,
    json: Json = False,
    *,
    unlock: Unlock,
) -> None:
    """Open BUNDLE, check its transform and tensors, and run it once.

    A transform of images is compared bit for bit with its result on the owner's
    machine, and every tensor with its tag. The model is run on a grey image, or not at
    all if it takes none, and must return finite numbers.
    """
    found = glimpse_bundle(bundle)
    opener = key_for(
        found, key, unlock, grant=grant, revocations=revocations, signers=signer
    )
    started = time.perf_counter()
    session = Session(found, opener, provider=provider)
    opened = time.perf_counter()
    ran = run_once(session)
    facts = {
        "bundle": str(bundle),
        "provider": session.provider,
        "transform": "compared" if session.compared else "none",
        "open_s": round(opened - started, 3),
        "run_s": round(time.perf_counter() - opened, 3) if ran else None,
    }
    words = [
        f"{bundle} opens on {session.provider} in {facts['open_s']} s",
        "its transform of images computes the same as on the owner's machine"
        if session.compared
        else "it has no transform of images to compare",
        f"it ran in {facts['run_s']} s and returned finite numbers"
        if ran
        else "it takes other inputs than an image, so it was not run",
    ]
    answer(facts, "\n".join(words), as_json=json)


def run_once(session: Session) -> bool:
    """Run a model on a grey image; False if it takes none.

    Raises:
        ProviderError: It returns numbers that are not finite.
    """
    if session.image is None or session.task is None:
        return False
    shape = (1, session.image.channels, *session.image.size)
    grey = np.full(shape, 128, np.uint8)
    scores = session.logits(grey)
    if not np.isfinite(scores).all():
        raise ProviderError(
            f"on {session.provider} the model returns numbers that are not finite",
            hint="try `--provider cpu`, and tell the owner of the bundle",
        )
    return True
