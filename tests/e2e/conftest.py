"""What the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from transformers.utils import logging


@pytest.fixture(autouse=True, scope="session")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs compiled here are remembered here, not in the user's directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        logging.disable_progress_bar()
        yield
