"""Comparing strategies: what counts, what is found, and what may be said of it."""

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tests import comparing_toys as toys

from parti import Architecture, Proposal
from parti.comparing import Settings, compare, standings
from parti.comparing.code import code_digest
from parti.comparing.comparison import Progress
from parti.comparing.contenders import Contender, contenders_of
from parti.comparing.incumbent import near
from parti.comparing.journal import Journal
from parti.comparing.run import Run
from parti.comparing.runs import Task, open_problem, run_task
from parti.comparing.watched import MOST_REPEATS, Watched
from parti.comparing.writing import to_json, to_markdown, to_svg, write_comparison
from parti.core.errors import InvalidSettings, StoreError
from parti.core.trial import Measurement, State, Trial
from parti.loop import search
from parti.tables.problem import Problem

TOYS = "tests.comparing_toys"
DIGITS = f"{TOYS}:load"
LEVELS = f"{TOYS}:load_levels"
FRONT = f"{TOYS}:load_front"
LIMITED = f"{TOYS}:load_limited"


def member(a: int, b: int, c: int) -> Architecture:
    return Architecture({"a": a, "b": b, "c": c})


def watched(problem: Problem, proposals: list[Proposal], settings: Settings, **keys) -> Watched:
    study = problem.study(seed=0)
    watch = Watched(toys.Scripted(proposals, **keys), problem, study, settings)
    search(study, watch, problem.evaluator(seed=0, oracle=settings.oracle))
    return watch


# --- what counts -----------------------------------------------------------------------------


def test_isomorphic_architectures_are_one_evaluation_and_no_news():
    problem = open_problem(DIGITS)
    asked = [member(0, 0, 3), member(3, 0, 0), member(0, 3, 0), member(1, 1, 1), member(2, 2, 2)]
    found = watched(problem, [Proposal(a) for a in asked], Settings(evaluations=2, oracle=True))
    assert found.evaluations == 2  # and the third was not begun
    assert found.trials == 4
    assert found.ended == "evaluations"
    assert found.seconds == 180.0  # repeats were free
    assert found.changes == [(1, 90.0, 6.0)]


def test_repeats_may_be_paid():
    settings = Settings(evaluations=None, seconds=200.0, oracle=True, repeats="paid")
    asked = [Proposal(member(0, 0, 3))] * 4
    found = watched(open_problem(DIGITS), asked, settings)
    assert (found.evaluations, found.seconds, found.ended) == (1, 200.0, "seconds")


def test_what_is_not_done_in_time_does_not_count():
    asked = [Proposal(member(1, 1, 1)), Proposal(member(2, 2, 2)), Proposal(member(3, 3, 3))]
    settings = Settings(evaluations=None, seconds=200.0, oracle=True)
    found = watched(open_problem(DIGITS), asked, settings)
    assert found.evaluations == 2
    assert found.changes[-1] == (2, 180.0, 3.0)
    assert found.seconds == 200.0


def test_failed_ones_count_and_rejected_ones_do_not():
    asked = [Proposal(member(0, 0, 1)), Proposal(member(0, 0, 2)), Proposal(member(1, 1, 1))]
    found = watched(open_problem(DIGITS), asked, Settings(oracle=True))
    assert (found.evaluations, found.failed, found.trials) == (2, 1, 3)
    assert found.ended == "exhausted"


def test_who_only_repeats_is_stopped():
    found = watched(open_problem(DIGITS), [Proposal(member(1, 1, 1))], Settings(), forever=True)
    assert (found.ended, found.evaluations, found.trials) == ("repeats", 1, MOST_REPEATS + 1)


def test_a_promotion_costs_the_difference_and_is_no_evaluation():
    one = member(1, 1, 1)
    asked = [Proposal(one, 1), Proposal(one, 3, continues=0), Proposal(one, 9, continues=1)]
    found = watched(open_problem(LEVELS), asked, Settings(evaluations=1))
    assert found.evaluations == 1
    assert found.trials == 3
    assert found.seconds == 90.0


