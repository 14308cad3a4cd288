"""``python -m rankers``."""

from rankers.cli import main

main(prog_name="python -m rankers")
