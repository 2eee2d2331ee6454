"""The reference of the site has all that the tables have, and the site's sidebar all pages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import assemble
import pytest
import reference

from singularity.cli.options_table import table
from singularity.cli.pages import pages

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site") / "pages"
    assemble.lay_out(directory)
    return directory


def test_every_command_and_option_is_there(made: Path) -> None:
    for name, page in pages().items():
        path = made / f"reference/commands/{name.split()[0]}.md" if name else made / "reference/commands.md"
        text = path.read_text()
        for option in page.options:
            assert f"`{reference.spelling(option)}`" in text, (name, option)


def test_every_variable_is_explained(made: Path) -> None:
    text = (made / "reference/variables.md").read_text()
    rows = dict(re.findall(r"^\| `SINGULARITY_(\w+)` \| (.*?) \|", text, re.MULTILINE))
    shown = {name for entry in table() if entry.group != "hidden" and entry.help for name in entry.variables}
    assert shown - set(rows) == set()
    assert [name for name, meaning in rows.items() if len(meaning) < 8] == []
    assert {"CACHEDIR", "TMPDIR", "OFFLINE", "DOCKER_LOGIN"} <= set(rows)


def test_every_key_of_the_configuration_is_there(made: Path) -> None:
    text = (made / "reference/configuration.md").read_text()
    for key in re.findall(r'^CONFIG_\w+\(\w+, "([^"]+)"', (CHECKOUT / "launcher/config.def").read_text(), re.MULTILINE):
        assert re.search(rf"^### .*\b{key}\b", text, re.MULTILINE), key


def test_messages_are_read_out_of_both_languages() -> None:
    python = 'def f():\n    hint = f"see {url}"\n    raise FileError(f"{path.name}: no such image", hint=hint)\n'
    assert set(reference.refusals(ast.parse(python))) == {("*name*: no such image", "see *url*")}
    c = 'return error_set(error, 0, "%s: no such "\n "network (write %s.conflist first)", a, a);\nstop(0, "no way");'
    assert list(reference.c_refusals(c)) == [("*...*: no such network", "write *...*.conflist first")]


def test_messages_that_users_meet_are_there(made: Path) -> None:
    text = (made / "reference/messages.md").read_text()
    assert text.count("\n: ") > 300
    for words in ("--force replaces it", "pull it first: singularity pull"):
        assert words in text


def test_every_page_stands_in_the_sidebar_once(made: Path) -> None:
    trees = "".join(assemble.trees(made))
    listed = re.findall(r"^(?:.* <)?([\w/-]+)>?$", re.sub(r"^(```|:).*$", "", trees, flags=re.MULTILINE), re.MULTILINE)
    there = {str(path.relative_to(made).with_suffix("")) for path in made.rglob("*.md")}
    there = {name for name in there if not name.startswith(("reference/commands/", "index"))}
    assert sorted(listed) == sorted(there)


def test_links_lead_to_the_copies_of_what_they_name(tmp_path: Path) -> None:
    text = "[a](../SECURITY.md) [b](gpu.md#x) [c](../../examples/mpi/mpi_ring.c) `[d](../x)` [e](https://x.org/y)"
    page = CHECKOUT / "docs/hpc/mpi.md"
    moved = assemble.relocated(text.replace("../SECURITY", "../../SECURITY"), page, tmp_path)
    assert moved == (
        "[a](../SECURITY.md) [b](gpu.md#x) [c](../files/examples/mpi/mpi_ring.c) `[d](../x)` [e](https://x.org/y)"
    )
    assert (tmp_path / "files/examples/mpi/mpi_ring.c").is_file()
