"""``python -m optimize``."""

from optimize.cli import main

main()
