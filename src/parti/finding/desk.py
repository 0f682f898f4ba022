"""Everything that the stages of a search share: settings, data, space, store and folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from random import Random
from typing import Any

from parti.core.architecture import Architecture
from parti.core.errors import TrialError
from parti.core.protocols import Evaluator, Store, Strategy
from parti.core.study import Budget, Study
from parti.core.trial import Job, Trial
from parti.core.walks import sample
from parti.evaluators.complexity import Complexity
from parti.evaluators.predicted_latency import Measuring, PredictedLatency
from parti.evaluators.recipe import Recipe, default_recipe
from parti.evaluators.staged import Staged
from parti.evaluators.training import Training
from parti.executors import Processes
from parti.finding.attain import attainable
from parti.finding.devices import search_latency
from parti.finding.files import write_json
from parti.finding.fixed import fixed
from parti.finding.given import Given
from parti.finding.plan import MOST_FINAL_EPOCHS, Plan, plan_search, seconds_per_image
from parti.finding.robust import robust, robust_training
from parti.finding.settings import Settings
from parti.finding.sharing import Sharing, recipe_of
from parti.finding.transfer import Initialized, Source, load_source, starting
from parti.finding.watch import Watcher
from parti.loop import search
from parti.networks.known import default_known
from parti.recipes.recipe import SupernetRecipe
from parti.spaces.catalogue import default_space, load_space
from parti.tasks.images import read_images
from parti.tasks.splits import load_splits, part_of, save_splits, search_data, split, test_data
from parti.tasks.values import ImageData, SearchData, Splits, TestData

__all__ = ["Desk"]

FEWEST_VAL_IMAGES = 2_000
"""A trial on a part of the training images is validated on a part too, but not on fewer."""

SMALL_BATCH = 2**16
"""Pixels in a batch below which one thread is as good as two."""


@dataclass
class Desk:
    """What a search works with.

    Args:
        settings: what was asked.
        given: data, space and strategy, where they were given as objects.
        name: of the study.
        store: keeps the trials.
        folder: keeps everything else.
        workers: how many jobs run at once.
        watcher: shows the course.
    """

    settings: Settings
    given: Given
    name: str
    store: Store
    folder: Path
    workers: int
    watcher: Watcher
    _counted: dict[Architecture, Mapping[str, float]] = field(default_factory=dict)

    # --- data ---

    @cached_property
    def data(self) -> ImageData:
        """The images."""
        return read_images(
            self.given.data,
            image_size=self.settings.image_size,
            image_column=self.settings.image_column,
            label_column=self.settings.label_column,
            cache=self.folder / "cache",
        )

    @cached_property
    def splits(self) -> Splits:
        """The splits, as they were saved with the study, else new ones."""
        file = self.root / "splits.npz"
        if file.exists():
            return load_splits(file, self.data)
        if self.source is not None and self.continues_data:
            splits = load_splits(self.source.splits, self.data)
        else:
            splits = split(self.data, seed=self.settings.seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_splits(file, splits, self.data)
        return splits

    @cached_property
    def seen(self) -> SearchData:
        """What the search may see: training and validation images."""
        return search_data(self.data, self.splits, self.folder / "cache")

    def sealed(self) -> TestData:
        """The test images. Called once, at the end."""
        return test_data(self.data, self.splits, self.folder / "cache")

    # --- what it starts from ---

    @cached_property
    def source(self) -> Source | None:
        """The study that this one starts from, if it starts from one.

        Raises:
            StoreError: it is not there, or not finished.
        """
        init = self.settings.init
        return None if init is None else load_source(self.store, self.folder, init)

    @cached_property
    def continues_data(self) -> bool:
        """Whether it starts from a study of the same data, whose splits it must keep.

        The weights have been trained on that study's training images: in other splits, some of
        them would be test images.
        """
        return self.source is not None and self.source.fingerprint == self.data.fingerprint

    @cached_property
    def initialized(self) -> Initialized | None:
        """The space, with the weights that it starts from; None where it starts fresh."""
        if self.source is None:
            return None
        useful = self.continues_data or self.source.tells_apart(self.seen.classes)
        return Initialized(self.space, self.source.weights, fresh_head=not useful)

    # --- space, recipe, plan ---

    @property
    def root(self) -> Path:
        """Where splits and supernet are: in the study's folder, or that of another's supernet."""
        owner = self.settings.supernet_of
        return self.folder if owner is None else self.folder.parent / owner

    @cached_property
    def space_name(self) -> str:
        """The space's name."""
        if not isinstance(self.given.space, str):
            return self.settings.space
        if self.settings.space != "auto":
            return self.settings.space
        if self.source is not None:
            return self.source.space_name
        asked = self.asked_recipe
        return default_space(self.seen.input_shape) if asked is None else asked.space

    @cached_property
    def shape(self) -> dict[str, int]:
        """What a network must fit: channels, classes, resolution."""
        channels, height, width = self.seen.input_shape
        return {
            "in_channels": channels,
            "classes": self.seen.class_count,
            "resolution": min(height, width),
        }

    @cached_property
    def space(self) -> Any:
        """What is searched."""
        return self.bound(self.sizes) if self.shared is None else self.shared.space

    @property
    def sizes(self) -> Mapping[str, int]:
        """Further arguments of the space, which a recipe has for its own, or another study had."""
        if self.source is not None and self.source.result["space"]["name"] == self.space_name:
            return self.source.sizes(self.shape)
        return {} if self.shared is None else self.shared.recipe.sizes

    def bound(self, sizes: Mapping[str, int]) -> Any:
        """The space for these images and classes, with further arguments."""
        own = self.given.space
        named = self.space_name if isinstance(own, str) else own
        return load_space(named, **self.shape, **sizes)

    @cached_property
    def asked_recipe(self) -> SupernetRecipe | None:
        """How a supernet is trained, as its authors do; None without one."""
        own = self.given.recipe or self.settings.recipe
        return None if own is None else recipe_of(own)

    @cached_property
    def shared(self) -> Sharing | None:
        """The supernet of this search, if it has one."""
        asked = self.asked_recipe
        if asked is None:
            return None
        if self.space_name != asked.space:
            asked = replace(asked, sizes={})
        return Sharing(
            asked,
            self.settings,
            self.seen,
            self.bound,
            self.member,
            self.root,
            self.threads,
            self.workers,
        )

    @property
    def inherits(self) -> bool:
        """Whether the search measures networks with the weights of a supernet."""
        return self.shared is not None and self.shared.inherits

    @property
    def derives(self) -> bool:
        """Whether a supernet says itself which architectures are best."""
        return self.asked_recipe is not None and self.asked_recipe.derives

    @cached_property
    def fixed(self) -> Any:
        """The well-known network, as a space of one."""
        return fixed(default_known(self.shape["resolution"]), **self.shape)

    def recipe(self, data: SearchData, epochs: int) -> Recipe:
        """How networks are trained: for trials and for the final training, each by its length."""
        return default_recipe(data, epochs)

    @cached_property
    def threads(self) -> int:
        """CPU threads of each training, so that workers share the cores.

        Batches of few pixels are computed on one: a second gains little there, and waiting for
        each other costs a lot as soon as the machine has anything else to do.
        """
        _, height, width = self.seen.input_shape
        batch = self.recipe(self.seen, MOST_FINAL_EPOCHS).batch_size
        small = height * width * batch < SMALL_BATCH
        return 1 if small else max(1, (os.cpu_count() or 1) // self.workers)

    @cached_property
    def plan(self) -> Plan:
        """How much is spent on each trial."""
        network = self.space.build(self.example)
        recipe = self.recipe(self.seen, 1)
        speed = partial(seconds_per_image, network, self.seen, recipe, self.threads)
        file = self.folder / "plan.json"
        return plan_search(self.settings, len(self.seen.train_labels), self.workers, speed, file)

    @cached_property
    def example(self) -> Architecture:
        """A typical member, or the one that is kept.

        Raises:
            InvalidStudy: none keeps to the constraints.
        """
        if self.source is not None and self.settings.keep_architecture:
            return self.source.kept(self.space)
        return self.member(self.space)

    def member(self, space: Any) -> Architecture:
        """One that keeps to the constraints, as far as they can be checked cheaply.

        Raises:
            InvalidStudy: there is none.
        """
        cheap, limits = self.complexity(space), self.settings.study_constraints
        if any(limit.metric in cheap.provides for limit in limits):
            return attainable(space, cheap, limits, self.settings.seed)
        return sample(space, Random(self.settings.seed))

    # --- evaluators ---

    def complexity(self, space: Any) -> Complexity:
        """Counts parameters and operations."""
        return Complexity(space, self.seen.input_shape)

    @cached_property
    def latency(self) -> Measuring | None:
        """Measures or predicts latency, if that is an objective or limited."""
        if self.settings.predict_latency:
            self.watcher.say("measuring some networks to learn how to predict latency ...")
        found = search_latency(
            self.settings, self.space, self.seen, self.folder, self.settings.seed
        )
        if isinstance(found, PredictedLatency):
            self.watcher.say(f"latency is {found.summary}")
        return found

    def evaluator(
        self, space: Any, epochs: int, images: int | None = None, *, fresh: bool = False
    ) -> Evaluator:
        """Measures complexity, perhaps latency, then trains; robustness last, if asked for.

        Args:
            space: builds the networks.
            epochs: of each training.
            images: how many training images are used, and a fourth as many for validation; None
                for all.
            fresh: whether networks start without the weights of the study of `init`.
        """
        data = self.part(images)
        starts = self.initialized if space is self.space and not fresh else None
        training = partial(
            Training,
            starts or space,
            recipe=self.recipe(data, epochs),
            device=self.settings.device,
            threads=self.threads,
            horizon=epochs,
        )
        last = robust_training(training, self.settings, space, data, self.threads)
        return self.staged(space, last)

    def part(self, images: int | None) -> SearchData:
        """So many training images, and a fourth as many for validation; None for all."""
        if images is None or images >= len(self.seen.train_labels):
            return self.seen
        val = max(FEWEST_VAL_IMAGES, images // 4)
        return part_of(self.seen, images, val, seed=self.settings.seed)

    def staged(self, space: Any, last: Evaluator) -> Evaluator:
        """Measures complexity, perhaps latency, then what `last` does if limits are kept to."""
        stages: list[Evaluator] = [self.complexity(space), last]
        if self.latency is not None and space is self.space:
            stages.insert(1, self.latency)
        return Staged(stages, self.settings.study_constraints if space is self.space else ())

    def search_evaluator(self) -> Evaluator:
        """Measures the trials of the search: with inherited weights, or by a short training."""
        if self.shared is not None and self.inherits:
            shared = self.shared
            inherited = shared.inherited()
            last = robust(
                inherited, self.settings, self.space, self.seen, self.threads, shared.load
            )
            return self.staged(self.space, last)
        return self.evaluator(self.space, self.plan.epochs, self.plan.images)

    # --- searching ---

    def costs(self, architecture: Architecture) -> Mapping[str, float]:
        """Parameters and MACs of a network; nothing when it cannot be counted."""
        if architecture not in self._counted:
            self._counted[architecture] = {}
            with suppress(TrialError):
                (counted,) = self.complexity(self.space)(Job(architecture))
                self._counted[architecture] = counted.metrics
        return self._counted[architecture]

    @property
    def main_study(self) -> Study:
        """The search itself."""
        settings = self.settings
        trials = self.shared.derived if self.shared and self.derives else settings.trials
        return self.study("", budget=Budget(trials, self.plan.search_seconds), seed=settings.seed)

    def study(self, part: str, *, budget: Budget, seed: int, constrained: bool = True) -> Study:
        """One of the studies that make up this search: "" is the search itself."""
        return Study(
            name=f"{self.name}/{part}" if part else self.name,
            objectives=self.settings.study_objectives,
            constraints=self.settings.study_constraints if constrained else (),
            budget=budget,
            seed=seed,
            settings={} if part else self.settings.model_dump(mode="json"),
        )

    def run(self, study: Study, strategy: Strategy, evaluator: Evaluator) -> list[Trial]:
        """Search, or go on searching; checkpoints lie in the study's own folder."""
        if study.name == self.name:
            strategy = starting(self, strategy, study)
        return search(
            study,
            strategy,
            evaluator,
            self.store,
            executor=self.executor,
            workers=self.workers,
            workdir=self.workdir(study),
            watch=self.watcher.progress,
        )

    @cached_property
    def executor(self) -> Processes | None:
        """Warm workers for all stages; None for one worker, which is this process."""
        return Processes(self.workers) if self.workers > 1 else None

    def close(self) -> None:
        """End the workers, whatever they do."""
        if self.executor is not None:
            self.executor.shutdown(cancel_futures=True)

    def workdir(self, study: Study) -> Path:
        """Where the trials of a study keep their checkpoints."""
        part = study.name.removeprefix(self.name).strip("/") or "search"
        return self.folder / part

    def trial_folder(self, study: Study, trial: Trial) -> Path:
        """Where one trial keeps its checkpoint."""
        return self.workdir(study) / "trials" / f"{trial.number:05d}"

    # --- what was measured ---

    def spent(self, *parts: str) -> float:
        """Seconds spent on some of the studies so far."""
        known = set(self.store.studies())
        names = [f"{self.name}/{part}" if part else self.name for part in parts]
        return sum(self.store.spend(name, 0.0) for name in names if name in known)

    def parts(self, prefix: str) -> list[str]:
        """The studies of this search whose part begins with a prefix."""
        start = f"{self.name}/"
        names = [n.removeprefix(start) for n in self.store.studies() if n.startswith(start)]
        return [name for name in names if name.startswith(prefix)]

    def keep(self, file: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file into the study's folder."""
        write_json(self.folder / file, value)
