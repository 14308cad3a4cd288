"""From a trained ranker to a gated artifact in a Triton model repository."""
