"""Neural architecture search: define a space, search it, evaluate, apply.

Public names are loaded on first use, so that `import parti` is instant and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOME = {
    # spaces as programs
    "space": "parti.core.program",
    "choose": "parti.core.words",
    "one_of": "parti.core.words",
    "some_of": "parti.core.words",
    "repeat": "parti.core.words",
    "scope": "parti.core.words",
    "computed": "parti.core.elastic",
    "select": "parti.core.elastic",
    "Joint": "parti.core.joint",
    # what can be done with a space
    "architectures": "parti.core.walks",
    "canonical": "parti.core.walks",
    "choices": "parti.core.walks",
    "crossover": "parti.core.walks",
    "distance": "parti.core.walks",
    "mutate": "parti.core.walks",
    "neighbours": "parti.core.walks",
    "sample": "parti.core.walks",
    "size": "parti.core.walks",
    "validate": "parti.core.walks",
    # the vocabulary
    "Architecture": "parti.core.architecture",
    "Choice": "parti.core.choice",
    "Budget": "parti.core.study",
    "Constraint": "parti.core.study",
    "Objective": "parti.core.study",
    "Study": "parti.core.study",
    "best": "parti.core.study",
    "pareto_front": "parti.core.study",
    "Job": "parti.core.trial",
    "Measurement": "parti.core.trial",
    "Proposal": "parti.core.trial",
    "State": "parti.core.trial",
    "Trial": "parti.core.trial",
    # all of its networks at once
    "supernet": "parti.supernets.share",
    "activate": "parti.supernets.subnets",
    "extract": "parti.supernets.subnets",
    "mix": "parti.supernets.subnets",
    "derive": "parti.supernets.derive",
    # searching
    "search": "parti.loop",
    "find": "parti.finding",
}

__all__ = [*_HOME, "__version__"]

if TYPE_CHECKING:
    from parti.core.architecture import Architecture as Architecture
    from parti.core.choice import Choice as Choice
    from parti.core.elastic import computed as computed
    from parti.core.elastic import select as select
    from parti.core.joint import Joint as Joint
    from parti.core.program import space as space
    from parti.core.study import Budget as Budget
    from parti.core.study import Constraint as Constraint
    from parti.core.study import Objective as Objective
    from parti.core.study import Study as Study
    from parti.core.study import best as best
    from parti.core.study import pareto_front as pareto_front
    from parti.core.trial import Job as Job
    from parti.core.trial import Measurement as Measurement
    from parti.core.trial import Proposal as Proposal
    from parti.core.trial import State as State
    from parti.core.trial import Trial as Trial
    from parti.core.walks import architectures as architectures
    from parti.core.walks import canonical as canonical
    from parti.core.walks import choices as choices
    from parti.core.walks import crossover as crossover
    from parti.core.walks import distance as distance
    from parti.core.walks import mutate as mutate
    from parti.core.walks import neighbours as neighbours
    from parti.core.walks import sample as sample
    from parti.core.walks import size as size
    from parti.core.walks import validate as validate
    from parti.core.words import choose as choose
    from parti.core.words import one_of as one_of
    from parti.core.words import repeat as repeat
    from parti.core.words import scope as scope
    from parti.core.words import some_of as some_of
    from parti.supernets.derive import derive as derive
    from parti.supernets.share import supernet as supernet
    from parti.supernets.subnets import activate as activate
    from parti.supernets.subnets import extract as extract
    from parti.supernets.subnets import mix as mix


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'parti' has no attribute {name!r}")
    found = getattr(import_module(_HOME[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
