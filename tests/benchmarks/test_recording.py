"""The recorded terminal shows what the page says, and a failure is no recording."""

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.typed_pages import commands_in

RECORDING = Path(__file__).parents[2] / "docs" / "results" / "first_five_minutes"
PAGE = """
```toml
# told.toml
answer = 42
```

```console
$ cat told.toml
$ export WORD="it's kept"
$ echo $WORD
```
"""


@pytest.fixture
def recording() -> ModuleType:
    return importlib.import_module("recording")


def test_commands_and_answers_are_recorded_in_their_order(
    recording: ModuleType, tmp_path: Path
) -> None:
    pieces = list(recording.recorded(PAGE, tmp_path))
    assert "".join(text for _, text in pieces).split("\r\n") == [
        "$ cat told.toml",
        "answer = 42",
        """$ export WORD="it's kept\"""",
        "$ echo $WORD",
        "it's kept",
        "",
    ]
    times = [at for at, _ in pieces]
    assert times == sorted(times)


def test_a_command_that_fails_is_no_recording(
    recording: ModuleType, tmp_path: Path
) -> None:
    page = PAGE.replace("cat told.toml", "cat nothing.toml")
    with pytest.raises(SystemExit, match="a command ended with 1"):
        list(recording.recorded(page, tmp_path))


def test_the_kept_recording_is_of_the_page(recording: ModuleType) -> None:
    text = RECORDING.with_suffix(".txt").read_text()
    commands = re.compile(r"^\$ .*$", re.M)
    typed = [line.removeprefix("$ ") for line in commands.findall(text)]
    assert typed == commands_in(recording.PAGE.read_text())
    header, *lines = RECORDING.with_suffix(".cast").read_text().splitlines()
    assert json.loads(header)["version"] == 2
    shown = "".join(json.loads(line)[2] for line in lines)
    assert shown.replace("\r\n", "\n") == text
