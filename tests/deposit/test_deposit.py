"""Images of archives that give identifiers: `pull doi:...`, launches of such, and `push doi:HOST`."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import machine
import pytest
from invenio import PREFIX, TOKEN, State, archive

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from images import Images

    Typed = Callable[..., subprocess.CompletedProcess[str]]

CITATION = """\
cff-version: 1.2.0
title: A tool
message: Cite it.
authors:
  - given-names: Alice B.
    family-names: Example
    orcid: https://orcid.org/0000-0002-1825-0097
    affiliation: The Lab
  - name: The Lab's developers
version: 1.20
license: BSD-3-Clause
date-released: 2026-11-30
abstract: What it does.
keywords: [science, containers]
"""


@pytest.fixture
def place() -> Iterator[State]:
    with archive() as state:
        yield state


@pytest.fixture
def typed(place: State, tmp_path: Path) -> Typed:
    def run(*words: str | Path, token: str = "") -> subprocess.CompletedProcess[str]:
        token = token or f"{place.address.removeprefix('http://')}={TOKEN}"
        done = subprocess.run(
            [sys.executable, "-I", "-m", "singularity", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "SINGULARITY_DOI_RESOLVER": place.address, "SINGULARITY_DOI_TOKEN": token},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.fixture
def sif(images: Images, tmp_path: Path) -> Path:
    path = tmp_path / "tool.sif"
    path.write_bytes(images.sif.read_bytes())
    return path


def fails(done: subprocess.CompletedProcess[str], *words: str, status: int = 255) -> None:
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith(("FATAL", "ERROR"))]
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize("as_zenodo", [True, False], ids=["zenodo", "invenio"])
def test_the_image_of_a_record_is_pulled_and_kept(typed: Typed, place: State, sif: Path, as_zenodo: bool) -> None:
    place.as_zenodo = as_zenodo
    place.files["17"] = {"tool 1.sif": sif.read_bytes(), "README.md": b"a text\n"}
    done = typed("pull", f"doi:{PREFIX}17")
    assert done.returncode == 0, done.stderr
    assert (sif.parent / "test.17.sif").read_bytes() == sif.read_bytes()
    place.files["17"]["tool 1.sif"] += b"\0" * 512
    assert typed("pull", f"doi:{PREFIX}17/tool 1.sif").returncode == 0
    assert (sif.parent / "tool 1.sif").stat().st_size == sif.stat().st_size + 512
    assert typed("pull", "--force", "again.sif", f"doi://{PREFIX}17/tool 1.sif").stderr.count("Fetching") == 0
    assert typed("inspect", f"doi:{PREFIX}17").returncode == 255


def test_what_is_not_there_is_said(typed: Typed, place: State, sif: Path) -> None:
    place.files["1"] = {"README.md": b"text"}
    place.files["2"] = {"a.sif": sif.read_bytes(), "b.SIF": sif.read_bytes()}
    place.files["3"] = {"a.sif": b"no image at all"}
    fails(typed("pull", f"doi:{PREFIX}404"), "no such identifier")
    fails(typed("pull", f"doi:{PREFIX}1"), "no image", "there is README.md")
    fails(typed("pull", f"doi:{PREFIX}2"), "2 images", "a.sif, b.SIF")
    fails(typed("pull", f"doi:{PREFIX}2/c.sif"), "no file of this name", "a.sif")
    fails(typed("pull", f"doi:{PREFIX}3"), "no image")
    fails(typed("pull", f"doi:{PREFIX}elsewhere"), "a-page", "no record that this program can read")
    fails(typed("pull", "doi:zenodo"), "is no identifier")
    fails(typed("pull", "doi:"), "names no image")
    place.restricted = True
    fails(typed("pull", f"doi:{PREFIX}2/a.sif"), "403")


def test_damaged_bytes_are_not_taken(typed: Typed, place: State, sif: Path) -> None:
    place.files["5"] = {"tool.sif": sif.read_bytes()}
    place.damaged = True
    fails(typed("pull", "x.sif", f"doi:{PREFIX}5"), "what came is not what md5:")
    assert not (sif.parent / "x.sif").exists()


def test_an_image_is_put_into_a_draft_and_published(typed: Typed, place: State, sif: Path) -> None:
    host = place.address.removeprefix("http://")
    (sif.parent / "CITATION.cff").write_text(CITATION)
    done = typed("push", "--no-https", "--citation", "CITATION.cff", sif, f"doi:{host}")
    assert (done.returncode, done.stdout) == (0, f"doi:{PREFIX}d1\n"), done.stderr
    assert "not published" in done.stderr
    assert place.sent["d1"] == {"tool.sif": sif.read_bytes()}
    assert place.files == {}
    assert place.drafts["d1"]["metadata"] == {
        "title": "A tool",
        "publication_date": "2026-11-30",
        "resource_type": {"id": "software"},
        "creators": [
            {
                "person_or_org": {
                    "type": "personal", "given_name": "Alice B.", "family_name": "Example",
                    "identifiers": [{"scheme": "orcid", "identifier": "0000-0002-1825-0097"}],
                },
                "affiliations": [{"name": "The Lab"}],
            },
            {"person_or_org": {"type": "organizational", "name": "The Lab's developers"}},
        ],
        "description": "What it does.",
        "version": "1.2",
        "rights": [{"id": "bsd-3-clause"}],
        "subjects": [{"subject": "science"}, {"subject": "containers"}],
        "publisher": "127.0.0.1",
    }  # fmt: skip
    again = ("push", "--no-https", "--citation", "CITATION.cff", "--publish", sif, f"doi:{host}/d1")
    done = typed(*again)
    assert (done.returncode, done.stdout) == (0, f"doi:{PREFIX}d1\n"), done.stderr
    assert "Published" in done.stderr
    assert typed("pull", "back.sif", done.stdout.strip()).returncode == 0
    assert (sif.parent / "back.sif").read_bytes() == sif.read_bytes()


def test_labels_say_who_made_it(typed: Typed, place: State, tmp_path: Path, images: Images) -> None:
    (tmp_path / "x.def").write_text(
        f"Bootstrap: localimage\nFrom: {images.sandbox}\n%labels\n"
        "    org.opencontainers.image.authors Bob Example <bob@example.org>, Carol\n"
        "    org.opencontainers.image.licenses MIT\n    org.opencontainers.image.title Bob's tool\n"
    )
    assert typed("build", "x.sif", "x.def").returncode == 0
    done = typed("push", "--no-https", "x.sif", f"doi:{place.address.removeprefix('http://')}")
    assert done.returncode == 0, done.stderr
    found = place.drafts["d1"]["metadata"]
    assert (found["title"], found["rights"]) == ("Bob's tool", [{"id": "mit"}])
    assert [each["person_or_org"] for each in found["creators"]] == [
        {"type": "personal", "given_name": "Bob", "family_name": "Example"},
        {"type": "personal", "family_name": "Carol"},
    ]


def test_what_an_archive_refuses_is_one_line(typed: Typed, place: State, sif: Path, tmp_path: Path) -> None:
    host = place.address.removeprefix("http://")
    (tmp_path / "c.cff").write_text(CITATION)
    (tmp_path / "bad.cff").write_text("[")
    words = ("push", "--no-https", "--citation", "c.cff")
    fails(typed("push", "--no-https", sif, f"doi:{host}"), "who has made the image", "CITATION.cff", status=1)
    fails(typed(*words, sif, f"doi:{host}", token=f"{host}=another"), "Permission denied.", "403")
    fails(typed(*words, sif, f"doi:{host}/none"), "does not exist", "404")
    fails(typed("push", "--citation", "bad.cff", sif, f"doi:{host}"), "no CITATION.cff")
    (tmp_path / "bad.cff").write_text("title: !!timestamp x")
    fails(typed("push", "--citation", "bad.cff", sif, f"doi:{host}"), "no CITATION.cff")
    fails(typed("push", "--citation", "c.cff", sif, "docker://localhost:1/x"), "are for doi:", status=1)
    fails(typed(*words, sif, "doi:a b"), "names no archive", status=1)
    fails(typed(*words, tmp_path, f"doi:{host}"), "is a directory", status=1)
    place.damaged = True
    fails(typed(*words, sif, f"doi:{host}"), "and it is md5:", "push it again")


def test_a_token_goes_to_the_host_that_it_is_for(typed: Typed, place: State, sif: Path, tmp_path: Path) -> None:
    """Whoever talks somebody into another host gets none, and nor do scripts of a build that run on this one."""
    host = place.address.removeprefix("http://")
    (tmp_path / "c.cff").write_text(CITATION)
    words = ("push", "--no-https", "--citation", "c.cff", sif, f"doi:{host}")
    for token in ("secret", f"zenodo.example.org={TOKEN}", f"{host}x={TOKEN}", " "):
        done = typed(*words, token=token)
        fails(done, f"no token for {host}", f"SINGULARITY_DOI_TOKEN={host}=TOKEN", status=1)
        assert token.strip() == "" or token not in done.stderr
    assert place.drafts == {}
    assert typed(*words, token=f"zenodo.example.org=x {host.upper()}={TOKEN}").returncode == 0
    (tmp_path / "x.def").write_text(f"Bootstrap: localimage\nFrom: {sif}\n\n%setup\n    env >{tmp_path}/seen\n")
    done = typed("build", "--force", "--sandbox", "x", "x.def")
    assert done.returncode == 0, done.stderr
    assert TOKEN not in (tmp_path / "seen").read_text()


def test_a_launch_fetches_it(place: State, tmp_path: Path, images: Images) -> None:
    """By the front door, which knows the word."""
    machine.require("installation", "root")
    prefix = machine.prefix()
    assert prefix is not None
    place.files["9"] = {"tool.sif": images.sif.read_bytes()}
    done = subprocess.run(
        [prefix / "bin/singularity", "exec", f"doi:{PREFIX}9", "echo", "hello"],
        env={**os.environ, "SINGULARITY_DOI_RESOLVER": place.address},
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "hello\n", done.stderr


def test_a_definition_begins_with_one(typed: Typed, place: State, tmp_path: Path, sif: Path) -> None:
    place.files["11"] = {"tool.sif": sif.read_bytes()}
    for name in (f"{PREFIX}11", f"doi:{PREFIX}11/tool.sif"):
        (tmp_path / "x.def").write_text(f"Bootstrap: doi\nFrom: {name}\n%labels\n    made here\n")
        done = typed("build", "--force", "x.sif", "x.def")
        assert done.returncode == 0, done.stderr
        assert "made: here" in typed("inspect", "x.sif").stdout
