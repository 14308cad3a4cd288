"""Where things that outlive a checkout are kept: the user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Return ``$RANKSERVE_CACHE``, or the platform's user cache folder for rankserve."""
    chosen = os.environ.get("RANKSERVE_CACHE")
    return Path(chosen) if chosen else Path(platformdirs.user_cache_dir("rankserve"))
