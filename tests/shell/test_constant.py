"""Environment scripts read without a shell: what they set is what a shell finds set, and the rest is named as code."""

from __future__ import annotations

import subprocess
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singularity.shell import constant

CONSTANT = [
    "export A=b\n",
    "#!/bin/sh\n# a comment\n\nexport A='b c' B=\"d $A\"\n",
    "A=1; B=2\nexport A B\n",
    'export PATH=/opt/bin:$PATH\nexport PATH="$PATH:/more"\n',
    "export LD_LIBRARY_PATH=/opt/lib:$LD_LIBRARY_PATH\n",
    'export A="${A:-"image default"}"\nexport B=${A:-other} C=${NONE-x}\n',
    "export A=a\\ b\\$c\n",
    "export A=one \\\n  B=two\n",
    "X=hidden\nexport A=$X\n",
    "export A=x\nunset A\n",
    "export A='it'\\''s \"q\" `no` $HOME \\n'\n",
    "export A='two\nlines'\n: \ntrue\n",
    "export A=\nexport B=x\nexport B\nB=y\n",
    "export A\nA=later\n",
    "export A=b # a comment\n",
]
CODE = {
    "export A=$(date)\nexport B=2\n": ({"B": "2"}, ["s:1 (A)"]),
    "export A=`date`\n": ({}, ["s:1 (A)"]),
    "export A=1\nexport A=$(id)\nexport B=$A\n": ({}, ["s:2 (A)", "s:3 (B)"]),
    "export A=$HOME/bin\n": ({}, ["s:1 (A)"]),
    "export A=~/bin\n": ({}, ["s:1 (A)"]),
    ". /opt/conda.sh\nexport B=2\n": ({"B": "2"}, ["s:1"]),
    "if [ -d /x ]; then\n    export A=1\nfi\nexport B=2\n": ({"B": "2"}, ["s:1", "s:2 (A)"]),
    'if [ -z "${A:-}" ]; then A=1; fi\nexport A B=2\n': ({"B": "2"}, ["s:1", "s:1 (A)"]),
    "[ -d /x ] && export A=1\nexport B=2\n": ({"B": "2"}, ["s:1 (A)"]),
    "f() {\n  A=1\n}\nexport B=2\n": ({}, ["s:1", "s:2 (A, B)"]),
    "cat <<END\nexport A=1\nEND\nexport B=2\n": ({}, ["s:1", "s:2 (A, B)"]),
    "export A=$(\nB=1\n)\nexport C=3\n": ({}, ["s:1 (A)", "s:2 (B, C)"]),
    "export A+=b\n": ({}, ["s:1 (A)"]),
    "for i in 1 2; do\n A=$A$i\ndone\nexport A\n": ({}, ["s:1", "s:2 (A)"]),
    "export A=$1\n": ({}, ["s:1 (A)"]),
    "export A=b >/dev/null\n": ({}, ["s:1 (A)"]),
    "case x in\nx) A=1;;\nesac\nexport B=1\n": ({}, ["s:1", "s:2 (A)", "s:3 (B)"]),
    "export A='no end\n": ({}, ["s:1 (A)"]),
    "eval export A=1\n": ({}, ["s:1"]),
    "A=1 program\n": ({}, ["s:1"]),
    "export A=$$ B=2\n": ({}, ["s:1 (A, B)"]),
}


def by_shell(script: str) -> dict[str, str]:
    """What a program finds, by the shell of this machine."""
    text = f"{script}\nexec /usr/bin/env -0"
    start = {"PATH": constant.DEFAULT_PATH}
    out = subprocess.run(["/bin/dash", "-c", text], env=start, capture_output=True, check=True).stdout.decode()
    found = dict(each.split("=", 1) for each in out.split("\0") if each)
    return {name: value for name, value in found.items() if name != "PWD" and start.get(name) != value}


@pytest.mark.parametrize("script", CONSTANT)
def test_constant_scripts_set_what_a_shell_sets(script: str) -> None:
    found = constant.exported({"s": script}, {})
    assert found.values == by_shell(script)
    assert found.code == []


@pytest.mark.parametrize("script", CODE)
def test_code_is_named_and_sets_nothing(script: str) -> None:
    found = constant.exported({"s": script}, {})
    values, code = CODE[script]
    assert found.values == values
    assert set(code) <= set(found.code)


def test_variables_of_before_are_used_and_changed_ones_are_told() -> None:
    scripts = {"a": "export PATH=/a:$PATH\nexport SAME=x\n", "b": "export PATH=$PATH:/b\nexport TWO=$ONE\n"}
    found = constant.exported(scripts, {"PATH": "/bin", "SAME": "x", "ONE": "1"})
    assert found.values == {"PATH": "/a:/bin:/b", "SAME": "x", "TWO": "1"}


@settings(max_examples=200)
@given(st.text(st.sampled_from("AB=$ \n'\"\\`(){};&|<#:-~/x\0"), max_size=40))
def test_no_text_is_too_odd(script: str) -> None:
    constant.exported({"s": script}, {"A": "a"})


@settings(max_examples=60)
@given(st.text(st.sampled_from("AB=$ \n'\"\\{}:-x#;"), max_size=24))
def test_what_is_taken_for_constant_is_what_a_shell_finds(text: str) -> None:
    """Where all of a script was understood, and the shell has nothing to complain about."""
    script = f"export A={text}\n"
    found = constant.exported({"s": script}, {})
    if found.code or "X" in text:
        return
    done = subprocess.run(
        ["/bin/dash", "-c", f"{script}\nexec /usr/bin/env -0"],
        env={"PATH": constant.DEFAULT_PATH},
        capture_output=True,
        check=False,
    )
    if done.returncode == 0 and not done.stderr:
        here = dict(each.split("=", 1) for each in done.stdout.decode().split("\0") if each)
        assert found.values == {name: value for name, value in here.items() if name not in ("PATH", "PWD")}


@pytest.mark.parametrize(
    "text",
    ["x=aaaaaaaa\n" + "x=$x$x\n" * 24 + "export PATH=$x\n", "a|b\n" * 63 * 1024, "export A=b\n" * (1 << 20)],
    ids=["doubled", "many lines that are not understood", "long"],
)
def test_scripts_of_strangers_take_neither_hours_nor_all_memory(text: str) -> None:
    """Within 20 s; the first would have a value of 8 times two to the power of 24 letters."""
    before = time.monotonic()
    found = constant.exported({"s": text, "later": "export B=2\n"}, {})
    assert time.monotonic() - before < 20
    assert sum(map(len, found.values.values())) < 1 << 18
    assert found.code
