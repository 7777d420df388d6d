"""Lowerings of MXNet's operators, a file per topic."""
