"""Deploying to Triton: configs, the model repository, and the embedded server."""
