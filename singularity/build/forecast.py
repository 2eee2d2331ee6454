"""What the next build would take from the cache, said without privilege and without touching anything."""

import os
from collections.abc import Sequence
from enum import Enum

from singularity import kernel, paths
from singularity.build import agents, architecture, keys, reproducible
from singularity.build.plan import Action, Plan, Step, is_update
from singularity.cache import layer_store as cache
from singularity.errors import SingularityError
from singularity.namespaces import fakeroot


class Fate(Enum):
    """What becomes of a step."""

    CACHED = "from the cache"
    DONE = "to be done"
    UNKNOWN = "perhaps from the cache"


def check(plan: Plan) -> None:
    """Raises DefinitionError for a header that lacks something, or names no agent."""
    for index, stage in enumerate(plan.definition.stages):
        if not is_update(plan.request, plan.definition, index):
            agents.find(stage, plan.definition.name)


def fates(plan: Plan) -> Sequence[Fate]:
    """The fate of each step, in the plan's order."""
    request = plan.request
    if not request.cache or not request.resume or not keys.is_worth_keeping(plan):
        return [Fate.DONE] * len(plan.steps)
    is_user = os.geteuid() != 0
    world = keys.World(
        architecture=architecture.find(request.architecture).sif,
        one_id=not fakeroot.has_ranges() if is_user else kernel.maps_one_id(),
        marks="user" if is_user or not kernel.is_initial_user_namespace() else "trusted",
        epoch=reproducible.source_date_epoch(),
    )
    chain = keys.Keys(request=request, definition=plan.definition, world=world)
    return list(_Forecast(plan, chain).all())


class _Forecast:
    def __init__(self, plan: Plan, chain: keys.Keys) -> None:
        self.plan = plan
        self.chain = chain
        self.directory = paths.cache_place() / "build"
        self.key: str | None = None  # of the stage so far
        self.parent: str | None = None  # as a layer on it names it; None when it is not in the cache
        self.fate = Fate.DONE  # of what cannot be in the cache
        self.known: dict[int, str | None] = {}

    def all(self) -> Sequence[Fate]:
        found = []
        stage = -1
        for step in self.plan.steps:
            if step.stage != stage:
                stage = step.stage
                self.key = self.parent = self.chain.world.key()
                self.fate = Fate.DONE
            found.append(self.one(step))
        return found

    def one(self, step: Step) -> Fate:
        stages = self.plan.definition.stages
        if step.action is Action.HOST_SCRIPT:
            if step.script is not stages[step.stage].pre:
                self.key, self.parent, self.fate = None, None, Fate.UNKNOWN
            return Fate.DONE
        if step.action is Action.METADATA:
            self.known[step.stage] = self.key
        if step.action in (Action.METADATA, Action.TEST, Action.PACK, Action.PLACE, Action.CONVERT):
            return Fate.DONE
        if self.key is None:
            return self.fate
        try:
            key = self.chain.after(step, self.key, self.known)
        except SingularityError:
            key = None
        is_base = self.key == self.chain.world.key() and self.chain.is_directory(step)
        if key is None or is_base:
            self.fate = Fate.UNKNOWN if self._waits(step) else Fate.DONE
            self.key = self.parent = key
            return Fate.DONE if is_base else self.fate
        self.key = key
        self.parent = cache.has(self.directory, key, self.parent) if self.parent else None
        return Fate.CACHED if self.parent else Fate.DONE

    def _waits(self, step: Step) -> bool:
        """Whether the key of a step depends on one that is only known later."""
        names = {stage.name: index for index, stage in enumerate(self.plan.definition.stages)}
        return any(copy.stage and self.known.get(names[copy.stage]) is None for copy in step.copies)
