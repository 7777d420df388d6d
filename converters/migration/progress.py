"""How far a run is: counts, bytes and times, for whoever shows them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from converters.migration.rows import DONE, LISTED, Row


@dataclass
class Progress:
    """What `migrate` tells its caller as it goes on.

    stage: "looking" while files are recognized, "converting", then "reporting". seen: files that were looked at. total: models to
    convert; done, failed, others: of these. bytes: of their files. dashboard: Dask's page.
    """

    stage: str = "looking"
    seen: int = 0
    total: int = 0
    done: int = 0
    failed: int = 0
    others: int = 0
    bytes: int = 0
    kept: int = 0
    dashboard: str = ""
    begun: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> int:
        return self.total - self.done - self.failed - self.others

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.begun

    @property
    def rate(self) -> float:
        """Bytes of models a second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds that are left, if it goes on as it did."""
        ended = self.total - self.left
        return self.left * self.seconds / ended if ended else None

    def count(self, row: Row) -> None:
        """A model has ended."""
        if row.status == DONE:
            self.done += 1
        elif row.status == LISTED:
            self.others += 1
        else:
            self.failed += 1
        self.bytes += row.bytes


Watch = Callable[[Progress], None]