# --- the incumbent ---------------------------------------------------------------------------


def told(problem: Problem, *seen: tuple[Architecture, float, int | None]) -> list[float]:
    """The regret after each of some trials, told as (architecture, accuracy seen, fidelity)."""
    found = Watched(toys.Scripted([]), problem, problem.study(seed=0), Settings())
    regrets = []
    for number, (architecture, value, fidelity) in enumerate(seen):
        metrics = {**problem.truths(architecture), "val_accuracy": value}
        proposal = Proposal(architecture, fidelity)
        found.tell(Trial(number, proposal, State.DONE, (Measurement(metrics),)))
        regrets.append(found.changes[-1][2] if found.changes else math.inf)
    return regrets


def test_the_search_chooses_by_what_it_saw_and_is_judged_by_the_truth():
    regrets = told(
        open_problem(DIGITS),
        (member(3, 3, 2), 91.0, None),  # true regret 1, seen badly
        (member(0, 0, 0), 98.0, None),  # true regret 9, seen too well
        (member(3, 3, 3), 97.0, None),
    )
    assert regrets == [1, 9, 9]


def test_a_higher_fidelity_takes_over():
    regrets = told(
        open_problem(LEVELS),
        (member(3, 3, 3), 99.0, 1),
        (member(1, 1, 1), 93.0, 3),
        (member(3, 3, 2), 99.5, 1),
        (member(2, 2, 2), 96.0, None),  # the default: 9
    )
    assert regrets == [0, 6, 6, 3]


def test_what_breaks_a_constraint_is_no_incumbent():
    regrets = told(
        open_problem(LIMITED), (member(3, 3, 3), 99.0, None), (member(1, 1, 1), 93.0, None)
    )
    assert regrets == [math.inf, 1.0]


def test_the_regret_of_a_front_is_the_hypervolume_it_leaves_out():
    problem = open_problem(FRONT)
    sums = {(0, 0, 0): 0, (1, 1, 1): 3, (3, 3, 3): 9}
    regrets = told(problem, *((member(*d), 90.0 + s, None) for d, s in sums.items()))
    # Scaled to the true front: accuracy loss 1 - s/9, latency s²/81, reference 1.1 in both.
    points = [(1 - s / 9, s * s / 81) for s in range(10)]

    def volume(front: list[tuple[float, float]]) -> float:
        corners = [*sorted(front), (1.1, 0.0)]
        return sum((right[0] - left[0]) * (1.1 - left[1]) for left, right in pairwise(corners))

    for count, regret in enumerate(regrets, start=1):
        seen = [points[s] for s in list(sums.values())[:count]]
        assert regret == pytest.approx(1 - volume(seen) / volume(points))
    everything = [(member(*d), 90.0 + sum(d), None) for d in np.ndindex(4, 4, 4)]
    assert told(problem, *everything)[-1] == pytest.approx(0, abs=1e-12)


def test_what_is_near_depends_on_the_metric():
    assert near(open_problem(DIGITS)) == (0.1, "0.1 points of accuracy")
    assert near(open_problem(FRONT))[0] == 0.001
    latency = replace(open_problem(FRONT), objectives=open_problem(FRONT).objectives[1:])
    assert near(latency)[0] == pytest.approx(0.081)


def test_oracle_mode_counts_to_the_evaluation_of_the_best():
    task = Task(f"{TOYS}:by_score", DIGITS, 0, Settings(evaluations=20, oracle=True, scores=False))
    run = run_task(task)  # the listing meets (3, 3, 3) last of 20 distinct ones, one is rejected
    assert run.spent_to(0.0, "evaluations") == 19
    assert run.ended == "exhausted"
    fast = run_task(replace(task, settings=replace(task.settings, scores=True)))
    assert fast.spent_to(0.0, "evaluations") == 1


# --- contenders ------------------------------------------------------------------------------


