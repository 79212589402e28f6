"""The exit statuses of `mlguard`. Scripts rely on them: numbers never change."""

from dataclasses import dataclass

import keystore
from keystore import errors as keystore_errors
from mlguard import errors
from mlguard.cli.answers import Json, answer

INTERNAL_ERROR = 1
INTERRUPTED = 3


@dataclass(frozen=True)
class ExitCode:
    """One row of the table.

    Attributes:
        number: The exit status.
        meaning: Its meaning in a few words.
        refusals: The refusals that end with it.
    """

    number: int
    meaning: str
    refusals: tuple[type[Exception], ...] = ()


EXIT_CODES = (
    ExitCode(0, "ok"),
    ExitCode(INTERNAL_ERROR, "internal error"),
    ExitCode(
        2,
        "usage",
        (errors.MissingExtra, errors.MissingRuntime, keystore_errors.InvalidName),
    ),
    ExitCode(
        INTERRUPTED,
        "interrupted; protect and audit are resumable",
        (errors.Interrupted,),
    ),
    ExitCode(
        10,
        "no keystore",
        (keystore_errors.KeystoreNotFound, keystore_errors.KeystoreNotReadable),
    ),
    ExitCode(
        11,
        "no slot opens the keystore",
        (
            keystore_errors.NoSlotOpens,
            keystore_errors.PassphraseMissing,
            keystore_errors.PassphraseRefused,
            keystore_errors.IdentityError,
            keystore_errors.SlotError,
            keystore_errors.TokenError,
            errors.KeySourceError,
        ),
    ),
    ExitCode(
        12,
        "keystore damaged or tampered with",
        (
            keystore_errors.MalformedKeystore,
            keystore_errors.TamperedKeystore,
            keystore_errors.TamperedLog,
            keystore_errors.WorkFactorTooHigh,
        ),
    ),
    ExitCode(13, "keystore busy", (keystore_errors.KeystoreBusy,)),
    ExitCode(
        14, "keystore rolled back or replaced", (keystore_errors.RolledBackKeystore,)
    ),
    ExitCode(
        15,
        "key not found or not usable",
        (
            keystore_errors.KeyNotFound,
            keystore_errors.KeyNotUsable,
            keystore_errors.KeyExists,
            keystore_errors.KeyInUse,
            keystore_errors.NotAllowed,
        ),
    ),
    ExitCode(
        20,
        "bundle malformed or tampered with",
        (
            errors.BundleError,
            errors.MalformedBundle,
            errors.TamperedBundle,
            errors.WrongBackbone,
            errors.TamperedTensors,
            errors.MalformedWeights,
        ),
    ),
    ExitCode(21, "wrong key", (errors.WrongKey,)),
    ExitCode(
        22,
        "bundle outside its validity",
        (
            errors.OutsideValidity,
            errors.NotYetValid,
            errors.Expired,
            errors.Revoked,
        ),
    ),
    ExitCode(23, "signature not trusted", (errors.SignatureNotTrusted,)),
    ExitCode(24, "execution provider not available", (errors.ProviderError,)),
    ExitCode(25, "remote model does not answer correctly", (errors.RemoteError,)),
    ExitCode(30, "audit failed a threshold"),
    ExitCode(31, "audit inconclusive"),
    ExitCode(
        40,
        "recipe, data, weights, run or image refused",
        (
            errors.RecipeError,
            errors.OptionError,
            errors.DatasetError,
            errors.ImageError,
            errors.WeightsError,
            errors.ModelFileError,
            errors.BindingError,
            errors.RunError,
            errors.MalformedRun,
            errors.TamperedRun,
            errors.ReportError,
            errors.ShapeError,
            errors.ParityError,
        ),
    ),
    ExitCode(
        41,
        "no space, not writable, or the output already exists",
        (
            errors.OutputError,
            errors.OutputExists,
            keystore_errors.KeystoreNotWritable,
            keystore_errors.LogNotWritable,
            keystore_errors.KeystoreExists,
        ),
    ),
)

Refusal = (errors.MlguardError, keystore.KeystoreError)


def exit_code_of(refusal: Exception) -> int:
    """Return the exit status of a refusal, by its class or the nearest base."""
    rows = {kind: row.number for row in EXIT_CODES for kind in row.refusals}
    for kind in type(refusal).__mro__:
        if kind in rows:
            return rows[kind]
    return INTERNAL_ERROR


def exit_codes(json: Json = False) -> None:
    """Print what every exit status means."""
    value = [{"status": row.number, "meaning": row.meaning} for row in EXIT_CODES]
    lines = [f"{row.number:3}  {row.meaning}" for row in EXIT_CODES]
    answer(value, "\n".join(lines), as_json=json)
