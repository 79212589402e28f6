"""Attacks: what a thief with the weights can do. Needs torch.

Every attack states its adversary, budget, success, limits and source, and returns only
numbers. docs/spec/audit-v4.md, section 6.
"""

from mlguard.audit.attacks.base import Attack, Pool, Scene, SplitReferee
from mlguard.audit.attacks.campaign import check_names, none_run, pool_size, run_attacks
from mlguard.audit.attacks.controls import Controls, has_ancestor
from mlguard.audit.attacks.integer_seeds import published_transforms
from mlguard.audit.attacks.known_initialization import likeliest_seed
from mlguard.audit.attacks.leaks import Leaks
from mlguard.audit.attacks.registry import ATTACKS
from mlguard.audit.attacks.search.guesses import GuessSpace
from mlguard.audit.attacks.search.objectives import Judge
from mlguard.audit.attacks.stem.lifted import Grid
from mlguard.audit.attacks.stem.stem_fit import window_covariance

__all__ = [
    "ATTACKS",
    "Attack",
    "Controls",
    "Grid",
    "GuessSpace",
    "Judge",
    "Leaks",
    "Pool",
    "Scene",
    "SplitReferee",
    "check_names",
    "has_ancestor",
    "likeliest_seed",
    "none_run",
    "pool_size",
    "published_transforms",
    "run_attacks",
    "window_covariance",
]
