"""`singularity install` as it is typed: commands, modules, settings, and that all of it goes again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from images import tool

if TYPE_CHECKING:
    from images import Images
    from launching import Launcher

LMOD = Path("/usr/share/lmod/lmod/init/sh")
OFFERS = """
%wrappers
    wcl=wc -l   # lines
    said=echo 'it'"'"'s, a "$HOME"'
    me=%runscript first

%apprun count
    exec wc "$@"

%runscript
    echo "run: $*"
"""


@pytest.fixture(scope="module")
def offering(images: Images, storage: Path) -> Path:
    """An image with all kinds of offers; anybody may read it."""
    place = storage / "offering"
    place.mkdir(mode=0o755)
    definition = place / "x.def"
    definition.write_text(f"Bootstrap: localimage\nFrom: {images.sandbox}\n{OFFERS}")
    prefix = machine.prefix()
    assert prefix is not None
    tool(prefix / "bin/singularity", "build", place / "tool-1.2.sif", definition)
    return place / "tool-1.2.sif"


@pytest.fixture
def here(launch: Launcher, directory: Path) -> Path:
    """A directory that whoever types may write in."""
    place = directory / "here"
    place.mkdir(mode=0o755)
    if os.geteuid() == 0:
        account = launch.world.account
        os.chown(place, account.uid, account.gid)
    return place


def quietly(launch: Launcher, *words: str | Path) -> subprocess.Popen[bytes]:
    """The command running; what it says is nobody's."""
    return launch.start(*launch.argv(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def everything(place: Path) -> set[Path]:
    return {path for path in place.rglob("*") if "/.singularity" not in str(path.relative_to(place)) or path.is_file()}


def run(script: Path, *words: str, home: Path, stdin: str = "") -> str:
    """What a command of the host prints, as whoever runs the tests."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    done = subprocess.run([script, *words], input=stdin, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


@pytest.mark.modes("suid", "userns", "root")
def test_offers_become_commands_and_go_again(launch: Launcher, offering: Path, here: Path, home: Path) -> None:
    result = launch("install", offering, "--wrappers", here / "bin")
    assert result.status == 0, str(result)
    assert sorted(os.listdir(here / "bin")) == ["count", "hello", "me", "said", "wcl"]
    (here / "bin/notes").write_text("mine\n")
    assert run(here / "bin/said", "x  y", "$z", home=home) == 'it\'s, a "$HOME" x  y $z\n'
    assert run(here / "bin/me", "a b", home=home) == "run: first a b\n"
    assert run(here / "bin/wcl", home=home, stdin="a\nb\n").strip() == "2"
    assert run(here / "bin/count", home=home, stdin="a b\n").split() == ["1", "2", "4"]
    assert "tool/1.2" in launch("install", "--list").ok().out
    result = launch("uninstall", "tool")
    assert result.status == 0, str(result)
    assert os.listdir(here / "bin") == ["notes"]
    assert launch("install", "--list").ok().out == ""
    assert json.loads(launch("install", "--json").ok().out) == []
    launch("uninstall", "tool").refused("nothing is installed of it")


@pytest.mark.modes("userns")
def test_the_directory_that_was_made_goes_too(launch: Launcher, offering: Path, here: Path) -> None:
    assert launch("install", offering, "--wrappers", here / "a/b/bin", "--as", "z").status == 0
    assert launch("uninstall", offering).status == 0
    assert os.listdir(here) == []


@pytest.mark.modes("userns")
@pytest.mark.formats("sandbox", "sif", "squashfs", "ext3", "2.x")
def test_each_format_offers_its_applications_or_its_runscript(
    launch: Launcher, image: Path, form: str, here: Path, home: Path
) -> None:
    assert launch("install", image, "--wrappers", here / "bin", "--as", "tool").status == 0
    (name,) = os.listdir(here / "bin")
    assert name == ("tool" if form == "2.x" else "hello")
    wanted = "old image, 1 arguments: x" if form == "2.x" else "hello from the app x"
    assert run(here / "bin" / name, "x", home=home) == f"{wanted}\n"
    assert launch("uninstall", "tool").status == 0
    assert os.listdir(here) == []


@pytest.mark.modes("userns")
def test_options_behind_two_dashes_are_those_of_each_launch(
    launch: Launcher, offering: Path, here: Path, home: Path
) -> None:
    (here / "data dir").mkdir()
    (here / "data dir/x").write_text("content\n")
    words = ("install", offering, "--wrappers", here / "bin", "--program", "show=cat /mnt/x")
    assert launch(*words, "--", "--bind", f"{here}/data dir:/mnt").status == 0
    assert run(here / "bin/show", home=home) == "content\n"
    launch(*words, "--force", "--", "--bund").misused("unknown option")
    launch(*words, "--", "another.sif").misused("is no option of a launch")
    launch(*words, "--", "--bind", "/nosuch:/mnt").refused("cannot be launched here", "/nosuch")
    launch("uninstall", "tool")


@pytest.mark.modes("userns")
def test_installing_again_replaces_what_was_there(launch: Launcher, offering: Path, here: Path) -> None:
    assert launch("install", offering, "--wrappers", here / "bin").status == 0
    assert launch("install", offering, "--module", here / "modules").status == 0
    assert "wcl" in os.listdir(here / "bin"), "another kind leaves it"
    assert launch("install", offering, "--wrappers", here / "other", "-p", "mycat=cat,mywc=wc").status == 0
    assert sorted(os.listdir(here / "other")) == ["mycat", "mywc"]
    assert not os.path.lexists(here / "bin/wcl")
    assert launch("uninstall", "tool").status == 0
    assert everything(here) == set()


@pytest.mark.modes("userns")
def test_what_is_changed_since_stays_and_is_named(launch: Launcher, offering: Path, here: Path) -> None:
    assert launch("install", offering, "--wrappers", here / "bin").status == 0
    (here / "bin/wcl").write_text("#!/bin/sh\necho mine\n")
    launch("install", offering, "--wrappers", here / "bin").refused("wcl: changed since it was installed")
    result = launch("uninstall", "tool")
    assert result.status == 0, str(result)
    assert f"WARNING: {here}/bin/wcl: changed since it was installed, and stays" in result.err
    assert os.listdir(here / "bin") == ["wcl"]
    launch("install", offering, "--wrappers", here / "bin").refused("wcl: exists", "--force")
    assert launch("install", offering, "--wrappers", here / "bin", "--force").status == 0
    (here / "bin/said").write_text("mine")
    (here / "bin/me").unlink()
    (here / "bin/me").symlink_to("/etc/passwd")
    result = launch("uninstall", "tool", "--force")
    assert result.status == 0, str(result)
    assert everything(here) == {here / "bin"}, "which was there when it was installed last"
    assert Path("/etc/passwd").exists()


@pytest.mark.modes("userns")
def test_names_of_other_programs_are_refused(launch: Launcher, offering: Path, here: Path, home: Path) -> None:
    words = ("install", offering, "--wrappers", here / "bin", "--program", "cat,own=wc")
    closed = here.parent / "closed"
    closed.mkdir(mode=0o700)
    there = launch.with_env(PATH=f"{closed}:relative:/usr/bin:/bin")
    there(*words).refused("would hide cat (/usr/bin/cat)", "--force")
    assert os.listdir(here) == []
    assert launch(*words, "--force").status == 0
    assert run(here / "bin/cat", home=home, stdin="x") == "x"
    assert launch("install", offering, "--as", "two", "--wrappers", here / "bin", "-p", "own=wc -l").status == 255
    launch("install", offering, "--as", "two", "--wrappers", here / "bin", "-p", "own=wc -l").refused(
        "belongs to tool/1.2"
    )
    assert launch("uninstall", "tool").status == 0


@pytest.mark.modes("userns")
def test_names_that_are_no_text_are_kept_to_the_byte(launch: Launcher, offering: Path, here: Path, home: Path) -> None:
    odd = here / os.fsdecode(b"a\xff \xc3\xa4.sif")
    odd.symlink_to(offering)
    assert (
        launch("install", odd, "--as", "odd", "--wrappers", here / "bin", "--module", here / "m", "--vscode").status
        == 0
    )
    assert run(here / "bin/me", home=home) == "run: first\n"
    assert json.loads(launch("install", "--json").ok().out)[0]["image"] == str(odd)
    assert launch("uninstall", odd).status == 0
    assert os.listdir(here) == [odd.name]
    (here / "a\nb.sif").symlink_to(offering)
    launch("install", here / "a\nb.sif", "--wrappers", here / "bin").refused("a control character in its path")


@pytest.mark.modes("userns")
def test_what_is_not_in_the_image_is_refused(launch: Launcher, offering: Path, here: Path) -> None:
    words = ("install", offering, "--wrappers", here / "bin", "--program")
    launch(*words, "nosuch").refused("no program nosuch in the image", "PATH is")
    launch(*words, "a=%apprun nosuch").refused("no application nosuch")
    launch(*words, "a b").misused("is no name of a command")
    launch(*words, "../x").misused("is no name of a command")
    launch(*words, "x=%foo").misused("neither %runscript nor %apprun")
    launch("install", here / "none.sif").refused("none.sif")
    launch("install", "docker://debian").refused("pull it first")
    launch("install").misused("IMAGE is missing")
    launch("install", offering, "--as", "a/b/c").misused("--as NAME/VERSION")
    launch("install", offering, "--jupyter", "--wrappers", here / "bin").refused("no kernel of Jupyter in the image")
    assert os.listdir(here) == []


@pytest.mark.modes("userns")
def test_a_dry_run_writes_nothing(launch: Launcher, offering: Path, here: Path, home: Path) -> None:
    shown = launch("install", "-n", offering, "--wrappers", here / "bin", "--vscode=host.example").ok().out
    assert f"==> {here}/bin/wcl <==" in shown
    assert "HostName host.example" in shown
    assert os.listdir(here) == []
    assert not (home / ".singularity/installed").exists()


@pytest.mark.modes("userns", "root")
def test_lmod_loads_the_module(launch: Launcher, offering: Path, here: Path, home: Path) -> None:
    machine.require("lmod")
    odd = here / 'od [d] $x "q" {b\\.sif'
    odd.symlink_to(offering)
    result = launch("install", odd, "--as", "odd/3.1", "--module", here / "modules")
    assert result.status == 0, str(result)
    script = f"""
        . {LMOD}; module use {shlex.quote(str(here))}/modules; module -t avail; module whatis odd; module help odd
        module load odd/3.1; printf 'a\\nb\\n' | wcl; said; module unload odd; command -v wcl || echo gone
    """
    environment = {"HOME": str(home), "PATH": "/usr/bin:/bin", "USER": "root", "LMOD_PAGER": "none"}
    done = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == '2\nit\'s, a "$HOME"\ngone\n', done.stderr
    listed = done.stderr.partition("odd/3.1 ")[0].splitlines()
    assert [line for line in listed if line and not line.endswith((":", "/"))] == ["odd/3.1"], "its commands are listed"
    assert f"Image: {odd}\n" in done.stderr
    assert launch("uninstall", "odd/3.1").status == 0
    assert os.listdir(here) == [odd.name]
    launch("install", odd, "--as", "x", "--module", here / "a b").refused("a blank in the path")


@pytest.mark.modes("userns")
def test_openssh_runs_the_command_of_vs_codes_settings(
    launch: Launcher, offering: Path, here: Path, home: Path
) -> None:
    machine.require("ssh-keygen")
    odd = here / "100% 'o.sif"
    odd.symlink_to(offering)
    assert launch("install", odd, "--as", "odd", "--vscode=login.example", "--", "--contain").status == 0
    place = home / ".singularity/vscode/odd"
    said = tool("ssh", "-G", "-F", place / "ssh_config", "odd").splitlines()
    found = dict(line.partition(" ")[::2] for line in said)
    assert found["hostname"] == "login.example"
    assert found["requesttty"] == "true"
    command = found["remotecommand"].replace("%%", "%")
    shell = ["/bin/sh", "-c", command]
    script = "cat /etc/image-name; exit 7\n"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    done = subprocess.run(shell, input=script, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 7, done
    assert done.stdout.strip()
    settings = json.loads((place / "settings.json").read_text())
    assert settings["remote.SSH.serverInstallPath"] == {"odd": f"{launch.world.account.home}/.singularity/vscode/odd"}
    assert launch("uninstall", "odd").status == 0
    assert not (home / ".singularity/vscode").exists()


@pytest.mark.modes("userns")
def test_entries_of_menus_start_what_they_say(launch: Launcher, offering: Path, here: Path, home: Path) -> None:
    odd = here / 'a %f `x` $HOME "q" \\.sif'
    odd.symlink_to(offering)
    assert launch("install", odd, "--as", "odd", f"--desktop={here}/menu").status == 0
    names = sorted(os.listdir(here / "menu"))
    assert names == [f"singularity-odd-{name}.desktop" for name in ("count", "hello", "me", "said", "wcl")]
    if not machine.MISSING["desktop-file-validate"]:
        tool("desktop-file-validate", *(here / "menu" / name for name in names))
    line = next(line for line in (here / f"menu/{names[3]}").read_text().splitlines() if line.startswith("Exec="))
    done = subprocess.run(as_menus_do(line[5:]), capture_output=True, text=True, check=True, env={"HOME": str(home)})
    assert done.stdout == 'it\'s, a "$HOME"\n'
    assert launch("uninstall", "odd").status == 0
    assert os.listdir(here) == [odd.name]


def as_menus_do(text: str) -> list[str]:
    """The words of a value of Exec by the letter of the specification."""
    text = text.replace("\\\\", "\\")  # of each value
    words, word, quoted, place = [], "", False, 0
    while place < len(text):
        letter = text[place]
        if quoted and letter == "\\":
            place += 1
            assert text[place] in '"`$\\', text
            word += text[place]
        elif letter == '"':
            quoted = not quoted
        elif letter == " " and not quoted:
            words.append(word)
            word = ""
        elif letter == "%":
            place += 1
            assert text[place] == "%", text
            word += "%"
        else:
            word += letter
        place += 1
    return [*words, word]


@pytest.mark.modes("userns")
def test_many_at_once_install_and_uninstall(launch: Launcher, offering: Path, here: Path) -> None:
    running = [
        quietly(launch, "install", offering, "--as", f"t{number}", "--wrappers", here / f"bin{number}")
        for number in range(4)
    ]
    assert [each.wait(timeout=60) for each in running] == [0] * 4
    running = [quietly(launch, "uninstall", f"t{number}") for number in range(4)]
    assert [each.wait(timeout=60) for each in running] == [0] * 4
    assert everything(here) == set()


@pytest.mark.modes("userns")
@pytest.mark.parametrize("seconds", [0.15, 0.2, 0.25, 0.3, 0.4])
def test_whatever_is_killed_can_be_uninstalled(launch: Launcher, offering: Path, here: Path, seconds: float) -> None:
    names = ",".join(f"c{number}=wc" for number in range(100))
    child = quietly(launch, "install", offering, "--wrappers", here / "bin", "--program", names)
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.wait()
    if launch("install", "--list").ok().out:
        assert launch("uninstall", "tool").status == 0
    left = [path for path in everything(here) if not path.name.startswith(".")]
    assert left in ([], [here / "bin"]), left
