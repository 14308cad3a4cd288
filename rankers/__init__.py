"""What a ranker is: features, requests, quality, and models to try them on.

The package knows nothing of the others and imports torch only where a module is built or run, so
that a client can speak of features and requests without it.
"""
