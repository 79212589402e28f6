"""The events of an audit, as lines of audit.jsonl. docs/spec/audit-log-v2.md.

An event holds counts of pixels, never an image, a key or a transformed image; findings
are computed from counts, so anybody with the events can compute them again. The module
knows no file and no torch.
"""

import base64
import binascii
import zlib
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from mlguard import recipe
from mlguard.audit.findings import (
    STRICT,
    AdversaryImages,
    Attempt,
    AuditedModel,
    Code,
    Conditions,
    Control,
    Count,
    Limit,
    Machine,
    Material,
    NearbyPoint,
    NotRun,
    Outcome,
    Positive,
    Ratio,
    Sha256,
    Trained,
    Verdict,
)
from mlguard.errors import ReportError
from mlguard.rules import MAX_CLASSES, TaskName
from mlguard.tasks import Counts, Task, task_of
from mlguard.validation import problems_of

SCHEMA: Literal["mlguard.audit-log/2"] = "mlguard.audit-log/2"
MAX_CELLS = 1 << 27  # cells of one event's counts: 512 MiB uncompressed

Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
Blob = Annotated[str, Field(pattern="^[A-Za-z0-9+/]*={0,2}$")]
Model = Literal["baseline", "protected"]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Started:
    """What is audited, and how. An audit can be resumed only if all of it is the same.

    Attributes:
        schema: The schema of the log.
        created: UTC, to the second.
        subject: The audited model.
        model_sha256: SHA-256 of its weights.
        baseline_sha256: SHA-256 of its plain twin's weights; None if there is none.
        material: The audited images.
        images: The number of images.
        task: The task of the model, which defines the counts.
        ignore_index: The value of pixels without a label.
        class_names: The classes, in the order of all counts.
        key_space_bits: log2 of the number of distinct transforms, without those that
            the weights reveal.
        incorrect: How many incorrect keys are tried.
        same_transform: How many of them give the correct transform.
        nearby: The curve of nearby keys.
        settings: The recipe's [audit] section, as options changed it.
        limits: The claims, with the sources of their thresholds.
        adversary: The images of attacks; None without attacks.
        command: The command to audit it again; paths are placeholders.
        old_proof: Whether the run's proof omits its twin and its provenance.
        trained_on_these: Whether the model was trained on the audited images.
        shown_by_weights: Whether the weights reveal the transform of images.
        versions: The versions of the computing packages.
        machine: The machine.
        event: "start".
    """

    __pydantic_config__ = STRICT

    schema: Literal["mlguard.audit-log/2"]
    created: Time = field(compare=False)
    subject: AuditedModel
    model_sha256: Sha256
    baseline_sha256: Sha256 | None
    material: Material
    images: Annotated[int, Field(ge=1, le=recipe.MAX_IMAGES)]
    task: TaskName
    ignore_index: Annotated[int, Field(ge=-1, le=255)]
    class_names: Annotated[
        tuple[str, ...],
        Field(min_length=1, max_length=MAX_CLASSES["classification"]),
    ]
    key_space_bits: Ratio
    incorrect: Count
    same_transform: Count
    nearby: tuple[NearbyPoint, ...]
    settings: recipe.Audit
    limits: tuple[Limit, ...]
    adversary: AdversaryImages | None
    command: str
    old_proof: bool
    trained_on_these: bool
    shown_by_weights: bool
    versions: dict[str, str]
    machine: Machine
    event: Literal["start"] = "start"

    @property
    def conditions(self) -> Conditions:
        """The conditions of the protected model."""
        return Conditions(
            sealed=self.subject.access == "sealed",
            incorrect=self.incorrect,
            nearby=self.nearby,
            same_transform=self.same_transform,
        )

    @property
    def asked(self) -> Task:
        """The task, which makes and scores the counts."""
        classes = len(self.class_names)
        return task_of(self.task, classes=classes, ignore_index=self.ignore_index)

    def part(self, counts: str, of: Model, images: int) -> Counts:
        """Return the counts of some images under every condition of a model.

        Shape:
            returns  (conditions, images, …), the rest as the task has it
        """
        conditions = self.conditions.number if of == "protected" else 1
        return self._unpack(counts, (conditions, images))

    def split(self, counts: str) -> Counts:
        """Return the counts of all images under one condition."""
        return self._unpack(counts, (self.images,))

    def _unpack(self, counts: str, first: Shape) -> Counts:
        task = self.asked
        return unpack(counts, (*first, *task.row), limit=task.limit)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Some images were counted under every condition of a model.

    Attributes:
        of: The model, protected or baseline.
        first: The first of the images, from 0.
        images: The number of images.
        counts: The packed counts; the specification fixes the order of conditions.
        event: "counts".
    """

    __pydantic_config__ = STRICT

    of: Model
    first: Count
    images: Positive
    counts: Blob
    event: Literal["counts"] = "counts"


@dataclass(frozen=True, kw_only=True)
class Attacked(Attempt):
    """An attack produced an outcome.

    Attributes:
        seconds: How long it took.
        counts: The packed counts of the whole audited split.
        event: "outcome".
    """

    seconds: Ratio
    counts: Blob
    event: Literal["outcome"] = "outcome"

    @classmethod
    def of(cls, outcome: Outcome, seconds: float) -> "Attacked":
        """Return the event of an outcome."""
        counts = pack(outcome.counts)
        return cls(**_shared(outcome, Attempt), seconds=seconds, counts=counts)

    def outcome(self, started: Started) -> Outcome:
        """Return the outcome of an event."""
        return Outcome(**_shared(self, Attempt), counts=started.split(self.counts))


@dataclass(frozen=True, kw_only=True)
class AttackEnded:
    """Every variant of an attack has its outcome.

    Attributes:
        attack: Its name.
        event: "attack".
    """

    __pydantic_config__ = STRICT

    attack: Code
    event: Literal["attack"] = "attack"


@dataclass(frozen=True, kw_only=True)
class Controlled(Trained):
    """A control was trained; counts packed.

    Attributes:
        scratch: As in `Control`.
        ancestor: As in `Control`.
        event: "control".
    """

    scratch: Blob
    ancestor: Blob | None
    event: Literal["control"] = "control"

    @classmethod
    def of(cls, control: Control) -> "Controlled":
        """Return the event of a control."""
        ancestor = control.ancestor
        return cls(
            **_shared(control, Trained),
            scratch=pack(control.scratch),
            ancestor=None if ancestor is None else pack(ancestor),
        )

    def control(self, started: Started) -> Control:
        """Return the control of an event."""
        ancestor = self.ancestor
        return Control(
            **_shared(self, Trained),
            scratch=started.split(self.scratch),
            ancestor=None if ancestor is None else started.split(ancestor),
        )


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """All possible attacks and controls have run.

    Attributes:
        not_run: What was left out, and why.
        event: "left-out".
    """

    __pydantic_config__ = STRICT

    not_run: tuple[NotRun, ...]
    event: Literal["left-out"] = "left-out"


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """The audit was resumed after it was stopped.

    Attributes:
        created: UTC, to the second.
        event: "resume".
    """

    __pydantic_config__ = STRICT

    created: Time
    event: Literal["resume"] = "resume"


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A claim was decided.

    Attributes:
        verdict: As in audit.json.
        event: "verdict".
    """

    __pydantic_config__ = STRICT

    verdict: Verdict
    event: Literal["verdict"] = "verdict"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Everything was measured and decided.

    Attributes:
        created: UTC, to the second.
        exit_code: The exit status of the audit.
        event: "end".
    """

    __pydantic_config__ = STRICT

    created: Time
    exit_code: Count
    event: Literal["end"] = "end"


Event = Annotated[
    Started
    | Counted
    | Attacked
    | AttackEnded
    | Controlled
    | LeftOut
    | Resumed
    | Decided
    | Ended,
    Field(discriminator="event"),
]
_ADAPTER: TypeAdapter[Event] = TypeAdapter(Event)


def _shared(of: Attempt | Trained, base: type) -> dict[str, Any]:
    """Return the fields that an event shares with its object."""
    return {field.name: getattr(of, field.name) for field in fields(base)}


def dump_event(event: Event) -> bytes:
    """Return an event as a JSON object on one line, without its line end."""
    return _ADAPTER.dump_json(event)


def parse_event(line: bytes, *, name: str) -> Event:
    """Parse one line, strictly.

    Args:
        line: The whole line, without its authentication.
        name: Its name in a refusal.

    Raises:
        ReportError: It is not an event.
    """
    try:
        return _ADAPTER.validate_json(line)
    except ValidationError as error:
        raise ReportError(f"{name}: {problems_of(error, whole='line')[0]}") from None


def pack(counts: Counts) -> str:
    """Return counts as text: int32, little-endian, zlib, base64.

    Raises:
        ValueError: A count does not fit.
    """
    if counts.size and not 0 <= counts.min() <= counts.max() < 2**31:
        raise ValueError("a count is outside 0 … 2**31 - 1")
    small = np.ascontiguousarray(counts, dtype="<i4")
    return base64.b64encode(zlib.compress(small.tobytes())).decode()


def unpack(text: str, shape: Shape, *, limit: int = 1 << 31) -> Counts:
    """Return counts of a known shape; no more than their size is ever decompressed.

    Args:
        text: The text from `pack`.
        shape: The shape of the counts.
        limit: Their exclusive upper bound.

    Raises:
        ReportError: The text is not such counts.
    """
    size = int(np.prod(shape, dtype=np.int64))
    if size > MAX_CELLS:
        raise ReportError(f"{size} counts in one event; at most {MAX_CELLS} are read")
    expander = zlib.decompressobj()
    try:
        data = expander.decompress(base64.b64decode(text, validate=True), 4 * size + 1)
    except (zlib.error, binascii.Error):
        raise ReportError("the counts of an event are damaged") from None
    if len(data) != 4 * size or not expander.eof or expander.unused_data:
        raise ReportError(f"the counts of an event are not of shape {shape}")
    counts = np.frombuffer(data, dtype="<i4").astype(np.int64)
    if counts.size and not 0 <= counts.min() <= counts.max() < limit:
        raise ReportError(f"a count of an event is outside 0 … {limit - 1}")
    return counts.reshape(shape)
