"""Every error that parti raises on purpose.

Each message says what was got, what is allowed, and what to do next.

    PartiError
    ├── SpaceError              a space program breaks the rules of its four words
    ├── InvalidArchitecture     an architecture is not a member of the space
    ├── InvalidStudy            objectives, constraints or budget cannot work together
    ├── InvalidSettings         an option or argument from the user is not allowed
    ├── InvalidData             the data set cannot be used as it is
    ├── StoreError              the store cannot be opened, or holds something else
    │   └── Conflict            another process was faster; look again and retry
    └── TrialError              one trial could not be measured; the search goes on
        ├── Rejected            it breaks a constraint: it was not trained
        └── Diverged            its training produced NaN or infinity
"""

from __future__ import annotations

__all__ = [
    "Conflict",
    "Diverged",
    "InvalidArchitecture",
    "InvalidData",
    "InvalidSettings",
    "InvalidStudy",
    "PartiError",
    "Rejected",
    "SpaceError",
    "StoreError",
    "TrialError",
]


class PartiError(Exception):
    """The root of parti's errors: catch it to catch them all."""


class SpaceError(PartiError):
    """A space program breaks the rules of its four words."""


class InvalidArchitecture(PartiError):
    """An architecture is not a member of the space."""


class InvalidStudy(PartiError):
    """Objectives, constraints or budget cannot work together."""


class InvalidSettings(PartiError):
    """An option or argument from the user is not allowed."""


class InvalidData(PartiError):
    """The data set cannot be used as it is."""


class StoreError(PartiError):
    """The store cannot be opened, or holds something else than was asked for."""


class Conflict(StoreError):
    """Another process was faster: look at the store again and retry."""


class TrialError(PartiError):
    """One trial could not be measured; the search records the reason and goes on."""


class Rejected(TrialError):
    """The architecture breaks a constraint, so it was not trained."""


class Diverged(TrialError):
    """Training produced NaN or infinity."""
