"""Read what the owner says about a foreign model: which input is an image, and so on.

Nothing is assumed. A model file does not say what was subtracted from its pixels, and a
wrong guess silently makes answers worse. Without this information, the bundle takes and
returns tensors.
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

MAX_BYTES = 1 << 20  # limit of the file; a thousand class names take a fiftieth of it


class About(BaseModel):
    """The sections of the file, as docs/models/onnx.md explains them.

    Attributes:
        image: Which input is an image, and how pixels become its values.
        task: What the answer means.
        licence: The owner's terms.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    image: ImageFacts | None = None
    task: TaskFacts | None = None
    licence: Text = Field(default="", max_length=1 << 16)


def read_about(path: Path) -> About:
    """Read the file; a refusal lists all its problems at once.

    Raises:
        ModelFileError: It cannot be read, is not TOML, or is not valid.
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
