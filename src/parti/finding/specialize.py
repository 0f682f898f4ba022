"""What is asked when another network is taken from the supernet of a finished search."""

from __future__ import annotations

from typing import Any

from parti.core.errors import InvalidSettings, StoreError
from parti.core.protocols import Store
from parti.finding.files import study_folder
from parti.finding.settings import Settings, settings_of

__all__ = ["check_supernet", "specialized_settings"]

DEFAULT_SECONDS = 300.0
"""The budget when none is given."""

TAKEN = (
    *("data", "image_size", "image_column", "label_column", "space", "recipe"),
    *("objectives", "device", "devices", "predict_latency", "runtime", "precision", "seed"),
)
"""Settings that are those of the study whose supernet is used."""


def specialized_settings(store: Store, study: str, **changes: Any) -> Settings:
    """Return the settings for another network from the supernet of a study.

    Args:
        store: keeps the study.
        study: its name; or that of a study that was specialized itself.
        changes: fields of `Settings`; limits replace those of the study.

    Raises:
        InvalidSettings: a value is not allowed, or the study has no supernet.
    """
    kept = settings_of(**store.study(study).settings)
    if kept.recipe is None:
        raise InvalidSettings(
            f"study {study!r} has no supernet, since each of its networks was trained by itself; "
            "search with one first, as parti search DATA --recipe single-path"
        )
    changes = dict(changes)
    if changes.get("trials") is None and changes.get("seconds") is None:
        changes["seconds"] = DEFAULT_SECONDS
    return settings_of(
        **{name: getattr(kept, name) for name in TAKEN},
        **{name: value for name, value in changes.items() if value is not None},
        supernet_of=kept.supernet_of or study,
        baselines=False,
    )


def check_supernet(settings: Settings, store: Store, store_url: str) -> None:
    """See that the study whose supernet is asked for is finished.

    Its test split is opened when it ends; before, a second network would be tested first.

    Raises:
        StoreError: it is not finished.
    """
    owner = str(settings.supernet_of)
    store.study(owner)
    if not (study_folder(store_url, owner) / "result.json").exists():
        raise StoreError(f"study {owner!r} is not finished; go on with: parti resume {owner}")
