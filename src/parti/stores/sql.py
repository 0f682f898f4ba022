"""A store in an SQL database: an SQLite file by default, any other by URL.

One row per trial. Every write is one transaction that begins by counting up the study's change
number, which also serializes the writers of a study. SQLite runs with a write-ahead log.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, IntegrityError, SQLAlchemyError

from parti.core.architecture import Architecture
from parti.core.errors import Conflict, StoreError
from parti.core.protocols import Lease
from parti.core.study import Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.stores.rows import (
    read_measurements,
    read_study,
    write_measurements,
    write_study,
)

__all__ = ["SqlStore"]

SCHEMA = 1
"""Version of the tables below; a store of a newer version is refused."""

BUSY_SECONDS = 60
"""How long a writer waits for others before it gives up."""

_metadata = sa.MetaData()
_schema = sa.Table("parti_schema", _metadata, sa.Column("version", sa.Integer, nullable=False))
_studies = sa.Table(
    "parti_studies",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("trials", sa.Integer, nullable=False, default=0),
    sa.Column("changes", sa.Integer, nullable=False, default=0),
    sa.Column("spent", sa.Float, nullable=False, default=0.0),
)
_trials = sa.Table(
    "parti_trials",
    _metadata,
    sa.Column("study", sa.ForeignKey("parti_studies.id"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("architecture", sa.Text, nullable=False),
    sa.Column("fidelity", sa.Integer),
    sa.Column("parents", sa.Text, nullable=False),
    sa.Column("continues", sa.Integer),
    sa.Column("measurements", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("owner", sa.Text),
    sa.Column("expires", sa.Float),
    sa.Column("change", sa.Integer, nullable=False),
    sa.Index("parti_trials_change", "study", "change"),
)


class SqlStore:
    """Keeps studies in a database, for any number of processes at once.

    Args:
        url: an SQLAlchemy URL, such as "sqlite:///studies.db".

    Raises:
        StoreError: the URL is not understood, the database cannot be opened, or its tables are
            of a newer parti.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._ids: dict[str, int] = {}
        self._lock = RLock()
        try:
            engine = sa.create_engine(url)
            if engine.dialect.name == "sqlite":
                sa.event.listen(engine, "connect", _tune_sqlite)
            self._connection = engine.connect()
            self._prepare()
        except (ArgumentError, SQLAlchemyError, ImportError) as error:
            raise StoreError(
                f"store {url!r} cannot be opened: {error}; "
                "a file is written sqlite:///relative.db or sqlite:////absolute.db, "
                "and its folder must exist"
            ) from error

    def close(self) -> None:
        """Close the connection; nothing is lost without it."""
        self._connection.close()
        self._connection.engine.dispose()

    def create(self, study: Study) -> Study:
        """Keep a new study; of one that exists, return what is kept, unchanged."""
        try:
            with self._transaction() as run:
                run.execute(
                    _studies.insert(),
                    {"name": study.name, "definition": write_study(study), "created": time.time()},
                )
        except IntegrityError:
            return self.study(study.name)
        return study

    def study(self, name: str) -> Study:
        """Return the study of that name, or raise StoreError."""
        with self._transaction() as run:
            row = run.execute(
                sa.select(_studies.c.definition).where(_studies.c.name == name)
            ).first()
        if row is None:
            self._id(name)
        assert row is not None
        return read_study(row.definition)

    def studies(self) -> list[str]:
        """Names of all studies, oldest first."""
        with self._transaction() as run:
            return list(run.execute(sa.select(_studies.c.name).order_by(_studies.c.id)).scalars())

    def add(self, study: str, trial: Trial, lease: Lease) -> None:
        """Keep a new running trial under the next free number, or raise Conflict."""
        key = self._id(study)
        with self._transaction() as run:
            change = run.execute(_COUNT_TRIAL, {"key": key, "next": trial.number}).scalar()
            if change is None:
                raise Conflict(f"study {study!r}: trial {trial.number} is not the next one")
            proposal = trial.proposal
            run.execute(
                _INSERT,
                {
                    "study": key,
                    "number": trial.number,
                    "state": trial.state.value,
                    "architecture": proposal.architecture.to_json(),
                    "fidelity": proposal.fidelity,
                    "parents": json.dumps(proposal.parents),
                    "continues": proposal.continues,
                    "measurements": write_measurements(trial.measurements),
                    "error": trial.error,
                    "owner": lease.owner,
                    "expires": lease.expires,
                    "change": change,
                },
            )

    def record(self, study: str, number: int, measurement: Measurement) -> None:
        """Add a measurement to a running trial."""
        key = self._id(study)
        with self._transaction() as run:
            lines = write_measurements((measurement,))
            run.execute(_RECORD, {"key": key, "trial": number, "lines": lines})

    def finish(
        self,
        study: str,
        number: int,
        state: State,
        *,
        owner: str,
        error: str | None = None,
        measurements: Sequence[Measurement] = (),
    ) -> Trial:
        """End a trial and return it, or raise Conflict."""
        key = self._id(study)
        with self._transaction() as run:
            change = run.execute(_COUNT_CHANGE, {"key": key}).scalar()
            row = run.execute(
                _FINISH,
                {
                    "key": key,
                    "trial": number,
                    "holder": owner,
                    "new_state": state.value,
                    "why": error,
                    "lines": write_measurements(measurements),
                    "new_change": change,
                },
            ).first()
            if row is None:
                raise Conflict(
                    f"study {study!r}: trial {number} is not running under {owner!r} any more"
                )
        return _trial(row)

    def trials(self, study: str, since: int = 0) -> tuple[list[Trial], int]:
        """Trials added or ended after change `since`, in the order of their last change."""
        key = self._id(study)
        with self._transaction() as run:
            rows = run.execute(_NEWS, {"key": key, "since": since}).all()
        return [_trial(row) for row in rows], rows[-1].change if rows else since

    def leases(self, study: str) -> list[Lease]:
        """The leases of all running trials."""
        key = self._id(study)
        with self._transaction() as run:
            rows = run.execute(_LEASES, {"key": key, "running": State.RUNNING.value}).all()
        return [Lease(row.number, row.owner, row.expires) for row in rows]

    def claim(self, study: str, lease: Lease, previous: str) -> bool:
        """Take over a running trial, or renew one's own lease; False when too late."""
        values: dict[str, Any] = {"owner": lease.owner, "expires": lease.expires}
        if lease.owner != previous:
            values["measurements"] = ""
        with self._transaction() as run:
            done = run.execute(
                _trials.update()
                .where(
                    _trials.c.study == self._id(study),
                    _trials.c.number == lease.number,
                    _trials.c.state == State.RUNNING.value,
                    _trials.c.owner == previous,
                )
                .values(**values)
            )
            return done.rowcount == 1

    def spend(self, study: str, seconds: float) -> float:
        """Add searching time to a study and return the total of all processes so far."""
        key = self._id(study)
        with self._transaction() as run:
            return float(run.execute(_SPEND, {"key": key, "seconds": seconds}).scalar_one())

    def _id(self, name: str) -> int:
        if name not in self._ids:
            with self._transaction() as run:
                found = run.execute(
                    sa.select(_studies.c.id).where(_studies.c.name == name)
                ).scalar()
            if found is None:
                known = ", ".join(self.studies()) or "none"
                raise StoreError(f"no study {name!r} in {self.url}; there are: {known}")
            self._ids[name] = found
        return self._ids[name]

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with self._lock:
            if self._connection.in_transaction():
                yield self._connection
            else:
                with self._connection.begin():
                    yield self._connection

    def _prepare(self) -> None:
        with self._transaction() as run:
            if not sa.inspect(run).has_table(_schema.name):
                if run.dialect.name == "sqlite":
                    # Of several that open a new file at once one makes the tables; others wait.
                    run.exec_driver_sql("BEGIN IMMEDIATE")
                _metadata.create_all(run)
            version = run.execute(sa.select(_schema.c.version)).scalar()
            if version is None:
                run.execute(_schema.insert(), {"version": SCHEMA})
            elif version > SCHEMA:
                raise StoreError(
                    f"store {self.url!r} was written by a newer parti (schema {version}, this one "
                    f"knows {SCHEMA}); update parti, or open another store"
                )


