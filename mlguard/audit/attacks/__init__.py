"""Attacks: what a thief with the weights does next. Needs torch.

Every attack states its adversary, budget, success, limits and source, and gives numbers
only. docs/spec/audit-v2.md, section 2.
"""

from mlguard.audit.attacks.base import Attack, Pool, Scene
from mlguard.audit.attacks.exhaustive import Exhaustive
from mlguard.audit.attacks.gradient import Gradient
from mlguard.audit.attacks.hill_climbing import HillClimbing
from mlguard.audit.attacks.integer_seeds import IntegerSeeds
from mlguard.audit.attacks.known_plaintext import KnownPlaintext
from mlguard.audit.attacks.leaks import Leaks
from mlguard.audit.attacks.public_ancestor import PublicAncestor
from mlguard.audit.attacks.retraining import Retraining
from mlguard.audit.attacks.transformed_images import TransformedImages
from mlguard.audit.attacks.weights_only import WeightsOnly
from mlguard.audit.attacks.without_key import WithoutKey
from mlguard.audit.outcomes import Outcome

__all__ = ["ATTACKS", "Attack", "Leaks", "Outcome", "Pool", "Scene"]

ATTACKS: dict[str, type[Attack]] = {
    "without-key": WithoutKey,
    "exhaustive": Exhaustive,
    "integer-seeds": IntegerSeeds,
    "hill-climbing": HillClimbing,
    "gradient": Gradient,
    "weights-only": WeightsOnly,
    "public-ancestor": PublicAncestor,
    "known-plaintext": KnownPlaintext,
    "transformed-images": TransformedImages,
    "retraining": Retraining,
}
