"""All attacks, in the order in which they are run."""

from mlguard.audit.attacks.ancestor.activations import ActivationMatching
from mlguard.audit.attacks.ancestor.matching import (
    DirectionMatching,
    MixtureRegression,
    RotationMatching,
    TwoSidedMatching,
)
from mlguard.audit.attacks.ancestor.repairs import LowRankRemoval, OutlierReplacement
from mlguard.audit.attacks.base import Attack
from mlguard.audit.attacks.exhaustive import Exhaustive
from mlguard.audit.attacks.gradient import Gradient
from mlguard.audit.attacks.hill_climbing import HillClimbing
from mlguard.audit.attacks.integer_seeds import IntegerSeeds
from mlguard.audit.attacks.known_initialization import KnownInitialization
from mlguard.audit.attacks.known_plaintext import KnownPlaintext
from mlguard.audit.attacks.patient_retraining import PatientRetraining
from mlguard.audit.attacks.public_ancestor import PublicAncestor
from mlguard.audit.attacks.retraining import Retraining
from mlguard.audit.attacks.transformed_images import TransformedImages
from mlguard.audit.attacks.weights_only import WeightsOnly
from mlguard.audit.attacks.without_key import WithoutKey

_KINDS: tuple[type[Attack], ...] = (
    WithoutKey,
    Exhaustive,
    IntegerSeeds,
    HillClimbing,
    Gradient,
    WeightsOnly,
    KnownInitialization,
    PublicAncestor,
    DirectionMatching,
    RotationMatching,
    TwoSidedMatching,
    ActivationMatching,
    MixtureRegression,
    OutlierReplacement,
    LowRankRemoval,
    KnownPlaintext,
    TransformedImages,
    Retraining,
    PatientRetraining,
)
# By the names in a recipe, in the order of mlguard.rules.ALL_ATTACKS.
ATTACKS: dict[str, type[Attack]] = {kind.name: kind for kind in _KINDS}
