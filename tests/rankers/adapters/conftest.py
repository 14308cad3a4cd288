"""torchrec, where it can be imported: its fbgemm must have been built for the installed torch."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def torchrec():
    """Return torchrec, or skip with the reason why it cannot be imported."""
    import torch

    try:
        import torchrec as package
    except (ImportError, OSError) as error:
        said = str(error).strip().splitlines()[0]
        pytest.skip(f"torchrec cannot be imported with torch {torch.__version__}: {said}")
    return package
