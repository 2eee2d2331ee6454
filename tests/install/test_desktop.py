"""Menu entries that an image has become those of the host, whatever their commands hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from singularity.image.lookup import Directory, Followed
from singularity.image.offered import parse
from singularity.install import desktop
from singularity.install.tool import Tool

if TYPE_CHECKING:
    from collections.abc import Mapping

THEIRS = r"""# Of the package
[Other]
Name=no
[Desktop Entry]
Type=Application
Name=View
Name[de]=Sehen
Categories=Science;
MimeType=text/csv;
Exec=/usr/bin/view --title "a \\"b\\" $HOME" 100%% %F
Terminal=false
Icon=view
TryExec=/usr/bin/view
Actions=New;
[Desktop Action New]
Name=New
Exec=/usr/bin/view --new
"""


def entries(tmp_path: Path, theirs: Mapping[str, str], commands: str) -> dict[str, dict[str, str]]:
    place = tmp_path / "usr/share/applications"
    place.mkdir(parents=True)
    for name, text in theirs.items():
        (place / name).write_text(text)
    tool = Tool(
        name="t",
        image=Path("/x.sif"),
        front_door=Path("/s"),
        options=("--nv",),
        commands=tuple(parse(commands).values()),
    )
    found = desktop.files(tool, Path("/menu"), Followed(Directory(tmp_path)))
    lines = {each.path.name: each.text.splitlines()[2:] for each in found}
    return {name: dict(line.split("=", 1) for line in text) for name, text in lines.items()}


def test_an_entry_of_the_image_is_taken_with_its_command(tmp_path: Path) -> None:
    (entry,) = entries(tmp_path, {"view.desktop": THEIRS}, "view").values()
    assert entry == {
        "Type": "Application", "Name": "View", "Name[de]": "Sehen", "Categories": "Science;", "MimeType": "text/csv;",
        "Terminal": "false",
        "Exec": r'/s exec --nv /x.sif /usr/bin/view --title "a \\"b\\" \\$HOME" 100%% %F',
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        THEIRS.replace("Terminal", "NoDisplay=true\nTerminal"),
        THEIRS.replace("Terminal", "Hidden=true\nTerminal"),
        THEIRS.replace("Type=Application", "Type=Link"),
        THEIRS.replace("/usr/bin/view --title", "other"),
        "",
        "[Desktop Entry]\nType=Application\nName=x\nExec=view \x1b[31m\n",
    ],
)
def test_others_are_started_in_a_terminal(tmp_path: Path, text: str) -> None:
    (entry,) = entries(tmp_path, {"view.desktop": text}, "view").values()
    assert entry["Terminal"] == "true"
    assert entry["Exec"] == "/s exec --nv /x.sif view"


def test_no_line_of_an_entry_is_the_images(tmp_path: Path) -> None:
    """An escaped line end in its Exec would begin another Exec, of the host, and the last one counts."""
    theirs = THEIRS.replace("--title", r'"\nExec=xterm\r\nExec=xterm\t\n#" --title')
    (entry,) = entries(tmp_path, {"view.desktop": theirs}, "view").values()
    assert entry["Exec"].startswith(r'/s exec --nv /x.sif /usr/bin/view "\nExec=xterm\r\nExec=xterm\t\n#" --title')
