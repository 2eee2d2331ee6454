"""What `singularity build --dry-run` says: what would be done, what of it is there already, and what is missing."""

import json
import logging

import click

from singularity.build import forecast
from singularity.build.forecast import Fate
from singularity.build.steps import Plan, Step
from singularity.console import escape

logger = logging.getLogger(__name__)


def tell(made: Plan, *, as_json: bool) -> None:
    """Prints the steps of a build, and warns of what it would miss. Raises SingularityError for what cannot be."""
    forecast.check(made)
    for missing in forecast.missing(made):
        logger.warning("%s", missing)
    _print(made, as_json=as_json)


def _print(made: Plan, *, as_json: bool) -> None:
    fates = forecast.fates(made)
    steps = list(zip(made.steps, fates, strict=True))
    if as_json:
        document = {
            "target": str(made.request.target),
            "format": made.request.format.value,
            "stages": [
                {
                    "name": stage.name,
                    "agent": stage.agent,
                    "header": {keyword: field.value for keyword, field in stage.header.items()},
                }
                for stage in made.definition.stages
            ],
            "steps": [_described(step, fate) for step, fate in steps],
        }
        click.echo(json.dumps(document, indent=2))
        return
    stage = -1
    for number, (step, fate) in enumerate(steps, 1):
        if step.stage != stage and len(made.definition.stages) > 1:
            stage = step.stage
            click.echo(escape(f"Stage {stage + 1}: {made.definition.stages[stage].name}".rstrip(": ")))
        note = "" if fate is Fate.DONE else f"; {fate.value}"
        click.echo(escape(f"{number:2}. {step}  ({step.reason}{note})"))
        for line in step.lines():
            click.echo(f"      {escape(line)}")


def _described(step: Step, fate: Fate) -> dict[str, object]:
    return {
        "stage": step.stage + 1,
        "do": step.name,
        "what": step.what,
        "reason": step.reason,
        "cache": {Fate.CACHED: True, Fate.DONE: False, Fate.IDLE: False, Fate.UNKNOWN: None}[fate],
        **step.values(),
    }
