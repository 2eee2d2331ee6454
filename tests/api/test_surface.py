"""What is promised is one list: all of it is there, has words and types, and is in docs/python.md; nothing else is."""

from __future__ import annotations

import importlib
import inspect
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

import singularity
from singularity import aio, errors

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = (CHECKOUT / "docs/python.md").read_text()
NAMES = [name for name in singularity.__all__ if name != "__version__"]


def test_the_list_is_sorted_and_is_what_dir_shows() -> None:
    assert singularity.__all__ == sorted(set(singularity.__all__))
    assert dir(singularity) == singularity.__all__
    assert aio.__all__ == sorted(set(aio.__all__))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_promised_is_there_and_documented(name: str) -> None:
    found = getattr(singularity, name)
    assert isinstance(found, int) or inspect.getdoc(found), f"{name} has no words"
    last = PAGE.split("\n## What is promised\n")[1]
    assert f"`{name}`" in last, f"{name} is not in docs/python.md"


def test_the_page_promises_nothing_else() -> None:
    last = PAGE.split("\n## What is promised\n")[1].split("\n|---|---|\n")[1] if "|---|" in PAGE else ""
    rows = PAGE.split("\n## What is promised\n")[1]
    named = {name for row in rows.splitlines() if row.startswith("| ") for name in re.findall(r"`(\w+)`", row)}
    assert named - {"subprocess"} == set(NAMES), last


@pytest.mark.parametrize("module", [singularity, aio], ids=["package", "aio"])
def test_methods_are_documented_and_typed(module: object) -> None:
    wrong = []
    for name in getattr(module, "__all__"):  # noqa: B009 - a module, of any name
        found = getattr(module, name)
        own = {name: found} if isinstance(found, FunctionType) else {}
        if inspect.isclass(found) and not issubclass(found, BaseException):
            ours = [each for each in found.__mro__ if each.__module__.startswith("singularity")]
            public = {key: value for each in ours for key, value in vars(each).items() if not key.startswith("_")}
            own = {f"{name}.{key}": value for key, value in public.items() if callable(value) or hasattr(value, "fget")}
        for path, each in own.items():
            function = getattr(each, "fget", None) or getattr(each, "__func__", each)
            if not inspect.getdoc(function):
                wrong.append(f"{path} has no words")
            signature = inspect.signature(function)
            untyped = [
                key
                for key, one in signature.parameters.items()
                if one.annotation is one.empty and key not in ("self", "cls")
            ]
            if untyped or (signature.return_annotation is signature.empty and not inspect.isclass(function)):
                wrong.append(f"{path} has no types: {untyped}")
    assert wrong == []


def test_a_function_stays_what_it_is_when_the_room_of_its_name_is_imported() -> None:
    for name, module in (
        ("build", "build.plan"),
        ("pull", "pull.images"),
        ("push", "push.destination"),
        ("check", "check.host"),
    ):
        importlib.import_module(f"singularity.{module}")
        assert isinstance(getattr(singularity, name), FunctionType)
    from singularity.build.plan import plan

    assert callable(plan)


def test_help_shows_what_comes_of_a_call() -> None:
    assert "-> singularity.api.images.Image" in str(inspect.signature(singularity.build))
    assert "CompletedProcess" in str(inspect.signature(singularity.Container.exec))


def test_all_errors_are_in_the_list_and_travel_between_processes() -> None:
    tree = {
        name
        for name, each in vars(errors).items()
        if inspect.isclass(each) and issubclass(each, errors.SingularityError)
    }
    assert tree <= set(singularity.__all__)
    for name in tree:
        error = getattr(errors, name)("what", hint="hint")
        again = pickle.loads(pickle.dumps(error))  # noqa: S301 - ours
        assert (type(again), str(again), again.what, again.hint) == (type(error), "what (hint)", "what", "hint")


def test_importing_it_imports_nothing_else() -> None:
    text = "import sys; import singularity; print(*sorted(m for m in sys.modules if m.startswith('singularity')))"
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert told.stdout.split() == ["singularity"]


def test_a_launch_imports_neither_click_nor_asyncio() -> None:
    text = "import sys; import singularity; singularity.exec; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, cwd=CHECKOUT)
    assert not {"click", "asyncio", "urllib3", "singularity.build"} & set(told.stdout.split())


def test_the_keywords_are_those_of_the_command_line() -> None:
    script = CHECKOUT / "scripts/write_api_options.py"
    told = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr


def test_what_is_no_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'launch'"):
        _ = singularity.launch  # type: ignore[attr-defined]


TYPED = """
import asyncio
from subprocess import CompletedProcess, Popen
import singularity
from singularity import aio
done: CompletedProcess[str] = singularity.exec("x.sif", ["a"], bind=["/a"], nv=True, env={"A": 1})
image: singularity.Image = singularity.build(singularity.Definition(Bootstrap="scratch"), "x.sif", force=True)
process: Popen[bytes] = singularity.popen("x.sif", "a")
with singularity.Container("x.sif", pid=True) as c:
    other: CompletedProcess[str] = c.exec("a", cwd="/")
async def main() -> None:
    pulled: singularity.Image = await aio.pull("docker://x", "x.sif", on_progress=lambda p: print(p.done))
    async with await aio.Instance.start("x.sif") as i:
        await i.stop(force=True)
with singularity.ContainerExecutor("x.sif") as pool:
    number: int = pool.submit(lambda x: x + 1, 2).result()
"""
WRONG = {
    'singularity.exec("x.sif", "a", bnd=["/a"])': "bnd",
    'singularity.exec("x.sif", "a", nv="yes")': "nv",
    'singularity.Container("x.sif").exec("a", bind="/a")': "bind",
    'x: int = singularity.inspect("x.sif")': "Metadata",
}


def test_a_type_checker_knows_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(TYPED + "".join(f"{line}\n" for line in WRONG))
    first = len(TYPED.splitlines()) + 1
    words = [sys.executable, "-m", "mypy", "--strict", "--config-file", CHECKOUT / "pyproject.toml", "--cache-dir"]
    told = subprocess.run(
        [*words, CHECKOUT / ".mypy_cache", path], capture_output=True, text=True, check=False, cwd=CHECKOUT
    )
    errors_ = [line for line in told.stdout.splitlines() if ": error:" in line]
    found = {int(line.partition(f"{path.name}:")[2].partition(":")[0]): line for line in errors_}
    assert sorted(found) == list(range(first, first + len(WRONG))), told.stdout + told.stderr
    for number, word in enumerate(WRONG.values(), first):
        assert word in found[number]
