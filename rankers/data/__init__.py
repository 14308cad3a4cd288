"""From files and generators to labelled requests."""
