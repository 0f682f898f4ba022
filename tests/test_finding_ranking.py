"""The winner is what was asked for: the smallest network where the smallest was."""

from parti.core.architecture import Architecture
from parti.core.study import Constraint, Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.finding.ranking import best_first, loss_when_trained

ACCURACY, SIZE = Objective("val_accuracy", "max"), Objective("params", "min")


def trial(number: int, params: float, accuracy: float, of: int | None = None) -> Trial:
    architecture = Architecture({"a": number if of is None else of})
    measured = Measurement({"params": params, "val_accuracy": accuracy})
    return Trial(number, Proposal(architecture), State.DONE, (measured,))


TRIALS = [trial(0, 900, 0.97), trial(1, 100, 0.90), trial(2, 100, 0.93), trial(3, 50, 0.60)]


def ranked(objectives: tuple[Objective, ...], *limits: Constraint) -> list[int]:
    study = Study("s", objectives, limits)
    return [trial.number for trial in best_first(study, TRIALS)]


def test_the_objective_ranks_and_accuracy_decides_between_equals() -> None:
    assert ranked((ACCURACY,)) == [0, 2, 1, 3]
    assert ranked((SIZE,)) == [3, 2, 1, 0]


def test_what_breaks_a_limit_is_not_ranked() -> None:
    assert ranked((SIZE,), Constraint("val_accuracy", at_least=0.9)) == [2, 1, 0]


def test_of_several_objectives_the_front_comes_first() -> None:
    assert ranked((ACCURACY, SIZE)) == [0, 2, 3, 1]


def test_an_architecture_is_ranked_once_by_its_better_trial() -> None:
    study = Study("s", (SIZE,))
    trials = [*TRIALS, trial(4, 40, 0.5, of=3)]
    assert [t.number for t in best_first(study, trials)] == [4, 2, 1, 0]


def test_a_trained_finalist_that_breaks_a_limit_comes_after_those_that_keep_to_it() -> None:
    study = Study("s", (SIZE,), (Constraint("val_accuracy", at_least=0.92),))
    order = sorted(TRIALS, key=lambda t: loss_when_trained(study, t))
    assert [t.number for t in order] == [2, 0, 3, 1]
