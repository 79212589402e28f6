"""Everything mlguard can refuse, in one tree; the keystore has a tree of its own.

MlguardError
├── RecipeError         every problem of a recipe at once
├── DatasetError        images or masks that are missing, damaged or do not fit
├── ImageError          an image that cannot be read or predicted
├── WeightsError        a weights file or name that does not fit the model
│   └── MalformedWeights not a .safetensors file, or one that is not bound or damaged
├── ModelFileError      a model file that cannot be read, run or taken apart
├── BindingError        a transform cannot be folded into this model
├── RunError            a run folder that cannot be used as asked
│   ├── MalformedRun    not a run folder, or a damaged one
│   └── TamperedRun     well formed, but changed after it was written
├── BundleError         a bundle that cannot be used as asked
│   ├── MalformedBundle the file does not follow docs/spec/bundle-v1.md
│   ├── TamperedBundle  well formed, but changed after it was written
│   └── WrongBackbone   the public half beside it belongs to another private half
├── TamperedTensors     sealed tensors that were changed or moved
├── ReportError         an audit file that cannot be read
├── WrongKey            names both key ids
├── OutsideValidity     an issued bundle that may not be used now
│   ├── NotYetValid     its first day has not come
│   ├── Expired         its last day is over
│   └── Revoked         its owner has revoked it
├── SignatureNotTrusted not signed, or not by a trusted signer
├── OptionError         a value given to a command is not valid
├── KeySourceError      a server's key source does not provide a key
├── RemoteError         a model on another machine does not answer correctly
├── ShapeError          expected and got
├── ParityError         the ONNX graph disagrees with the model, and by how much
├── ProviderError       the execution provider asked for is not available
├── MissingExtra        a package of an optional extra is not installed
│   └── MissingRuntime  onnxruntime is not installed, or broken
├── OutputError         no space, or not writable; nothing half-written remains
│   └── OutputExists    the output already holds something; nothing is overwritten
└── Interrupted         stopped by the user; what was done is saved

Each refusal carries a `hint`: advice that a person can act on, or nothing. Passing the
wrong Python type is a bug, not a refusal, and raises TypeError or ValueError.
"""

from collections.abc import Sequence

from keystore.refusal import Refusal


class MlguardError(Refusal):
    """Base of every refusal."""


class RecipeError(MlguardError):
    """A recipe is not TOML, or has unknown, missing or invalid fields."""

    hint = "`mlguard recipes show NAME` prints a recipe with every option explained"

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"recipe {name}: " + "; ".join(self.problems))


class DatasetError(MlguardError):
    """Images or masks are missing, damaged or do not fit the recipe."""


class ImageError(MlguardError):
    """An image cannot be read or predicted."""


class WeightsError(MlguardError):
    """A weights file or name does not fit the model."""


class MalformedWeights(WeightsError):
    """The file does not follow docs/spec/weights-v1.md."""

    hint = "the file may be damaged in transfer; fetch it again from its owner"


class ModelFileError(MlguardError):
    """A model file cannot be read, run or taken apart."""


class BindingError(MlguardError):
    """A keyed transform cannot be folded into this model."""


class RunError(MlguardError):
    """A run folder cannot be used as asked."""


class MalformedRun(RunError):
    """The folder is not a run folder, or it is damaged."""


class TamperedRun(RunError):
    """The run folder is well formed, but was changed after its owner wrote it."""

    hint = (
        "use a copy that you know to be yours; a planted folder could make your key "
        "reveal its transform"
    )


class BundleError(MlguardError):
    """A bundle cannot be used as asked."""


class MalformedBundle(BundleError):
    """The file does not follow docs/spec/bundle-v1.md."""

    hint = "the file may be damaged in transfer; fetch it again from its owner"


class TamperedBundle(BundleError):
    """The bundle is well formed, but was changed after its owner wrote it."""

    hint = "do not use this file; fetch it again from its owner"


class WrongBackbone(BundleError):
    """The public half is not the one that a private half was trained beside."""


class TamperedTensors(MlguardError):
    """A sealed tensor was changed or moved."""

    hint = "do not use this file; fetch it again from its owner"


class ReportError(MlguardError):
    """An audit file cannot be read."""


class WrongKey(MlguardError):
    """The key is not the one that the model was protected with."""

    hint = "`mlguard keys list` shows which keys are in the keystore"


class OutsideValidity(MlguardError):
    """An issued bundle may not be used now. This program enforces it, not the file."""


class NotYetValid(OutsideValidity):
    """The first day on which it may be used has not come."""

    hint = "check this machine's clock, or ask the owner"


class Expired(OutsideValidity):
    """The last day on which it may be used is over."""

    hint = "ask the owner for a new grant; the file itself need not be sent again"


class Revoked(OutsideValidity):
    """The owner has revoked the grant, or the revocation list is outdated."""

    hint = "ask the owner"


class SignatureNotTrusted(MlguardError):
    """It is not signed, or not by a trusted signer."""

    hint = "ask the owner for the signing key, over a channel that you trust"


class OptionError(MlguardError):
    """A value given to a command is not valid; every problem is listed at once.

    Args:
        what: What the value belongs to, such as "the grant".
        problems: What was expected, and what was found.
    """

    def __init__(self, what: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{what}: " + "; ".join(self.problems))


class KeySourceError(MlguardError):
    """A server's key source does not provide a key."""


class RemoteError(MlguardError):
    """A model on another machine does not answer, or not with the outputs asked for."""


class ShapeError(MlguardError):
    """An array has an unexpected shape or type."""


class ParityError(MlguardError):
    """The exported graph disagrees with the model it was made from."""


class ProviderError(MlguardError):
    """The execution provider asked for is not available."""

    hint = (
        "`mlguard doctor` lists the providers; `--provider auto` chooses the best one"
    )


class MissingExtra(MlguardError):
    """A package of an optional extra is not installed."""

    hint = "install it with `pip install '.[train]'` in a checkout of mlguard"


class MissingRuntime(MissingExtra):
    """The package onnxruntime, which runs bundles, is not installed, or broken."""

    hint = (
        "install it with `pip install onnxruntime`, or onnxruntime-gpu for CUDA; "
        "`mlguard doctor` finds out what is broken, and how to repair it"
    )


class OutputError(MlguardError):
    """There is no space, or the place is not writable."""

    hint = "free some space or choose another --out; nothing half-written was left"


class OutputExists(OutputError):
    """The output already holds something; nothing is ever overwritten."""

    hint = "choose another --out"


class Interrupted(MlguardError):
    """Stopped by the user; what was done is saved."""
