"""Harnesses for every parser of what strangers write. `python -m tests.fuzzing`."""

from collections.abc import Callable

from tests.fuzzing import bundles, keystores, texts
from tests.fuzzing.harness import Target

TARGETS: dict[str, Callable[[], dict[str, Target]]] = {
    "keystore": keystores.targets,
    "bundle": bundles.targets,
    "text": texts.targets,
}


def all_targets(only: str = "") -> dict[str, Target]:
    """Every parser, or those whose name begins so; "bundle graph" for example."""
    found = {
        name if room == "text" else f"{room} {name}": target
        for room, targets in TARGETS.items()
        for name, target in targets().items()
    }
    return {name: target for name, target in found.items() if name.startswith(only)}
