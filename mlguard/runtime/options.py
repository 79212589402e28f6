"""How onnxruntime computes: threads, providers, and its own options.

Options that would write a sealed model to a disk in the clear are refused. The number
of threads follows the container's quota, which onnxruntime ignores.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlguard.engine import onnxruntime
from mlguard.errors import BundleError, ProviderError
from mlguard.quota import cpu_quota

MOST_THREADS = 4096

# Session options that write the model, or its structure, into a file.
WRITING = ("optimized_model_filepath", "enable_profiling", "profile_file_prefix")
WRITING_ENTRIES = ("ep.context_", "session.save", "session.optimized_model")
# Words in names of provider options that make a provider write what it compiled.
WRITING_WORDS = ("cache", "dump", "save", "context", "profil", "serialize", "export")
OFF = ("", "0", "false", "none", "off")


@dataclass(frozen=True)
class Compute:
    """How to compute; everything has a default.

    Attributes:
        provider: "cpu", "cuda", "auto", or an execution provider's full name.
        threads: How many threads compute one operator; 0 for the container's quota.
        inter_threads: How many operators run at a time; 0 for onnxruntime's choice.
        options: Attributes of onnxruntime's SessionOptions by name, and its
            configuration entries, whose names have a dot.
        provider_options: Options of the execution provider.
    """

    provider: str = "cpu"
    threads: int = 0
    inter_threads: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    provider_options: Mapping[str, str] = field(default_factory=dict)

    def check(self, *, sealed: bool, name: str) -> None:
        """Refuse invalid values, and options that would write out a sealed bundle.

        Args:
            sealed: Whether the bundle is sealed.
            name: The name of the bundle in a refusal.

        Raises:
            ProviderError: A number of threads or an option is invalid.
            BundleError: An option would write the model to a disk in the clear.
        """
        for what, count in (
            ("threads", self.threads),
            ("inter_threads", self.inter_threads),
        ):
            if not 0 <= count <= MOST_THREADS:
                raise ProviderError(
                    f"expected 0 to {MOST_THREADS} {what}, got {count}",
                    hint="0 uses what this machine or container allows",
                )
        if sealed and (written := self._written()):
            raise BundleError(
                f"{name} is sealed, and {written} would write its model to a disk "
                "in the clear",
                hint="leave the option out, or export with `--no-seal`",
            )

    def session_options(self) -> onnxruntime.SessionOptions:
        """Return onnxruntime's session options.

        Raises:
            ProviderError: An option does not exist.
        """
        made = onnxruntime.SessionOptions()
        made.intra_op_num_threads = self.threads or threads_of_container()
        made.inter_op_num_threads = self.inter_threads
        for option, value in self.options.items():
            try:
                if "." in option:
                    made.add_session_config_entry(option, str(value))
                elif hasattr(made, option) and not option.startswith("_"):
                    setattr(made, option, value)
                else:
                    raise TypeError("there is no such option")
            except (TypeError, AttributeError, RuntimeError, ValueError) as error:
                reason = str(error).partition("\n")[0]
                raise ProviderError(
                    f"session option {option!r}: {reason}",
                    hint="onnxruntime.SessionOptions documents them",
                ) from None
        return made

    def _written(self) -> str:
        """Return the first option that writes the model out, or an empty text."""
        for option, value in self.options.items():
            on = str(value).lower() not in OFF
            if on and (option in WRITING or option.startswith(WRITING_ENTRIES)):
                return f"session option {option!r}"
        for option, text in self.provider_options.items():
            on = str(text).lower() not in OFF
            if on and any(word in option.lower() for word in WRITING_WORDS):
                return f"provider option {option!r}"
        return ""


def threads_of_container() -> int:
    """Return how many threads the container's CPU quota allows; 0 without a quota.

    Rounded down: onnxruntime's threads spin while they wait, and use up the quota.
    """
    quota = cpu_quota()
    return 0 if quota is None else max(1, math.floor(quota))
