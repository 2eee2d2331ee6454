"""Small root file systems of real ELF files, made by gcc, and what a check says about a program in them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.host import Host
from singularity.check.launch import Launch, Layer, Step
from singularity.check.perform import Request, check
from singularity.image.identify import identify

if TYPE_CHECKING:
    from collections.abc import Mapping

LOADER = Path("/lib64/ld-linux-x86-64.so.2")
LIBC = Path("/lib/x86_64-linux-gnu/libc.so.6")
LIBRARIES = "lib/x86_64-linux-gnu"  # of the image
V2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


def compiled(target: Path, source: str, *options: str | Path) -> Path:
    """A program, or with `-shared` a library."""
    target.parent.mkdir(parents=True, exist_ok=True)
    argv = ["gcc", "-x", "c", "-", "-x", "none", "-o", target, *options]
    subprocess.run(argv, input=source.encode(), check=True, capture_output=True)
    return target


def library(target: Path, source: str = "int number(void) { return 1; }", *options: str | Path) -> Path:
    """A library without libc, its name that of its file."""
    return compiled(target, source, "-shared", "-nostdlib", f"-Wl,-soname,{target.name}", *options)


def base(tree: Path) -> Path:
    """A root file system with a loader and a libc; the host's own."""
    for directory in ("lib64", LIBRARIES, "usr/bin", "etc", ".singularity.d/env"):
        (tree / directory).mkdir(parents=True)
    shutil.copy(LOADER, tree / "lib64" / LOADER.name)
    shutil.copy(LIBC, tree / LIBRARIES / LIBC.name)
    return tree


def machine(tree: Path, *, flags: str = V4, files: Mapping[str, str] = {}, **more: str) -> Host:
    """A host of which only these files and facts are known."""
    for path, text in {"proc/cpuinfo": f"flags\t\t: fpu {flags}\n", **files}.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    told: dict[str, str] = {"release": "6.1.0", "hardware": "x86_64", "search_path": str(tree / "bin"), **more}
    return Host(
        root=tree,
        release=told["release"],
        hardware=told["hardware"],
        search_path=told["search_path"],
        environment={name: value for name, value in more.items() if name.isupper()},
    )


@dataclass(frozen=True)
class Report:
    """The findings of one check."""

    findings: tuple[Finding, ...] = field(default=())

    def of(self, subject: Subject) -> list[Finding]:
        return [each for each in self.findings if each.subject is subject]

    def failing(self) -> list[tuple[str, str]]:
        return [(each.subject.value, each.what) for each in self.findings if each.verdict is Verdict.FAILS]

    def text(self) -> str:
        return "\n".join(f"{each.verdict.value}: {each.what}: {each.found} / {each.needed}: {each.advice}"
                         for each in self.findings)  # fmt: skip


def report(
    image: Path,
    *words: str,
    host: Host,
    chosen: frozenset[Subject] = frozenset(),
    only: bool = False,
    options: tuple[str, ...] = (),
    steps: tuple[Step, ...] = (),
    environment: Mapping[str, str] = {},
    refusal: str = "",
) -> Report:
    """The check of an image, as if the front door had planned these steps."""
    known = identify(image)
    layers = (Layer(path=image, partition=known.root),)
    planned = Launch(layers=layers, steps=steps, environment=environment, refusal=refusal)
    request = Request(image=known, words=words, options=options, chosen=chosen, only=only)
    return Report(tuple(check(request, planned, host)))


def bound(source: Path, target: str, reason: str = "--bind", skipped: str = "") -> Step:
    """A bind of the plan."""
    return Step(kind="bind", source=str(source), target=target, reason=reason, skipped=skipped)
