"""Wrong usage is one line, the nearest valid word, status 1; versions and help are what clients parse."""

import re
from pathlib import Path

import pytest
from images import Images
from launching import Launcher

pytestmark = pytest.mark.modes("suid", "userns")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["exec", "--bnid", "/a", "image", "true"], "--bind"),
        (["exec", "--containal", "image", "true"], "--containall"),
        (["shell", "--shel", "/bin/sh", "image"], "--shell"),
        (["exce", "image", "true"], "exec"),
        (["shll", "image"], "shell"),
        (["buidl", "image"], "build"),
    ],
)
def test_the_nearest_valid_word_is_suggested(launch: Launcher, words: list[str], said: str) -> None:
    launch(*words).misused(said)


@pytest.mark.parametrize("words", [["exec"], ["run"], ["shell"], ["test"], ["exec", "--bind"], ["exec", "image", "-B"]])
def test_a_missing_argument_is_wrong_usage(launch: Launcher, words: list[str], images: Images) -> None:
    if words == ["exec", "image", "-B"]:
        words = ["exec", str(images.sandbox)]
    launch(*words).misused()


@pytest.mark.parametrize("words", [["-B"], ["--bind"], ["-W"], ["--env"], ["-s"]])
def test_an_option_without_its_value_is_wrong_usage(launch: Launcher, words: list[str]) -> None:
    launch("shell", *words).misused("needs a value")


def test_a_flag_refuses_a_value_that_is_no_boolean(launch: Launcher, images: Images) -> None:
    launch("exec", "--contain=perhaps", images.sandbox, "true").misused("contain", "perhaps")


def test_an_unknown_global_option_is_wrong_usage(launch: Launcher) -> None:
    launch(first=["--qiuet"]).misused("--quiet")


@pytest.mark.parametrize("name", ["-Ce", "-eC", "-ci", "-cip"])
def test_short_options_can_be_bundled(launch: Launcher, images: Images, name: str) -> None:
    launch("exec", name, images.sandbox, "true").ok()


@pytest.mark.parametrize("words", [["-B/opt:/mnt"], ["-B", "/opt:/mnt"], ["--bind", "/opt:/mnt"], ["--bind=/opt:/mnt"]])
def test_a_value_may_be_given_in_every_way(launch: Launcher, images: Images, directory: Path, words: list[str]) -> None:
    (directory / "file").write_text("seen\n")
    words = [word.replace("/opt", str(directory)) for word in words]
    assert launch("exec", *words, images.sandbox, "cat", "/mnt/file").ok().out == "seen\n"


def test_the_last_of_two_values_counts(launch: Launcher, images: Images) -> None:
    assert launch("exec", "--pwd", "/etc", "--pwd", "/opt", images.sandbox, "pwd").ok().out == "/opt\n"


def test_a_flag_can_be_taken_back(launch: Launcher, images: Images) -> None:
    env = {"OUTSIDE": "seen", "SINGULARITY_CLEANENV": "true"}
    assert launch("exec", "--cleanenv=false", images.sandbox, "sh", "-c", "echo $OUTSIDE", env=env).ok().out == "seen\n"


def test_the_version_line_is_three_words(launch: Launcher) -> None:
    result = launch(first=["--version"]).ok()
    assert re.fullmatch(r"singularity version \d+\.\d+\.\d+(-\S+)?\n", result.out)


def test_the_version_line_names_what_it_was_started_as(launch: Launcher, directory: Path) -> None:
    link = directory / "apptainer"
    link.symlink_to(launch.prefix / "bin/singularity")
    assert re.fullmatch(r"apptainer version \d+\.\d+\.\d+\n", launch.command(link, "--version").ok().out)


def test_the_version_command_prints_the_bare_version(launch: Launcher) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", launch("version").ok().out)


@pytest.mark.parametrize(
    "words", [["help", "exec"], ["exec", "--help"], ["exec", "-h"], ["exec", "help"], ["--help"], ["help"], ["-h"]]
)
def test_help_is_on_standard_output(launch: Launcher, words: list[str]) -> None:
    result = launch.command(launch.prefix / "bin/singularity", *words).ok()
    assert "Usage:" in result.out
    if "exec" in words:
        for name in ("--bind", "--contain", "--pwd", "--dry-run"):
            assert name in result.out


def test_help_for_an_unknown_verb_is_wrong_usage(launch: Launcher) -> None:
    result = launch("help", "exce")
    assert result.status == 1, str(result)
    assert "exec" in result.err


def test_no_verb_prints_the_help(launch: Launcher) -> None:
    assert "Usage:" in launch().out


