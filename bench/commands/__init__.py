"""The commands of ``python -m bench``, a file for each or for a few that belong together."""
