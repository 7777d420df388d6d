"""A whole tree: what is in it, what an earlier run has done, what is left to do, and the report."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from converters import packages
from converters.errors import ConversionError
from converters.files import StrPath
from converters.formats import FORMATS
from converters.migration.cluster import Cluster, default_workers
from converters.migration.conversion import Task
from converters.migration.manifest import REPORT, Journal, read_manifest, refuse_others, write_text
from converters.migration.options import GRAPHS, MigrationOptions
from converters.migration.page import page
from converters.migration.progress import Progress, Watch
from converters.migration.report import MigrationReport
from converters.migration.rows import DONE, LISTED, SAME, Row, files_of, found_of, listed_row, refreshed, seen_of
from converters.migration.trees.discovery import Known, discover
from converters.migration.trees.models import Found, Listed
from converters.migration.trees.places import Entry, Place, place_at
from converters.migration.worker import now

TODO = "to do"
"""The state of a model in the report of a run that only looks."""


def migrate(
    source: StrPath,
    target: StrPath,
    options: MigrationOptions | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    dry_run: bool = False,
    watch: Watch = lambda progress: None,
) -> MigrationReport:
    """Finds every model below `source`, converts each into `target`, and reports on all of them. Raises ConversionError.

    workers: processes of this machine, as many as cores by default; scheduler: the address of a Dask scheduler whose workers do it
    instead. dry_run: only look. watch: called with a Progress as it goes on.
    """
    options = options or MigrationOptions()
    options.check()
    if workers is not None and workers < 1:
        raise ConversionError("at least one worker is needed")
    origin, goal = _places(source, target)
    progress = Progress()
    earlier = read_manifest(goal, force=options.force or dry_run)
    entries = [entry for entry in origin.entries(goal.root) if options.chosen(entry.path)]
    progress.seen = len(entries)
    watch(progress)
    found, listed = _as_before(entries, earlier, options) or _look(origin, entries, earlier, options, progress, watch)
    plan = _Plan(found, origin, goal, options, earlier)
    rows = [replace(listed_row(one), looked=options.discovery) for one in listed] + plan.kept
    if dry_run:
        todo = [Row(task.found.source, TODO, task.found.format, files=files_of(task.found.files)) for task in plan.tasks]
        return MigrationReport(origin.shown, goal.shown, [*rows, *todo], progress.seconds)
    packages.check("distributed", "pyarrow")
    if options.verify:
        packages.check("torch", "onnxruntime", extra="migrate")
    goal.make()
    refuse_others(goal, options.summary)
    cluster = Cluster(workers or default_workers(), scheduler, in_process=not (origin.is_shared and goal.is_shared))
    with contextlib.closing(Journal(goal, options.summary)) as journal:
        for row in rows:
            if not _is_known(row, earlier.get(row.source)):
                journal.add(replace(row, finished=now()))
        if plan.tasks:
            _convert(plan.tasks, rows, journal, earlier, options, cluster, progress, watch)
        progress.stage = "reporting"
        watch(progress)
        rows.sort(key=lambda row: row.source)
        report = MigrationReport(origin.shown, goal.shown, rows, progress.seconds, len(plan.tasks))
        write_text(goal, REPORT, page(report))
        journal.end()
    return report


def _places(source: StrPath, target: StrPath) -> tuple[Place, Place]:
    """Where it comes from and where it goes. Raises ConversionError where there is nothing, or both are one."""
    origin, goal = place_at(source), place_at(target)
    if origin.is_local and not os.path.isdir(origin.root):
        what = "is a file; convert it with the command of its format" if os.path.exists(origin.root) else "there is no such folder"
        raise ConversionError(what, path=origin.shown)
    if goal.is_local and os.path.exists(goal.root) and not os.path.isdir(goal.root):
        raise ConversionError("is a file, where a folder is needed", path=goal.shown)
    is_same = origin.is_local == goal.is_local and os.path.realpath(origin.root) == os.path.realpath(goal.root)
    if is_same and (origin.is_local or getattr(origin, "protocol", "") == getattr(goal, "protocol", "")):
        raise ConversionError("the source and the target are one folder", path=goal.shown, hint="choose another target")
    return origin, goal


def _look(
    origin: Place, entries: Sequence[Entry], earlier: Mapping[str, Row], options: MigrationOptions, progress: Progress, watch: Watch
) -> tuple[list[Found], list[Listed]]:
    """What is in the tree; files that are as they were aren't opened again."""
    known = {file.path: Known(file.bytes, file.stamp, file.kind, file.words, file.hint) for row in earlier.values() for file in row.files}

    def tick(count: int) -> None:
        progress.seen = count
        watch(progress)

    return discover(origin, entries, options, known, tick)