def test_hyper_parameters_are_read():
    contender = Contender("evolution:population=20,tournament=5")
    assert contender.strategy == "evolution"
    assert contender.arguments == {"population": 20, "tournament": 5}
    own = Contender("a/b.py:Mine:rate=0.5,flag=true,mode=fast,most=none")
    assert own.strategy == "a/b.py:Mine"
    assert own.label == "Mine:rate=0.5,flag=true,mode=fast,most=none"
    assert own.arguments == {"rate": 0.5, "flag": True, "mode": "fast", "most": None}


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("evolution:population=", None),
        ("evolution:space=3", "none of space, study"),
        ("evolution:population=2,population=3", "each key once"),
        ("evolution:poplation=3", "there are population, tournament"),
        ("nothing", "no strategy 'nothing'; choose one of"),
        (f"{TOYS}:needs_more", "cannot be compared without budget"),
        (f"{TOYS}:not_a_strategy", "made from a space and a study"),
    ],
)
def test_what_cannot_be_compared_says_why(spec, says):
    if says is None:
        assert Contender(spec).arguments == {"population": ""}
        return
    with pytest.raises(InvalidSettings, match=says):
        contenders_of([spec])


def test_all_stands_for_what_needs_no_more():
    named = [contender.spec for contender in contenders_of(["evolution", "all"])]
    assert named[0] == "evolution"
    assert "random" in named
    assert "list" not in named
    assert len(set(named)) == len(named)
    with pytest.raises(InvalidSettings, match="named twice: random"):
        contenders_of(["random", "random"])
    with pytest.raises(InvalidSettings, match="nothing to compare"):
        contenders_of([])


def test_a_contender_is_offered_what_the_problem_has():
    levels, plain = open_problem(LEVELS), open_problem(DIGITS)
    random = Contender("random").make(levels, levels.study(seed=0), oracle=False, scores=True)
    proposal = random.ask()
    assert proposal is not None
    assert proposal.fidelity == 9
    halving = Contender("parti.strategies.successive_halving:SuccessiveHalving")
    made = halving.make(levels, levels.study(seed=0), oracle=False, scores=True)
    proposal = made.ask()
    assert proposal is not None
    assert proposal.fidelity == 1
    assert halving.unfit(levels, oracle=False) is None
    assert halving.unfit(levels, oracle=True) == "needs several fidelities"
    assert halving.unfit(plain, oracle=False) == "needs several fidelities"


def test_who_cannot_begin_is_left_out_and_the_others_go_on():
    spec = "evolution:population=0"
    found = compare(["random", spec], [DIGITS], seeds=1, settings=Settings(3))
    assert "at least 1" in found.unfit[spec, DIGITS]
    assert list(found.runs) == [("random", DIGITS)]
    with pytest.raises(InvalidSettings, match="nobody can be compared: evolution:population=0 on"):
        compare([spec], [DIGITS], seeds=1)


