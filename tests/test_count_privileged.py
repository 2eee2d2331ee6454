"""scripts/count_privileged.py on programs so small that everybody can count them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLAGS = ("-O0", "-ffunction-sections", "-fdata-sections", "-fno-jump-tables", "-fPIE", "-MMD", "-MP")

PRIVILEGE = """\
/* Not a line. */
#include "privilege.h"

void privilege_begin(void) /* a comment beside a line */
{
}

void privilege_raise(void)
{
}

void privilege_forget(void)
{
}
"""
HEADER = "void privilege_begin(void);\nvoid privilege_raise(void);\nvoid privilege_forget(void);\n"
FUNCTION = 3  # lines of an empty one

MAIN = """\
#include "privilege.h"

static void before(void)
{
    privilege_forget();
}

static void far(void)
{
}

static void (*const table[])(void) = {far};

{{more}}
static void mount_it(void)
{
    privilege_raise();
    table[0]();
}

int main(void)
{
    privilege_begin();
    before();
    mount_it();
    {{last}}
}
"""
# privilege_begin() and _raise(), mount_it(), far() through the table, main() without before() and what is {last}.
USUAL = 2 * FUNCTION + 5 + FUNCTION + (3 + 2)


def counted(
    place: Path, more: str = "", last: str = "return 0;", limits: tuple[int, int] = (99, 99)
) -> tuple[int, ...]:
    """The numbers in the last line, the status of the script behind them."""
    launcher = place / "launcher"
    launcher.mkdir()
    main = MAIN.replace("{{more}}", more).replace("{{last}}", last)
    for name, text in {"privilege.c": PRIVILEGE, "privilege.h": HEADER, "sexec_suid.c": main}.items():
        (launcher / name).write_text(text)
    (place / "build/launcher").mkdir(parents=True)
    objects = [f"build/launcher/{name}.o" for name in ("sexec_suid", "privilege")]
    for name in objects:
        source = name.removeprefix("build/").replace(".o", ".c")
        subprocess.run(["gcc", *FLAGS, "-c", "-o", name, source], cwd=place, check=True)
    subprocess.run(["gcc", "-Wl,-Map=build/sexec-suid.map", "-o", "build/sexec-suid", *objects], cwd=place, check=True)
    words = [sys.executable, ROOT / "scripts/count_privileged.py", "build", *map(str, limits)]
    ended = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False)
    if ended.returncode == 2:
        return (2,)
    return (*map(int, re.findall(r"\d+", ended.stdout.splitlines()[-1])[:2]), ended.returncode)


def test_what_is_before_the_first_raise_does_not_count(tmp_path: Path) -> None:
    """Nor does a comment or an empty line; what a table points to does."""
    lines = [*PRIVILEGE.splitlines(), *HEADER.splitlines(), *MAIN.splitlines()]
    whole = sum(1 for line in lines if line and not line.startswith("/*") and line != "{{more}}")
    assert counted(tmp_path) == (whole, USUAL + 1, 0)


def test_a_limit_that_is_passed_fails(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert counted(tmp_path / "one", limits=(20, 99))[2] == 1
    assert counted(tmp_path / "two", limits=(99, 15))[2] == 1


CHILD = (
    "static void later(void)\n{\n}\n\nstatic %svoid child(int n)\n{\n    %s\n    later();\n    for (;;)\n        ;\n}\n"
)


@pytest.mark.parametrize(
    ("form", "first", "more"),
    [
        ("_Noreturn ", "privilege_forget();", 3 + FUNCTION),  # to the call itself, and what it calls
        ("_Noreturn ", "if (n) {\n        privilege_forget();\n    }", 9 + 2 * FUNCTION),  # not always
        ("", "privilege_forget();", 7 + 2 * FUNCTION),  # the compiler does not know that it never comes back
        ("_Noreturn ", "later();", 7 + FUNCTION),  # never
    ],
)
def test_what_is_behind_the_end_of_privilege_does_not_count(tmp_path: Path, form: str, first: str, more: int) -> None:
    """Only where there is no way around it, and none back."""
    numbers = counted(tmp_path, more=CHILD % (form, first), last="child(1);\n    return 0;")
    assert numbers[1:] == (USUAL + 2 + more, 0)


def test_a_loop_in_main_is_no_order_of_time(tmp_path: Path) -> None:
    assert counted(tmp_path, last="for (int i = 0; i < 2; i++)\n        before();\n    return 0;") == (2,)
