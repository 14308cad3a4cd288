"""Finds a program's lookups, bags and dots, and lets one kernel compute them."""
