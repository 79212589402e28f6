"""A run folder: what training or binding a model leaves behind.

Its files are named in names.py. Knows no training and no binding.
"""

from mlguard.protect.run_folder.names import (
    BASELINE,
    BOUND,
    CHECKPOINT,
    CURVES,
    METRICS,
    MODEL,
    PROTECTION,
    PROVENANCE,
    RECIPE,
)
from mlguard.protect.run_folder.plain import read_plain
from mlguard.protect.run_folder.proofs import check_setup
from mlguard.protect.run_folder.provenance import machine, versions
from mlguard.protect.run_folder.run import (
    Run,
    is_finished,
    protection_of,
    read_run,
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
    read_provenance,
    read_setup,
    write_json,
    write_metrics,
    write_setup,
)
from mlguard.protect.run_folder.weights import (
    contiguous,
    load_tensors,
    read_model,
    write_model,
)

__all__ = [
    "BASELINE",
    "BOUND",
    "CHECKPOINT",
    "CURVES",
    "DIGEST",
    "METRICS",
    "MODEL",
    "PROTECTION",
    "PROVENANCE",
    "RECIPE",
    "Protection",
    "Run",
    "begun_secret",
    "check_setup",
    "contiguous",
    "decisive",
    "is_finished",
    "load_tensors",
    "machine",
    "protection_of",
    "read_model",
    "read_plain",
    "read_provenance",
    "read_run",
    "read_setup",
    "training_digest",
    "versions",
    "write_json",
    "write_metrics",
    "write_model",
    "write_proofs",
    "write_secret",
    "write_setup",
]
