"""The gRPC client of served rankers. Importing it never imports torch."""