def test_the_digest_follows_imports(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "parti_toy_strategy.py"
    file.write_text("def f():\n    from parti.strategies import random_search\n")
    before = code_digest(["parti_toy_strategy"])
    assert before == code_digest(["parti_toy_strategy"])
    assert before != code_digest(["parti.strategies.random_search"])
    file.write_text("def f():\n    from parti.strategies import ranking\n")
    assert before != code_digest(["parti_toy_strategy"])


# --- the whole -------------------------------------------------------------------------------

BOTH = ["random", f"{TOYS}:by_score"]


def outcomes(comparison) -> dict:
    return {
        pair: [replace(run, ask_ms=(0, 0, 0)) for run in runs]
        for pair, runs in comparison.runs.items()
    }


def test_the_same_command_gives_the_same_numbers_in_any_number_of_processes():
    settings = Settings(evaluations=8)
    one = compare(BOTH, [DIGITS, LEVELS], seeds=3, settings=settings)
    two = compare(BOTH, [DIGITS, LEVELS], seeds=3, settings=settings, workers=2)
    assert outcomes(one) == outcomes(two)
    assert len({run.changes for run in one.runs["random", DIGITS]}) > 1  # seeds differ


def test_a_comparison_goes_on_where_it_was_killed(tmp_path):
    seen: list[Progress] = []
    settings = Settings(evaluations=5)

    def stop(progress: Progress) -> None:
        if progress.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(["random"], [DIGITS], seeds=6, settings=settings, out=tmp_path, watch=stop)
    file = tmp_path / "runs.jsonl"
    file.write_text(file.read_text() + '{"of": {"contender": "ran')  # killed while it wrote
    whole = compare(
        ["random"], [DIGITS], seeds=6, settings=settings, out=tmp_path, watch=seen.append
    )
    assert (seen[0].known, seen[0].total) == (3, 6)
    assert outcomes(whole) == outcomes(compare(["random"], [DIGITS], seeds=6, settings=settings))
    seen.clear()
    compare(BOTH, [DIGITS], seeds=6, settings=settings, out=tmp_path, watch=seen.append)
    assert (seen[0].known, seen[0].total) == (6, 12)  # only the new one runs
    seen.clear()
    other = Settings(evaluations=6)
    compare(["random"], [DIGITS], seeds=6, settings=other, out=tmp_path, watch=seen.append)
    assert seen[0].known == 0


def test_a_journal_that_is_something_else_is_refused(tmp_path):
    file = tmp_path / "runs.jsonl"
    file.write_text("{}\n")
    with pytest.raises(StoreError, match="line 1 is not a run"):
        Journal(file)


def test_a_run_survives_json():
    run = Run("random", DIGITS, 3, 5, 6, 1, 450.0, "evaluations", ((1, 90.0, math.inf), (2, 9, 1)))
    text = json.dumps(run.to_dict(), allow_nan=False)
    assert Run.from_dict(json.loads(text)) == run


def test_a_contender_that_breaks_is_shown_and_ranks_last(tmp_path):
    found = compare(
        ["random", f"{TOYS}:crash"], [DIGITS], seeds=4, settings=Settings(8), out=tmp_path
    )
    assert {run.error for run in found.failures} == {"RuntimeError: out of ideas"}
    assert "out of ideas" not in (tmp_path / "runs.jsonl").read_text()  # it will be tried again
    best, worst = standings(found).problems[0].rows
    assert (best.contender, worst.contender) == ("random", "crash")
    assert (worst.errors, worst.regret.median, worst.found) == (4, math.inf, 0)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"seeds": 0}, "at least one"),
        ({"problems": []}, r"\(none\)"),
        ({"problems": [DIGITS, DIGITS]}, "each problem once"),
        ({"problems": ["nasbench999/x"]}, "nasbench999"),
    ],
)
def test_a_comparison_of_nothing_is_refused(arguments, says):
    with pytest.raises(InvalidSettings, match=says):
        compare(**{"contenders": ["random"], "problems": [DIGITS], **arguments})


@pytest.mark.parametrize("limits", [(None, None), (0, None), (5, -1.0)])
def test_a_comparison_without_end_is_refused(limits):
    with pytest.raises(InvalidSettings, match="more than 0"):
        Settings(*limits)


# --- what is said of it ----------------------------------------------------------------------


def run_with(seed: int, *changes: tuple[int, float, float], spent: int = 10) -> Run:
    return Run("random", DIGITS, seed, spent, spent, 0, spent * 90.0, "evaluations", changes)


