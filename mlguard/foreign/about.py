"""What the owner of a foreign model says about it: which input is an image, and so on.

Nothing is assumed. A model file does not say what was subtracted from its pixels, and
a wrong guess gives poor answers without a word. What is not said is not in the bundle,
and the bundle takes and gives tensors.
"""

import json
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlguard.bundle import ImageFacts, TaskFacts
from mlguard.bundle.manifest import Text
from mlguard.errors import ModelFileError
from mlguard.files import read_bounded
from mlguard.validation import problems_of

MAX_BYTES = 1 << 20  # of the file; a thousand class names take a fiftieth


class About(BaseModel):
    """The sections of the file, as docs/models/onnx.md explains them.

    Attributes:
        image: Which input is an image, and how pixels become its numbers.
        task: What the answer means.
        licence: What the owner allows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    image: ImageFacts | None = None
    task: TaskFacts | None = None
    licence: Text = Field(default="", max_length=1 << 16)


def read_about(path: Path) -> About:
    """Read the file; all its problems are told at once.

    Raises:
        ModelFileError: It cannot be read, is not TOML, or says what cannot be.
    """
    try:
        said = tomllib.loads(read_bounded(path, MAX_BYTES).decode())
        return About.model_validate_json(json.dumps(said))
    except OSError as error:
        reason = error.strerror or "not readable"
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError) as error:
        reason = f"is not TOML: {error}"
    except ValidationError as error:
        reason = "; ".join(problems_of(error))
    raise ModelFileError(
        f"{path}: {reason}", hint="docs/models/onnx.md explains every field"
    )
