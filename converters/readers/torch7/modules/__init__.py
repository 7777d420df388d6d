"""Lowerings of Lua Torch's module classes, a file per topic."""
