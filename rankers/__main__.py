"""``python -m rankers``."""

from rankers.cli import main

main()
