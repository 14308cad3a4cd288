"""``python -m bench``."""

import os

from bench.cli import main

if __name__ == "__main__":
    # Processes are started anew here, never forked with gRPC running; its handlers for forks would
    # say at each that they were skipped.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    main()
