"""What a finished search teaches, as an entry of its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from parti.explaining.explain import explain

if TYPE_CHECKING:
    from parti.finding.desk import Desk
    from parti.finding.stages import Searched

__all__ = ["explained"]


def explained(desk: Desk, searched: Searched, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the explanation of a result; `docs/result.md` lists what is in it.

    A search of hours is never lost to an explanation: where one cannot be given, the error is
    kept in its place.

    Args:
        desk: what the search worked with.
        searched: what its stages left.
        result: everything else that is written down.
    """
    try:
        return explain(
            searched.study,
            searched.trials,
            result,
            asked=desk.settings.model_dump(mode="json", exclude_defaults=True),
            space=desk.space,
            count=desk.costs,
        )
    except Exception as error:  # noqa: BLE001
        desk.watcher.say(f"the result could not be explained: {type(error).__name__}: {error}")
        return {"error": f"{type(error).__name__}: {error}"}
