"""Click logs: files and generators that become labelled requests."""
