"""Strategies decide what to measure next; each is a fold over trials, one paper a file.

What they share: `memory` (what is known, and random numbers), `ranking` (which trial is better),
`models` (regression), `breeding` (crossover and mutation), `rungs` (brackets of fidelities),
`controller` and its parts (policies), `pareto` (fronts and hypervolumes).
"""

from __future__ import annotations

__all__ = ["STRATEGIES"]

STRATEGIES = {
    "auto": "parti.strategies.auto:Auto",
    "random": "parti.strategies.random_search:RandomSearch",
    "exhaustive": "parti.strategies.exhaustive:Exhaustive",
    "local-search": "parti.strategies.local_search:LocalSearch",
    "annealing": "parti.strategies.simulated_annealing:SimulatedAnnealing",
    "genetic": "parti.strategies.genetic:GeneticAlgorithm",
    "evolution": "parti.strategies.regularized_evolution:RegularizedEvolution",
    "nsga2": "parti.strategies.nsga2:NSGA2",
    "reinforce": "parti.strategies.reinforce:Reinforce",
    "ppo": "parti.strategies.ppo:PPO",
    "metaqnn": "parti.strategies.metaqnn:MetaQNN",
    "tpe": "parti.strategies.tpe:TPE",
    "gp": "parti.strategies.gaussian_process:GaussianProcess",
    "bananas": "parti.strategies.bananas:Bananas",
    "npenas": "parti.strategies.npenas:Npenas",
    "successive-halving": "parti.strategies.successive_halving:SuccessiveHalving",
    "hyperband": "parti.strategies.hyperband:Hyperband",
    "asha": "parti.strategies.asha:ASHA",
    "bohb": "parti.strategies.bohb:BOHB",
    "ehvi": "parti.strategies.ehvi:ExpectedHypervolume",
    "parego": "parti.strategies.parego:ParEGO",
    "list": "parti.strategies.listed:Listed",
}
"""Built-in strategies by name, loaded on use."""
