"""Kernel specs of images, of which only what is harmless outside is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from singularity.errors import ImageError
from singularity.image.lookup import Directory, Followed
from singularity.install import jupyter
from singularity.install.tool import Tool

TOOL = Tool(  # of which kernels take no command
    name="t", version="1", image=Path("/x.sif"), front_door=Path("/s"), options=("--nv",), commands=()
)  # fmt: skip


def written(tmp_path: Path, specs: dict[str, object]) -> dict[str, dict[str, object]]:
    for name, spec in specs.items():
        place = tmp_path / "opt/env/share/jupyter/kernels" / name
        place.mkdir(parents=True)
        (place / "kernel.json").write_text(spec if isinstance(spec, str) else json.dumps(spec))
    found = jupyter.files(TOOL, Path("/k"), Followed(Directory(tmp_path)), ("/opt/env/bin", "/usr/bin"))
    return {str(each.path): json.loads(each.text) for each in found}


def test_a_kernel_is_started_inside_with_its_variables(tmp_path: Path) -> None:
    spec = {
        "argv": ["R", "--slave", "-e", "IRkernel::main()", "--args", "{connection_file}", "{resource_dir}/x"],
        "display_name": "R", "language": "R", "interrupt_mode": "message", "env": {"A": "b c"},
        "metadata": {"debugger": True, "other": "x"},
    }  # fmt: skip
    (found,) = written(tmp_path, {"ir": spec}).items()
    assert found == (
        "/k/t-1/kernel.json",
        {
            "argv": [
                "/s", "exec", "--nv", "--bind", "{connection_file}", "/x.sif", "/usr/bin/env", "A=b c", "R", "--slave",
                "-e", "IRkernel::main()", "--args", "{connection_file}", "/opt/env/share/jupyter/kernels/ir/x",
            ],
            "display_name": "R (t/1)", "language": "R", "interrupt_mode": "message", "metadata": {"debugger": True},
        },
    )  # fmt: skip


def test_what_makes_no_sense_is_left_out(tmp_path: Path) -> None:
    bad = {
        "argv": ["sh"], "display_name": "\x1b[31m", "language": 5, "interrupt_mode": "x", "metadata": {"debugger": "y"},
        "env": {"-S": "x", "A B": "c", "N": "a\0b", "GOOD": "1", "NUMBER": 3},
    }  # fmt: skip
    specs = {
        "one": bad,
        "a b": {"argv": ["sh"]},
        "two": {"argv": "sh"},
        "three": "[" * 100_000,
        "four": "\xff",
        "five": {},
    }
    (found,) = written(tmp_path, specs).values()
    assert found == {
        "argv": ["/s", "exec", "--nv", "--bind", "{connection_file}", "/x.sif", "/usr/bin/env", "GOOD=1", "sh"],
        "display_name": "Kernel (t/1)",
        "language": "",
    }


def test_several_kernels_have_names_of_their_own(tmp_path: Path) -> None:
    assert list(written(tmp_path, {"a": {"argv": ["a"]}, "b": {"argv": ["b"]}})) == [
        "/k/t-1-a/kernel.json",
        "/k/t-1-b/kernel.json",
    ]


def test_an_image_without_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no kernel of Jupyter"):
        written(tmp_path, {})
