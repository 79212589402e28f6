"""The report of an audit: audit.json, page, terminal, JUnit. No torch."""

from mlguard.audit.report.assemble import Conclusion, conclude, report_of
from mlguard.audit.report.audit_report import SCHEMA, AuditReport
from mlguard.audit.report.compare import compare, dump_comparison, read_audits
from mlguard.audit.report.compare_words import comparison_table, render_comparison
from mlguard.audit.report.folder import HTML, JSON, LOG, report_folder, write_report
from mlguard.audit.report.gallery import Gallery, Picture, Row, demonstrate
from mlguard.audit.report.page import render_page
from mlguard.audit.report.proofs import PROOF, check_proof
from mlguard.audit.report.schema import (
    dump_report,
    parse_report,
    read_report,
    report_content,
)
from mlguard.audit.report.terminal import report_table
from mlguard.audit.report.words import percent

__all__ = [
    "HTML",
    "JSON",
    "LOG",
    "PROOF",
    "SCHEMA",
    "AuditReport",
    "Conclusion",
    "Gallery",
    "Picture",
    "Row",
    "check_proof",
    "compare",
    "comparison_table",
    "conclude",
    "demonstrate",
    "dump_comparison",
    "dump_report",
    "parse_report",
    "percent",
    "read_audits",
    "read_report",
    "render_comparison",
    "render_page",
    "report_content",
    "report_folder",
    "report_of",
    "report_table",
    "write_report",
]
