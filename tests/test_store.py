from pathlib import Path

import pytest

from parti.core.errors import StoreError
from parti.core.protocols import Store
from parti.stores import open_store
from parti.stores.memory import MemoryStore
from parti.stores.sql import SqlStore
from parti.testing import StoreSuite


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
