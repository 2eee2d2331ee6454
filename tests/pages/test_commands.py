"""Every command line of README, the tutorial and the guides is typed, in its order, by an ordinary user; what a page
shows of the output is what comes. What is not typed here says so in the page, with the reason or the test that does
it (page_blocks.py).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from itertools import groupby
from typing import TYPE_CHECKING

import machine
import pytest
from desk import Desk, own, results, script
from page_blocks import Block, Line, alike, blocks
from slurm_cluster import HOME, Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from images import Images
    from servers import Registry

CHECKOUT = machine.CHECKOUT
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
READ = {page: blocks(page) for page in PAGES}
TYPED = [page for page in PAGES if any(block.is_typed and not block.is_elsewhere for block in READ[page])]
# What looks like a command line in a block that nobody runs.
COMMAND = re.compile(r"^(?:\$ |sudo |srun |mpirun )*(?:singularity|make|pip) (?!\[)[a-z-]", re.MULTILINE)


@pytest.fixture(scope="module")
def desk(storage: Path, plain_registry: Registry, images: Images) -> Desk:
    machine.require("installation", "root", "setuid", "userns", "fuse", "loop", "busybox", "mksquashfs", "skopeo")
    prefix = machine.prefix()
    assert prefix is not None
    made = Desk.make(storage / "desk", prefix / "bin", images)
    made.fill(plain_registry.host)
    return made


@pytest.fixture(scope="module")
def cluster(storage: Path, desk: Desk) -> Iterator[Cluster]:
    machine.require("slurm", "unsanitized")
    running = Cluster.start(storage / "slurm-of-pages", desk.bin)
    yield running
    running.stop()


@pytest.mark.usefixtures("no_proxy")
@pytest.mark.parametrize("page", TYPED, ids=[str(page.relative_to(CHECKOUT)) for page in TYPED])
def test_what_a_page_shows_can_be_typed(page: Path, desk: Desk, request: pytest.FixtureRequest) -> None:
    home = desk.home(str(page.relative_to(CHECKOUT)).replace("/", "-"))
    parts = list(typed(READ[page]))
    for on_cluster, lines in parts:
        text = script([line.text for line, _ in lines])
        printed = on_the_cluster(request, home, text) if on_cluster else desk.type(text, home)
        judge(page, lines, printed)
    shutil.rmtree(home)
    if any(on_cluster for on_cluster, _ in parts):
        request.getfixturevalue("cluster")("find", HOME, "-mindepth", "1", "-delete").ok()


def typed(found: list[Block]) -> Iterator[tuple[bool, list[tuple[Line, int]]]]:
    """What is typed in a row, on the cluster or not: command lines, and where in the page their block begins."""
    for on_cluster, row in groupby(found, key=lambda block: block.word("on a cluster") is not None):
        lines: list[tuple[Line, int]] = []
        for block in row:
            before, name = block.word("before "), block.word("file ")
            texts = [] if before is None else [before]
            if name is not None:
                texts.append(f"mkdir -p \"$(dirname {name})\"; cat >{name} <<'END-OF-BLOCK'\n{block.text}END-OF-BLOCK")
            shown = block.lines() if block.is_typed and not block.is_elsewhere else []
            lines += [(line, block.number) for line in (*(Line(text=text) for text in texts), *shown)]
        yield on_cluster, lines


def on_the_cluster(request: pytest.FixtureRequest, home: Path, text: str) -> str:
    """Typed by the alice of the cluster, in a home with the same files."""
    cluster: Cluster = request.getfixturevalue("cluster")
    shutil.copytree(home, cluster.home, dirs_exist_ok=True, symlinks=True)
    own(cluster.home)
    variables = {"OMPI_MCA_oob_tcp_if_include": "lo", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    return cluster("bash", "-c", f"{{ {text}}} 2>&1", cwd=HOME, timeout=120, env=variables).out


def judge(page: Path, lines: list[tuple[Line, int]], printed: str) -> None:
    """Fails with the lines that do not end well, or print other words than the page shows."""
    ends = list(results(printed))
    wrong = []
    for (line, number), (status, output) in zip(lines, ends, strict=False):
        told = f"{page.relative_to(CHECKOUT)}:{number}: {line.text}\nstatus {status}\n" + "\n".join(output)
        if status == 0 if line.status is None else status != line.status:
            wrong.append(told)
        elif line.output is not None and not alike(line.output, output):
            wrong.append(f"{told}\n--- the page shows\n" + "\n".join(line.output))
    assert not wrong, "\n\n".join(wrong)
    assert len(ends) == len(lines), f"{page}: the shell ended early\n{printed[-2000:]}"


def unexplained() -> Iterator[str]:
    for page, found in READ.items():
        for block in found:
            place = f"{page.relative_to(CHECKOUT)}:{block.number}"
            if block.language in ("", "text") and COMMAND.search(block.text) and not block.said and not synopsis(block):
                yield f"{place}: a block of commands that is not marked sh or console"
            test = block.word("by ")
            if test is not None and not (CHECKOUT / test).is_file():
                yield f"{place}: no {test}"


def synopsis(block: Block) -> bool:
    """Whether the words stand for others: `singularity exec IMAGE PROGRAM [ARGUMENT...]`."""
    return bool(re.search(r"\[[A-Z-]|IMAGE PROGRAM", block.text))


def test_nothing_that_looks_like_a_command_goes_untyped_without_a_word() -> None:
    assert list(unexplained()) == []


def test_what_goes_wrong_is_told() -> None:
    lines = [
        Line(text="echo 12 a; exec 3>&1", output=("3 a",)),
        Line(text="false | true"),
        Line(text="cd /; pwd", output=("/tmp",)),
        Line(text="pwd; false", output=("/",), status=1),
        Line(text="exit 4"),
    ]
    done = subprocess.run(["bash", "-c", script([line.text for line in lines])], capture_output=True, check=False)
    page = CHECKOUT / "README.md"
    with pytest.raises(AssertionError) as told:
        judge(page, [(line, number) for number, line in enumerate(lines)], done.stdout.decode())
    found = str(told.value).partition("\nassert not ")[0]
    assert re.findall(r"README\.md:(\d+)", found) == ["1", "2"]
    with pytest.raises(AssertionError, match="the shell ended early"):
        judge(page, [(lines[0], 0), (lines[4], 1)], done.stdout.decode().partition("\x1e1")[0])
