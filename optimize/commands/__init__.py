"""The commands of ``python -m optimize``, a file for each or for a few that belong together."""
