"""What the launcher itself says: launches of an image with one program, our own, in each way that there is.

No setting is guessed at: what a user would meet is what is met, in the launcher's own words.
"""

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from singularity import files, process
from singularity.check.finding import Finding, Subject
from singularity.doctor.finding import good, install, lacking, wrong
from singularity.errors import ToolError

_PROGRAM = "/bin/singularity"  # in the image: a static program that says its version, whatever else the image lacks
_PATIENCE = "20"  # seconds for what takes a hundredth of one
_HINT = re.compile(r"(.*?) \(([^()]*(?:\([^()]*\)[^()]*)*)\)(: .*)?")  # what (way out): what the kernel says
_WAYS = (("", ()), (", in a user namespace", ("--userns",)), (", as root of a user namespace", ("--fakeroot",)))


def judge(front_door: Path, temporary: Path) -> Iterator[Finding]:
    """The starter, then launches of a directory and of a squashfs image. `temporary` is where the image is made."""
    yield from _starter(front_door)
    with files.temporary_directory(_without_noexec(temporary)) as place:
        tree = place / "image"
        (tree / "bin").mkdir(parents=True)
        shutil.copy(front_door, tree / _PROGRAM[1:])
        yield from _launched(front_door, "a directory", tree)
        image = place / "image.sqfs"
        try:
            process.run(
                ["mksquashfs", tree, image, "-quiet", "-no-progress", "-noappend"], purpose="make an image to try"
            )
        except ToolError as error:
            what = "launch of a squashfs image"
            advice = install(process.PACKAGES["mksquashfs"])
            yield lacking(Subject.LAUNCH, what, f"not tried: {error.what}", "mksquashfs", advice)
            return
        yield from _launched(front_door, "a squashfs image", image)


def _without_noexec(temporary: Path) -> Path:
    """A directory from which programs can run: of an image on another one, the launch would not be what fails."""
    places = (temporary, Path("/var/tmp"), Path.home())  # noqa: S108 - only private directories are made in it
    usable = (each for each in places if os.access(each, os.W_OK | os.X_OK))
    return next((each for each in usable if not os.statvfs(each).f_flag & os.ST_NOEXEC), temporary)


def _starter(front_door: Path) -> Iterator[Finding]:
    told = process.call([front_door, "--verbose", "--version"], purpose="say its version")
    said = dict(line.partition(": ")[::2] for line in told.output.splitlines())
    found = said.get("starter", told.complaints.strip() or "nothing")
    path, _, reason = found.partition(" (")
    reason = reason.rstrip(")")
    setuid = Path(sys.prefix).parent / "sexec-suid"
    if os.path.isabs(path) or os.geteuid() == 0 or not setuid.exists():
        yield good(Subject.INSTALLATION, "starter", found)
    else:  # it was installed, and is not used
        yield lacking(Subject.INSTALLATION, "starter", found, str(setuid), f"the setuid program is there: {reason}")
    yield good(Subject.INSTALLATION, "configuration", said.get("configuration", "none"))


def _launched(front_door: Path, kind: str, image: Path) -> Iterator[Finding]:
    outcomes = []
    for way, options in _WAYS:
        words = [*options, "--contain", "--no-home", "--pwd=/", image, _PROGRAM, "--version"]
        argv = ["timeout", "-s", "KILL", _PATIENCE, front_door, "exec", *words]
        told = process.call(argv, purpose="try a launch", environment={"HOME": "/"})
        said = _told(told.complaints)
        if told.status in (-signal.SIGKILL, 128 + signal.SIGKILL):
            said = (f"nothing for {_PATIENCE} s", "see what it waits for: singularity --debug exec ...")
        outcomes.append((f"launch of {kind}{way}", told.status == 0, said))
    works = any(done for _, done, _ in outcomes[:2])
    for what, done, (found, advice) in outcomes:
        if done:
            yield good(Subject.LAUNCH, what, "works")
            if found:
                yield lacking(Subject.LAUNCH, f"{what}: a warning", found, "none", advice)
        else:
            judged = lacking if works else wrong
            yield judged(Subject.LAUNCH, what, found or "ended without a word", "to start", advice)


def _told(complaints: str) -> tuple[str, str]:
    """What the launcher said last, and its way out."""
    lines = [line for line in complaints.splitlines() if line.startswith(("FATAL:", "ERROR:", "WARNING:"))]
    text = lines[-1].partition(":")[2].strip() if lines else ""
    match = _HINT.fullmatch(text)
    return (match[1] + (match[3] or ""), match[2]) if match else (text, "")
