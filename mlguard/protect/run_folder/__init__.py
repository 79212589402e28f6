"""A run folder: what training or binding a model leaves behind.

names.py lists its files. The room knows no training and no binding.
"""

from mlguard.protect.run_folder.kept import Keeper, is_kept
from mlguard.protect.run_folder.names import (
    BASELINE,
    BEST,
    BOUND,
    BUILT_BY,
    CHECKPOINT,
    CURVES,
    METRICS,
    MODEL,
    PROTECTION,
    PROVENANCE,
    RECIPE,
)
from mlguard.protect.run_folder.plain import read_plain
from mlguard.protect.run_folder.proofs import RUN, TWIN, is_old, read_proof
from mlguard.protect.run_folder.provenance import machine, versions
from mlguard.protect.run_folder.run import (
    Run,
    is_finished,
    protection_of,
    read_run,
    refuse_unbuilt,
    write_proofs,
)
from mlguard.protect.run_folder.secret import (
    DIGEST,
    begun_secret,
    decisive,
    training_digest,
    write_secret,
)
from mlguard.protect.run_folder.setup import (
    Protection,
    Setup,
    read_setup,
    write_json,
    write_metrics,
    write_setup,
)
from mlguard.protect.run_folder.unfinished import Unfinished, is_done
from mlguard.protect.run_folder.weights import (
    PRIVATE,
    contiguous,
    load_tensors,
    read_model,
    size_of,
    weights_limit,
    write_model,
    write_tensors,
)

__all__ = [
    "BASELINE",
    "BEST",
    "BOUND",
    "BUILT_BY",
    "CHECKPOINT",
    "CURVES",
    "DIGEST",
    "METRICS",
    "MODEL",
    "PRIVATE",
    "PROTECTION",
    "PROVENANCE",
    "RECIPE",
    "RUN",
    "TWIN",
    "Keeper",
    "Protection",
    "Run",
    "Setup",
    "Unfinished",
    "begun_secret",
    "contiguous",
    "decisive",
    "is_done",
    "is_finished",
    "is_kept",
    "is_old",
    "load_tensors",
    "machine",
    "protection_of",
    "read_model",
    "read_plain",
    "read_proof",
    "read_run",
    "read_setup",
    "refuse_unbuilt",
    "size_of",
    "training_digest",
    "versions",
    "weights_limit",
    "write_json",
    "write_metrics",
    "write_model",
    "write_proofs",
    "write_secret",
    "write_setup",
    "write_tensors",
]
