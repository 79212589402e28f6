"""What tests of this folder share: one answer of torch's exporter for a model."""

from tests.exports import exporter_is_asked_once

__all__ = ["exporter_is_asked_once"]
