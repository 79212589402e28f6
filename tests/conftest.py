"""What every test may take for granted."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

# No test asserts a time: on a busy machine any input can take longer than 200 ms.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


@pytest.fixture(scope="session", autouse=True)
def _state_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What mlguard remembers between runs stays out of the user's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
