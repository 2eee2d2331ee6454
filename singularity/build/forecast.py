"""What a build would take from the cache, and what it misses on the host, said without touching anything."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from itertools import takewhile
from pathlib import Path

from singularity import kernel, paths
from singularity.build import agents, architecture, layers
from singularity.build.steps import Change, Plan, Step, base_config
from singularity.build.steps.dockerfile import Instructed
from singularity.build.steps.filesystem import Bootstrap, CopyFiles
from singularity.build.steps.scripts import HostScript, PostScript, SetupScript
from singularity.cache import layer_store as cache
from singularity.errors import BuildError, SingularityError, ToolError
from singularity.image.root import Root
from singularity.namespaces import fakeroot
from singularity.oci.container import CONFIG_FILE

_QUICK = frozenset({"localimage", "scratch"})  # agents


class Fate(Enum):
    """What becomes of a step."""

    CACHED = "from the cache"
    DONE = "to be done"
    UNKNOWN = "perhaps from the cache"
    IDLE = "nothing to do"


def check(plan: Plan) -> None:
    """Raises DefinitionError for a header that lacks something, or names no agent."""
    for stage in plan.bootstrapped:
        agents.find(stage, plan.definition.name)


def missing(plan: Plan) -> Iterator[SingularityError]:
    """An error for each tool, each image below a stage, and each line of `%files`, that is not there for certain.

    A script on the host may still make what a later step needs; but the tool of the last step, which comes after all
    the work, is looked for in any case. What the cache has needs no tools.
    """
    certain = list(takewhile(lambda step: not isinstance(step, HostScript), plan.steps))
    for number, step in enumerate(plan.steps):
        if number < len(certain) or step is plan.steps[-1]:
            try:
                step.check_tools(plan)
            except (ToolError, BuildError) as error:
                if fates(plan)[number] is Fate.DONE:
                    yield error
    for step in certain:
        yield from step.missing_files(plan)


def is_worth_keeping(plan: Plan) -> bool:
    """Whether a later build could do without a step; an image is unpacked as fast as it would be kept."""
    return any(
        isinstance(step, PostScript | CopyFiles | Instructed)
        or (isinstance(step, Bootstrap) and step.asked.agent not in _QUICK)
        for step in plan.steps
    )


def fates(plan: Plan) -> Sequence[Fate]:
    """The fate of each step, in the plan's order."""
    request = plan.request
    if not request.cache or not request.resume or not is_worth_keeping(plan):
        return [Fate.DONE] * len(plan.steps)
    is_user = os.geteuid() != 0
    key = layers.empty_key(
        architecture.find(request.architecture).sif,
        one_id=not fakeroot.has_ranges() if is_user else kernel.maps_one_id(),
        marks="user" if is_user or not kernel.is_initial_user_namespace() else "trusted",
    )
    forecast = _Forecast(plan, key)
    return [forecast.fate(step) for step in plan.steps]


class _Forecast:
    def __init__(self, plan: Plan, key: str) -> None:
        self.plan = replace(plan, keys={}, configs={})
        self.empty = key
        self.directory = paths.cache_place() / "build"
        self.stage = -1
        self.key: str | None = None  # of the stage so far
        self.parent: str | None = None  # as a layer on it names it; None when it is not in the cache
        self.uncached = Fate.DONE  # what becomes of steps whose key is not known
        self.ends: dict[int, tuple[str | None, str | None]] = {}  # key and parent of each stage

    def fate(self, step: Step) -> Fate:
        if step.stage != self.stage:
            self.stage = step.stage
            self.key = self.parent = self.empty
            self.uncached = Fate.DONE
        if isinstance(step, SetupScript):
            self.key, self.parent, self.uncached = None, None, Fate.UNKNOWN
        if not isinstance(step, Change) or isinstance(step, SetupScript) or not step.counts:
            return Fate.DONE
        fate = self._fate(step)
        self.plan.keys[step.stage] = self.key
        self.ends[step.stage] = (self.key, self.parent)
        return fate

    def _fate(self, step: Change) -> Fate:
        if self.key is None:
            return self.uncached
        if step.is_idle(self.plan):
            return Fate.IDLE
        like = step.begins_like(self.plan)
        if like is not None:
            self.key, self.parent = self.ends[like]
            self.uncached = Fate.DONE if self.key else Fate.UNKNOWN
            self._learn(step.stage, cache.place(self.directory, self.key) if self.key and self.parent else None)
            return Fate.CACHED if self.parent else self.uncached
        try:
            key = step.key(self.key, self.plan)
        except SingularityError:
            key = None
        is_base = self.key == self.empty and step.base() is not None
        if key is None or is_base:
            self.uncached = Fate.UNKNOWN if self.parent and step.waits(self.plan) else Fate.DONE
            if is_base:
                self._learn(step.stage, step.base())
            self.key = self.parent = key
            return Fate.DONE if is_base else self.uncached
        self.key = key
        self.parent = cache.has(self.directory, key, self.parent) if self.parent else None
        if isinstance(step, Bootstrap) and self.parent:
            self._learn(step.stage, cache.place(self.directory, key))
        return Fate.CACHED if self.parent else Fate.DONE

    def _learn(self, stage: int, place: Path | None) -> None:
        """Notes the configuration that a stage begins with, from a directory that has it."""
        if place is not None and stage not in self.plan.configs:
            with suppress(OSError, SingularityError), Root(place) as root:
                data = root.read(CONFIG_FILE) if root.is_file(CONFIG_FILE) else None
                self.plan.configs[stage] = base_config(data, self.plan.definition.name)