@pytest.mark.parametrize("option", ["-q", "--quiet", "-s", "--silent", "-v", "--verbose", "--nocolor", "-vvv"])
def test_global_options_stand_before_the_verb(launch: Launcher, images: Images, option: str) -> None:
    result = launch("exec", images.sandbox, "echo", "here", first=[option])
    assert (result.status, result.out) == (0, "here\n"), str(result)
    if option not in {"-v", "--verbose", "-vvv"}:
        assert result.err == ""


def test_quiet_hides_information_and_keeps_errors(launch: Launcher, images: Images, directory: Path) -> None:
    assert launch("run", images.bare_sandbox, "-c", "true", first=["-q"]).ok().out == ""
    launch("exec", directory / "missing.sif", "true", first=["-q"]).refused("missing.sif")
    launch("exec", directory / "missing.sif", "true", first=["-s"]).refused("missing.sif")


def test_messages_have_no_colour_when_not_on_a_terminal(launch: Launcher, directory: Path) -> None:
    assert "\x1b" not in launch("exec", directory / "missing.sif", "true").err


@pytest.mark.parametrize("option", ["--security", "--oci"])
def test_an_option_of_the_family_that_is_not_here_is_refused_in_one_line(
    launch: Launcher, images: Images, option: str
) -> None:
    words = [] if option == "--oci" else ["x"]
    launch("exec", option, *words, images.sandbox, "true").misused(option)


def test_a_boolean_variable_that_is_none_is_refused(launch: Launcher, images: Images) -> None:
    launch("exec", images.sandbox, "true", env={"SINGULARITY_CONTAIN": "perhaps"}).misused("SINGULARITY_CONTAIN")


@pytest.mark.parametrize("prefix", ["SINGULARITY", "APPTAINER"])
def test_every_option_has_its_variable(launch: Launcher, images: Images, directory: Path, prefix: str) -> None:
    (directory / "file").write_text("seen\n")
    script = "cat /mnt/file; echo $OUTSIDE; pwd"
    env = {
        f"{prefix}_BIND": f"{directory}:/mnt",
        f"{prefix}_CLEANENV": "1",
        f"{prefix}_PWD": "/opt",
        "OUTSIDE": "outside",
    }
    assert launch("exec", images.sandbox, "sh", "-c", script, env=env).ok().out == "seen\n\n/opt\n"


def test_the_newer_prefix_wins_with_a_warning(launch: Launcher, images: Images) -> None:
    env = {"SINGULARITY_PWD": "/etc", "APPTAINER_PWD": "/opt"}
    result = launch("exec", images.sandbox, "pwd", env=env)
    assert (result.status, result.out) == (0, "/opt\n"), str(result)
    assert result.err.startswith("WARNING: "), str(result)


def test_the_command_line_wins_over_the_variable(launch: Launcher, images: Images) -> None:
    assert launch("exec", "--pwd", "/etc", images.sandbox, "pwd", env={"SINGULARITY_PWD": "/opt"}).ok().out == "/etc\n"


def test_an_empty_variable_counts_as_unset(launch: Launcher, images: Images) -> None:
    env = {"SINGULARITY_BIND": "", "SINGULARITY_PWD": "", "SINGULARITY_CONTAIN": "", "SINGULARITY_SHELL": " "}
    launch("exec", images.sandbox, "true", env=env).ok()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["exec", "IMAGE", "true"], 0),
        (["exec", "IMAGE", "sh", "-c", "exit 7"], 7),
        (["exec", "IMAGE", "sh", "-c", "kill -9 $$"], -9),
        (["exec", "--pid", "IMAGE", "sh", "-c", "kill -9 $$"], -9),
        (["exec", "--no-such", "IMAGE", "true"], 1),
        (["inspect", "--no-such", "IMAGE"], 1),
        (["exec", "--dry-run=foo", "IMAGE", "true"], 1),
        (["exec", "IMAGE", "/etc"], 126),
        (["exec", "IMAGE", "no-such-program"], 127),
        (["exec", "/no/image", "true"], 255),
        (["inspect", "/no/image"], 255),
        (["check", "IMAGE", "true"], 0),
        (["check", "IMAGE", "no-such-program"], 1),
        (["check", "/no/image", "true"], 255),
    ],
)
def test_exit_statuses_are_those_of_the_table(launch: Launcher, images: Images, words: list[str], status: int) -> None:
    """The table stands in docs/running.md and singularity(1)."""
    result = launch(*[str(images.sandbox) if word == "IMAGE" else word for word in words])
    assert result.status == status, str(result)
