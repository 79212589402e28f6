"""Docstrings as the Python pages show them: `Example:` is a section of its own."""

import griffe


class Examples(griffe.Extension):
    """Have examples shown as code; our docstrings name the section in the singular."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Rename the section of one docstring."""
        if obj.docstring:
            text = obj.docstring.value.replace("\nExample:\n", "\nExamples:\n")
            obj.docstring.value = text.replace("\n    Example:\n", "\n    Examples:\n")