def _tune_sqlite(connection: Any, _: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    _write_ahead(cursor)
    # In a write-ahead log this survives the death of any process; a power cut may cost the last
    # transactions, never the file.
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Give a file its write-ahead log; SQLite does not wait by itself while others do the same."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > give_up:
                raise
        time.sleep(0.01)


def _trial(row: Any) -> Trial:
    return Trial(
        number=row.number,
        proposal=Proposal(
            architecture=Architecture.from_json(row.architecture),
            fidelity=row.fidelity,
            parents=tuple(json.loads(row.parents)),
            continues=row.continues,
        ),
        state=State(row.state),
        measurements=read_measurements(row.measurements),
        error=row.error,
    )


# Statements are built once; SQLAlchemy caches their compiled form.
_SHOWN = [
    _trials.c[name]
    for name in (
        "number",
        "state",
        "architecture",
        "fidelity",
        "parents",
        "continues",
        "measurements",
        "error",
        "change",
    )
]
_INSERT = _trials.insert()
_COUNT_TRIAL = (
    _studies.update()
    .where(_studies.c.id == sa.bindparam("key"), _studies.c.trials == sa.bindparam("next"))
    .values(trials=_studies.c.trials + 1, changes=_studies.c.changes + 1)
    .returning(_studies.c.changes)
)
_COUNT_CHANGE = (
    _studies.update()
    .where(_studies.c.id == sa.bindparam("key"))
    .values(changes=_studies.c.changes + 1)
    .returning(_studies.c.changes)
)
_SPEND = (
    _studies.update()
    .where(_studies.c.id == sa.bindparam("key"))
    .values(spent=_studies.c.spent + sa.bindparam("seconds"))
    .returning(_studies.c.spent)
)
_RUNNING_TRIAL = sa.and_(
    _trials.c.study == sa.bindparam("key"),
    _trials.c.number == sa.bindparam("trial"),
    _trials.c.state == State.RUNNING.value,
)
_RECORD = (
    _trials.update()
    .where(_RUNNING_TRIAL)
    .values(measurements=_trials.c.measurements + sa.bindparam("lines"))
)
_FINISH = (
    _trials.update()
    .where(_RUNNING_TRIAL, _trials.c.owner == sa.bindparam("holder"))
    .values(
        state=sa.bindparam("new_state"),
        error=sa.bindparam("why"),
        measurements=_trials.c.measurements + sa.bindparam("lines"),
        owner=None,
        expires=None,
        change=sa.bindparam("new_change"),
    )
    .returning(*_SHOWN)
)
_NEWS = (
    sa.select(*_SHOWN)
    .where(_trials.c.study == sa.bindparam("key"), _trials.c.change > sa.bindparam("since"))
    .order_by(_trials.c.change)
)
_LEASES = sa.select(_trials.c.number, _trials.c.owner, _trials.c.expires).where(
    _trials.c.study == sa.bindparam("key"), _trials.c.state == sa.bindparam("running")
)
