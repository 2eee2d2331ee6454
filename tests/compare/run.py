"""Runs the lines of commands.txt through the other program and ours, and tells what differs. As root, in its machine.

    python tests/compare/run.py THEIRS OURS REPORT [WORD...]

THEIRS and OURS are directories with a program `apptainer`. Each line is a shell's, runs in a directory of its own under
one name for both, and is equal when status, standard output and the files that it leaves are. Messages are each
program's own; refused is refused, with status 1 (wrong usage, here also of an option's value) or 255.
WORD: only lines with it, or below a heading with it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE = Path(__file__).resolve().parent
PLACE = Path("/srv/compare")
WORK, TEMPLATE, HOME = PLACE / "work", PLACE / "template", PLACE / "home"
USER = "newcomer"
TIMEOUT = 90
REFUSALS = (b"ERROR:", b"ERROR", b"FATAL:")
EXACT = 4096  # bytes of a file that are compared as well as its name


@dataclass(frozen=True, slots=True)
class Line:
    heading: str
    text: str
    people: tuple[str, ...]
    reason: str  # why it differs; "": it does not


@dataclass(frozen=True, slots=True)
class Outcome:
    status: int
    out: bytes
    files: Mapping[str, str]
    err: bytes  # told, not compared

    def refused(self) -> bool:
        first = self.err.lstrip().split(b" ")[0].upper()
        return self.status in (1, 255) and (first in REFUSALS or b"FATAL:" in self.err)

    def differences(self, other: Outcome) -> list[str]:
        if self.refused() and other.refused():
            return []
        names = {name for name in (*self.files, *other.files) if self.files.get(name) != other.files.get(name)}
        return [
            *(["status"] if self.status != other.status else []),
            *(["output"] if self.out != other.out else []),
            *([f"files {' '.join(sorted(names)[:6])}"] if names else []),
        ]


def lines() -> Iterator[Line]:
    heading = reason = ""
    for text in (HERE / "commands.txt").read_text().splitlines():
        who, dollar, command = text.partition("$ ")
        if text.startswith("== "):
            heading = text
        elif text.startswith("~ "):
            reason = text[2:]
        elif dollar and who in ("", "root", "user"):
            yield Line(heading, command, (who,) if who else ("root", "user"), reason)
            reason = ""


def start(command: str, person: str, programs: Path) -> Outcome:
    """One line by one program."""
    for place in (WORK, HOME):
        remove(place)
        assert not place.exists(), list(place.rglob("*"))[:5]
    subprocess.run(["cp", "-a", TEMPLATE / person, WORK], check=True)
    HOME.mkdir()
    (HOME / "mine").write_text("mine\n")
    account = pwd.getpwnam("root" if person == "root" else USER)
    subprocess.run(["chown", "-Rh", f"{account.pw_uid}:{account.pw_gid}", HOME], check=True)
    environment = {
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": str(HOME),
        "USER": account.pw_name,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "REGISTRY": os.environ["REGISTRY"],
        "HTTP": os.environ["HTTP"],
    }
    person_words = [] if person == "root" else ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"]
    with subprocess.Popen(
        [*person_words, "sh", "-c", command], cwd=WORK, env=environment, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            err += b"\n(timed out)\n"
    return Outcome(process.returncode, out, listed(WORK), err)


def listed(directory: Path) -> Mapping[str, str]:
    found = {}
    for path in directory.rglob("*"):
        status = path.lstat()
        about = f"{status.st_mode:o}"
        if path.is_file() and not path.is_symlink() and status.st_size <= EXACT and path.suffix != ".sif":
            about += path.read_bytes().hex()
        if ".singularity.d" not in path.parts:
            found[str(path.relative_to(directory))] = about
    return found


def remove(place: Path) -> None:
    if place.exists():
        subprocess.run(["chmod", "-R", "u+rwX", place], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(place)


def told(line: Line, person: str, theirs: Outcome, ours: Outcome, differences: list[str]) -> str:
    def one(name: str, outcome: Outcome) -> str:
        out, err = (text.decode(errors="replace").rstrip()[-1500:] for text in (outcome.out, outcome.err))
        return f"--- {name}: {outcome.status}\n{out}\n... messages\n{err}\n"

    return f"{person}$ {line.text}\n=== {', '.join(differences)}\n{one('theirs', theirs)}{one('ours', ours)}\n"


def main() -> int:
    theirs, ours, report, *words = sys.argv[1:]
    found: Counter[str] = Counter()
    with Path(report).open("w") as file:
        for line in lines():
            if words and not any(word in line.text or word in line.heading for word in words):
                continue
            for person in line.people:
                results = [start(line.text, person, Path(programs)) for programs in (theirs, ours)]
                differences = results[0].differences(results[1])
                kind = ("differs, listed" if line.reason else "DIFFERS") if differences else "equal"
                kind = "LISTED, BUT EQUAL" if line.reason and not differences else kind
                found[kind] += 1
                if kind != "equal":
                    print(f"{kind}: {person}$ {line.text} ({', '.join(differences) or line.reason})", flush=True)
                    file.write(f"# {kind}\n{told(line, person, *results, differences)}")
                    file.flush()
    print(", ".join(f"{count} {kind}" for kind, count in sorted(found.items())))
    return 1 if found["DIFFERS"] or found["LISTED, BUT EQUAL"] else 0


if __name__ == "__main__":
    sys.exit(main())
