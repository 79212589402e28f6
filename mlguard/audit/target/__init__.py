"""The target of an audit: a run folder or a bundle, in one form. Needs torch."""

from mlguard.audit.target.bundle import target_of_bundle
from mlguard.audit.target.bundle_data import check_data, data_of
from mlguard.audit.target.run_folder import target_of_run
from mlguard.audit.target.subject import Subject
from mlguard.audit.target.target import Target, digest
from mlguard.audit.target.transforms import AuditTransforms

__all__ = [
    "AuditTransforms",
    "Subject",
    "Target",
    "check_data",
    "data_of",
    "digest",
    "target_of_bundle",
    "target_of_run",
]