def _as_before(entries: Sequence[Entry], earlier: Mapping[str, Row], options: MigrationOptions) -> tuple[list[Found], list[Listed]] | None:
    """What an earlier run found, where it looked with the same options and every file is as it was, and none is new; else None."""
    rows = [row for row in earlier.values() if row.looked == options.discovery]
    seen = {file.path: file for row in rows for file in row.files if not row.archive}
    same = {path: (file.bytes, file.stamp) for path, file in seen.items()}
    if not rows or same != {entry.path: (entry.bytes, entry.stamp) for entry in entries} or not all(entry.stamp for entry in entries):
        return None
    archives = {path: seen_of(file) for path, file in seen.items()}
    found = [found_of(row, archives) for row in rows if row.paths]
    listed = [Listed(seen_of(row.files[0]), row.reason, row.status != LISTED, row.archive) for row in rows if not row.paths]
    return found, listed


class _Plan:
    """What is left to do. tasks: models to convert; kept: the rows of those that are as they shall be."""

    def __init__(self, found: Sequence[Found], origin: Place, goal: Place, options: MigrationOptions, earlier: Mapping[str, Row]) -> None:
        self.kept: list[Row] = []
        self.tasks: list[Task] = []
        self._formats = {row.name: row for row in FORMATS}
        self._sizes = _sizes(goal) if earlier else {}
        self._where = (os.path.abspath(origin.root) if origin.is_local else origin.shown, goal.root if goal.is_local else goal.shown)
        for model in found:
            identity = options.identity(model.paths)
            before = earlier.get(model.source)
            if before is not None and self._holds(before, options, identity):
                if before.files and _stamps(model) == {file.path: (file.bytes, file.stamp) for file in before.files}:
                    self.kept.append(before)
                    continue
                self.tasks.append(self._task(model, options, identity, before.key))
            else:
                self.tasks.append(self._task(model, options, identity, ""))

    def _task(self, model: Found, options: MigrationOptions, identity: str, before: str) -> Task:
        load = options.load_options(self._formats[model.format], model.paths)
        to = tuple(word for word in options.to if not model.weights_only or word not in GRAPHS)
        return Task(
            model,
            *self._where,
            identity,
            load,
            to,
            options.verify,
            opset=options.opset,
            dtype=options.dtype,
            before=before,
            limit_memory=options.limit_memory or 0,
            limit_time=options.limit_time,
        )

    def _holds(self, before: Row, options: MigrationOptions, identity: str) -> bool:
        """Whether an earlier row answers what is asked, as long as its files are the same."""
        has_ended = bool(before.key) or before.status == "killed"  # which says of its files no more than their stamps
        if before.options != identity or not has_ended or before.status == "lost" or before.status in options.retry:
            return False
        if before.status == DONE and options.verify and not before.proven:
            return False
        return all(self._sizes.get(path) == size for path, size in before.outputs)


def _sizes(goal: Place) -> dict[str, int]:
    """The sizes of what lies in the target."""
    return {entry.path: entry.bytes for entry in goal.entries() if not entry.problem}


def _stamps(model: Found) -> dict[str, tuple[int, str]]:
    return {file.path: (file.entry.bytes, file.entry.stamp or "?") for file in model.files}


def _is_known(row: Row, before: Row | None) -> bool:
    """Whether the manifest says the same already."""
    return before is not None and replace(before, finished="") == replace(row, finished="")


def _convert(
    tasks: Sequence[Task],
    rows: list[Row],
    journal: Journal,
    earlier: Mapping[str, Row],
    options: MigrationOptions,
    cluster: Cluster,
    progress: Progress,
    watch: Watch,
) -> None:
    """Runs the tasks; each row is written down as soon as it is known."""
    progress.stage, progress.total, progress.begun = "converting", len(tasks), time.monotonic()
    with cluster:
        progress.dashboard = cluster.dashboard
        watch(progress)

        def record(task: Task, row: Row) -> None:
            if row.status == SAME:
                row = refreshed(earlier[row.source], row)
            row = replace(row, looked=options.discovery, proven=options.verify)
            journal.add(row)
            rows.append(row)
            progress.count(row)

        cluster.work(tasks, record, lambda: watch(progress))
