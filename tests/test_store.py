from contextlib import closing
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from sqlite3 import connect

import pytest

from parti.core.errors import StoreError
from parti.core.protocols import Store
from parti.stores import open_store
from parti.stores.memory import MemoryStore
from parti.stores.sql import SqlStore
from parti.testing import StoreSuite


def opened(url: str, start: Barrier) -> None:
    start.wait()
    store = SqlStore(url)
    store.create(StoreSuite.study)
    store.close()


class TestMemoryStore(StoreSuite):
    @pytest.fixture
    def store(self) -> Store:
        return MemoryStore()


class TestSqlStore(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path):
        store = SqlStore(f"sqlite:///{tmp_path}/studies.db")
        yield store
        store.close()

    def test_two_connections_see_the_same(self, tmp_path: Path) -> None:
        one, two = (SqlStore(f"sqlite:///{tmp_path}/studies.db") for _ in range(2))
        one.create(self.study)
        self.add(one, 0)
        assert two.study(self.study.name) == self.study
        assert two.trials(self.study.name) == one.trials(self.study.name)
        one.close()
        two.close()

    def test_many_processes_may_open_a_new_file_at_once(self, tmp_path: Path) -> None:
        fork = get_context("fork")
        for attempt in range(5):
            url, start = f"sqlite:///{tmp_path}/{attempt}.db", fork.Barrier(4)
            openers = [fork.Process(target=opened, args=(url, start)) for _ in range(4)]
            for process in openers:
                process.start()
            for process in openers:
                process.join(60)
            assert [process.exitcode for process in openers] == [0] * 4
            store = SqlStore(url)
            assert store.studies() == [self.study.name]
            store.close()
            with closing(connect(tmp_path / f"{attempt}.db")) as file:
                assert file.execute("SELECT count(*) FROM parti_schema").fetchone() == (1,)

    def test_a_newer_schema_is_refused(self, tmp_path: Path) -> None:
        import sqlalchemy as sa

        url = f"sqlite:///{tmp_path}/studies.db"
        SqlStore(url).close()
        engine = sa.create_engine(url)
        with engine.begin() as run:
            run.execute(sa.text("UPDATE parti_schema SET version = 99"))
        engine.dispose()
        with pytest.raises(StoreError, match="newer parti"):
            SqlStore(url)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("studies.db", "sqlite:///studies.db"),
        ("sqlite:////no/such/folder/x.db", "folder must exist"),
        ("nosuch://x", "cannot be opened"),
    ],
)
def test_a_wrong_url_is_a_clear_error(url: str, hint: str) -> None:
    with pytest.raises(StoreError, match=hint):
        open_store(url)


def test_memory_by_url() -> None:
    assert isinstance(open_store("memory://"), MemoryStore)
