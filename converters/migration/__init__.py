"""A whole archive at once: every model of a tree found, converted, proven and reported on, on one machine or on a Dask cluster."""

from converters.packages import lazily

__all__ = ["MigrationOptions", "MigrationReport", "Progress", "migrate"]

__getattr__ = lazily(
    __name__,
    {
        "MigrationOptions": "converters.migration.options",
        "MigrationReport": "converters.migration.report",
        "Progress": "converters.migration.progress",
        "migrate": "converters.migration.run",
    },
)
"""A worker's process needs none of it."""