def test_standings_say_what_the_runs_say():
    found = compare(["random", "evolution"], [DIGITS], seeds=2, settings=Settings(10, oracle=True))
    good = tuple(run_with(seed, (1, 90.0, 5.0), (4, 360.0, 0.0)) for seed in range(20))
    late = [run_with(seed, (1, 90.0, 5.0), (9, 810.0, 0.05)) for seed in range(20)]
    late[:4] = [run_with(seed, (2, 180.0, 0.0)) for seed in range(4)]
    found = replace(
        found, seeds=20, runs={("random", DIGITS): good, ("evolution", DIGITS): tuple(late)}
    )
    said = standings(found)
    first, second = said.problems[0].rows
    assert first.contender == "random"
    assert (first.to_best.median, first.to_best.low, first.to_best.high) == (4, 4, 4)
    assert second.to_best.median == math.inf
    assert second.to_near.median == 9
    assert second.seconds_to_near.median == 810
    assert (first.found, second.found) == (1.0, 0.2)
    assert first.rank == pytest.approx(1.2)  # evolution was sooner with 4 seeds of 20
    assert first.p == 1.0
    assert second.p < 0.05
    assert [rank.contender for rank in said.ranks] == ["random", "evolution"]
    assert first.by_evaluations.spent[[0, -1]].tolist() == [1, 10]
    assert first.by_evaluations.median[[0, -1]].tolist() == [5, 0]
    text = to_markdown(found, said, "parti compare random evolution", "chart.svg")
    assert "| random | 1.20 | 4 | 4 | 100% | 0 |" in text
    assert "| >10 | 9 | 20% | 0.05 |" in text


def test_a_curve_ends_where_the_first_run_was_stopped():
    found = compare(["random"], [DIGITS], seeds=2, settings=Settings(10))
    runs = (run_with(0, (1, 90.0, 5.0), spent=4), run_with(1, (1, 90.0, 3.0), spent=10))
    said = standings(replace(found, runs={("random", DIGITS): runs}))
    assert said.problems[0].rows[0].by_evaluations.spent[-1] == 4
    ended = (replace(runs[0], ended="exhausted"), runs[1])
    said = standings(replace(found, runs={("random", DIGITS): ended}))
    assert said.problems[0].rows[0].by_evaluations.spent[-1] == 10


def test_the_files_of_a_comparison_can_be_read(tmp_path):
    names = [DIGITS, LEVELS, FRONT]
    halving = "parti.strategies.successive_halving:SuccessiveHalving"
    found = compare([*BOTH, halving], names, seeds=6, settings=Settings(6))
    said = standings(found)
    assert said.problems[0].unfit == (("SuccessiveHalving", "needs several fidelities"),)
    assert {rank.contender for rank in said.ranks} == {"random", "by_score"}
    command = "parti compare random"
    files = write_comparison(tmp_path / "new", found, said, command)
    assert sorted(file.name for file in files) == [
        "comparison.json", "evaluations.svg", "leaderboard.md", "seconds.svg"
    ]  # fmt: skip
    data = json.loads((tmp_path / "new" / "comparison.json").read_text())
    assert data == to_json(found, said)
    assert data["problems"][0]["rows"][0]["by_evaluations"]["spent"][-1] == 6
    for by in ("evaluations", "seconds"):
        tree = ElementTree.fromstring((tmp_path / "new" / f"{by}.svg").read_text())
        titles = [element.text for element in tree.iter() if element.get("class") == "title"]
        assert titles == names
        assert "nan" not in str(to_svg(said, by))
    page = (tmp_path / "new" / "leaderboard.md").read_text()
    assert "by_score ⚡" in page
    assert "Left out: SuccessiveHalving (needs several fidelities)." in page
    assert command in page


def test_paths_of_own_problems_and_strategies(tmp_path):
    source = Path(toys.__file__).read_text()
    (tmp_path / "own_toys_for_comparing.py").write_text(source)
    place = tmp_path / "own_toys_for_comparing.py"
    found = compare([f"{place}:stubborn:digit=3"], [f"{place}:load"], seeds=1)
    (run,) = found.runs[f"{place}:stubborn:digit=3", f"{place}:load"]
    assert (run.ended, run.evaluations, run.regret) == ("repeats", 1, 0.0)
    assert found.contenders[0].label == "stubborn:digit=3"
