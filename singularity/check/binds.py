"""What a launch would mount, and what it would leave out."""

from collections.abc import Iterator

from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.launch import Launch, Step
from singularity.variables import PREFIXES

_ASKED = ("--bind", "--mount", "--scratch", "--home", "--nv", "--rocm", *PREFIXES)  # or the variable of one
_UNIMPORTANT = ("config passwd", "config group")
_LIBRARIES = "/.singularity.d/libs/"
_IN_PLACE = ("--mpi", "--fabric")  # of what the image has itself: where the host's stay out, its own go on working


def judge(launch: Launch) -> Iterator[Finding]:
    """A refusal, each mount that is left out, and each warning."""
    if launch.refusal:
        yield Subject.LAUNCH.finding("launch", "refused", "a container", Verdict.FAILS, launch.refusal)
        return
    shown = [each for each in launch.steps if each.kind == "bind" and not each.skipped]
    left_out: dict[str, list[Step]] = {}
    for each in launch.steps:
        if each.skipped and (each.target.startswith(_LIBRARIES) or each.reason.startswith(_IN_PLACE)):
            left_out.setdefault(each.reason, []).append(each)
        elif each.skipped and each.reason not in _UNIMPORTANT:
            yield _skipped(each)
    for reason, steps in left_out.items():  # one choice, as a rule: the first has its reason, the others go with it
        found, needed = f"{len(steps)} left out ({reason})", "those that fit"
        yield Subject.BINDS.finding("libraries of the host", found, needed, Verdict.OK, steps[0].skipped)
    told = " ".join(each.source for each in launch.steps if each.skipped)
    for warning in launch.warnings:
        if not any(word in told for word in warning.split() if word.startswith("/")):
            yield Subject.LAUNCH.finding("launch", "a warning", "none", Verdict.WARNING, warning)
    asked = [each for each in shown if each.reason.startswith(_ASKED)]
    found = f"{len(shown)}, {len(asked)} of them asked for" if asked else f"{len(shown)}"
    yield Subject.BINDS.finding("bind points", found, f"{len(shown)}", Verdict.OK)


def _skipped(step: Step) -> Finding:
    asked = step.reason.startswith(_ASKED)
    advice = f"{step.skipped}: make {step.target} in the image, or bind elsewhere" if asked else step.skipped
    verdict = Verdict.FAILS if asked else Verdict.WARNING
    found, needed = f"left out ({step.reason})", f"from {step.source}"
    return Subject.BINDS.finding(step.target or step.source, found, needed, verdict, advice)
