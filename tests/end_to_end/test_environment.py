"""The environment inside: host < image < caller's injection < --env-file < --env, in both generations of images."""

from pathlib import Path

import pytest
from images import Images
from launching import Launcher, Result

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def variables(result: Result) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in result.ok().out.split("\0") if entry)


def seen(launch: Launcher, image: Path, *options: str, env: dict[str, str | None] | None = None) -> dict[str, str]:
    return variables(launch("exec", *options, image, "/bin/probe", "env", env=env or {}))


@pytest.mark.formats("sandbox", "squashfs", "sif", "2.x")
def test_variables_of_the_caller_pass(launch: Launcher, image: Path) -> None:
    """The slides: env -i FOO=BAR singularity exec IMG env."""
    env = seen(launch, image, env={"FOO": "BAR", "WITH": "blank and 'quote' \"s\" $x\nline", "EMPTY_ONE": ""})
    assert env["FOO"] == "BAR"
    assert env["WITH"] == "blank and 'quote' \"s\" $x\nline"
    assert env["EMPTY_ONE"] == ""


@pytest.mark.formats("sandbox", "sif")
def test_an_empty_environment_works(launch: Launcher, image: Path) -> None:
    argv = launch.argv("exec", image, "/bin/probe", "env")
    result = launch.command("env", "-i", "FOO=BAR", *argv)
    env = variables(result)
    assert env["FOO"] == "BAR"
    assert env["PATH"] == PATH


def test_the_container_has_its_own_path(launch: Launcher, images: Images) -> None:
    assert seen(launch, images.sandbox)["PATH"] == PATH
    assert seen(launch, images.sandbox)["USER_PATH"].startswith(str(launch.prefix / "bin"))


def test_what_describes_the_host_does_not_pass(launch: Launcher, images: Images) -> None:
    env = seen(
        launch,
        images.sandbox,
        env={
            "LD_LIBRARY_PATH": "/host/lib",
            "SINGULARITY_DEBUG": None,
            "APPTAINER_TEST": "x",
            "BASH_FUNC_f%%": "() { :; }",
        },
    )
    assert env["LD_LIBRARY_PATH"] == "/.singularity.d/libs"
    assert "APPTAINER_TEST" not in env
    assert "BASH_FUNC_f%%" not in env


@pytest.mark.needs("root")
@pytest.mark.formats("sandbox", "sif")
def test_the_container_is_named(launch: Launcher, image: Path) -> None:
    env = seen(launch, image)
    assert env["SINGULARITY_CONTAINER"] == env["APPTAINER_CONTAINER"] == str(image)
    assert env["SINGULARITY_NAME"] == env["APPTAINER_NAME"] == image.name
    assert env["SINGULARITY_COMMAND"] == "exec" if "SINGULARITY_COMMAND" in env else env["APPTAINER_COMMAND"] == "exec"
    assert env["PS1"].endswith("> ")
    assert env["HOME"] == str(launch.home_inside)


def test_cleanenv_keeps_the_host_out(launch: Launcher, images: Images) -> None:
    outside: dict[str, str | None] = {
        "FOO": "BAR",
        "TERM": "xterm-256color",
        "http_proxy": "http://proxy:1",
        "LANG": "de_DE",
    }
    for option in ("-e", "--cleanenv", "-C"):
        env = seen(launch, images.sandbox, option, env=outside)
        assert "FOO" not in env
        assert env["TERM"] == "xterm-256color"
        assert env["http_proxy"] == "http://proxy:1"
        assert env["LANG"] == "C"
        assert env["GREETING"] == "hello from the image"


@pytest.mark.formats("sandbox", "squashfs", "sif")
def test_plain_assignments_of_the_image(launch: Launcher, image: Path) -> None:
    env = seen(launch, image)
    assert env["GREETING"] == "hello from the image"
    assert env["SUBJECT"] == "plain $text"
    assert env["SENTENCE"] == "hello from the image, again"
    assert env["GUARDED"] == "image default"
    assert env["LD_LIBRARY_PATH"] == "/.singularity.d/libs"


def test_live_shell_code_of_the_image(launch: Launcher, images: Images) -> None:
    env = seen(launch, images.live_sandbox, env={"FOO": 'it\'s "BAR"\nand more'})
    assert env["COMPUTED"] == "COMPUTED"
    assert env["PARTS"] == "onetwo"
    assert env["FOO"] == 'it\'s "BAR"\nand more'


def test_live_shell_code_leaves_arguments_alone(launch: Launcher, images: Images) -> None:
    words = ["two words", "", "$HOME", "'", '"', "*", "line\nbreak"]
    result = launch("exec", images.live_sandbox, "probe", "argv", *words).ok()
    assert result.stdout == b"".join(word.encode() + b"\0" for word in words)


def test_environment_of_a_2x_image(launch: Launcher, images: Images) -> None:
    env = seen(launch, images.old_sandbox)
    assert env["GREETING"] == "hello from the old image"
    assert env["SINGULARITY_INIT"] == "1"
    assert "/bin" in env["PATH"].split(":")


def test_a_bare_root_file_system_has_a_usable_environment(launch: Launcher, images: Images) -> None:
    env = seen(launch, images.bare_sandbox, env={"FOO": "BAR"})
    assert env["PATH"] == PATH
    assert env["FOO"] == "BAR"
    assert "LD_LIBRARY_PATH" not in env


def test_the_image_wins_over_the_host(launch: Launcher, images: Images) -> None:
    env = seen(launch, images.sandbox, env={"BOTH": "host", "GREETING": "host", "EMPTY": "host"})
    assert env["BOTH"] == "image"
    assert env["EMPTY"] == ""
    assert env["GREETING"] == "hello from the image"


@pytest.mark.parametrize("prefix", ["SINGULARITYENV_", "APPTAINERENV_"])
@pytest.mark.formats("sandbox", "sif", "2.x")
def test_injected_variables_win_over_the_image(launch: Launcher, image: Path, prefix: str) -> None:
    env = seen(
        launch, image, env={f"{prefix}BOTH": "injected", f"{prefix}GREETING": "injected", f"{prefix}NEW": "one, two"}
    )
    assert env["BOTH"] == env["GREETING"] == "injected"
    assert env["NEW"] == "one, two"
    assert not any(name.startswith(prefix) for name in env)


@pytest.mark.parametrize("option", ["-e", "-C"])
def test_injected_variables_pass_a_clean_environment(launch: Launcher, images: Images, option: str) -> None:
    env = seen(
        launch, images.sandbox, option, env={"SINGULARITYENV_NEW": "value", "SINGULARITYENV_LANG": "de_DE.UTF-8"}
    )
    assert env["NEW"] == "value"
    assert env["LANG"] == "de_DE.UTF-8"


@pytest.mark.parametrize(
    "value", ["two words", "it's", 'say "x"', "a,b;c", "*", "back\\slash", "100%", "#", "~", "(a)", "a=b", "ü"]
)
def test_injected_values_arrive_unharmed(launch: Launcher, images: Images, value: str) -> None:
    assert seen(launch, images.sandbox, env={"SINGULARITYENV_X": value})["X"] == value
    assert seen(launch, images.sandbox, "-e", env={"SINGULARITYENV_X": value})["X"] == value
    assert seen(launch, images.live_sandbox, env={"SINGULARITYENV_X": value})["X"] == value
    assert seen(launch, images.shellless_sandbox, env={"SINGULARITYENV_X": value})["X"] == value


def test_injected_values_are_evaluated_inside_unless_told_otherwise(launch: Launcher, images: Images) -> None:
    env: dict[str, str | None] = {"SINGULARITYENV_X": "$GREETING!"}
    assert seen(launch, images.sandbox, env=env)["X"] == "hello from the image!"
    assert seen(launch, images.sandbox, "--no-eval", env=env)["X"] == "$GREETING!"


def test_env_sets_variables(launch: Launcher, images: Images) -> None:
    env = seen(launch, images.sandbox, "--env", "A=1,B=two words", "--env", '"C=with, comma"', "--env=BOTH=option")
    assert (env["A"], env["B"], env["C"], env["BOTH"]) == ("1", "two words", "with, comma", "option")


@pytest.mark.parametrize("spec", ["NOVALUE", "=x", "1A=x", "A B=x"])
def test_env_that_sets_nothing_is_refused(launch: Launcher, images: Images, spec: str) -> None:
    result = launch("exec", "--env", spec, images.sandbox, "true")
    assert result.status in {1, 255}, str(result)
    assert len(result.err.splitlines()) == 1


def test_env_files_are_assignments(launch: Launcher, images: Images, directory: Path) -> None:
    one, two = directory / "one.env", directory / "two.env"
    one.write_text("# comment\nA=1\nexport B='two words'\n\nC=\"quoted $A\"\nD=first\n")
    two.write_text("D=second\n")
    env = seen(launch, images.sandbox, "--env-file", str(one), "--env-file", str(two))
    assert (env["A"], env["B"], env["C"], env["D"]) == ("1", "two words", "quoted 1", "second")


@pytest.mark.parametrize("shell", ["", "; test -n x"], ids=["plain", "by a shell"])
def test_env_files_see_the_callers_variables(launch: Launcher, images: Images, directory: Path, shell: str) -> None:
    """What they set is injected, also where it is as before; what they only see is not."""
    file = directory / "x.env"
    file.write_text(f"A=$OUTER/x\nSAME=same{shell}\n")
    env = seen(
        launch, images.sandbox, "--cleanenv", "--env-file", str(file), env={"OUTER": "o", "SAME": "same", "LEFT": "l"}
    )
    assert (env["A"], env["SAME"]) == ("o/x", "same")
    assert not {"OUTER", "LEFT"} & set(env)


def test_a_missing_env_file_is_fatal(launch: Launcher, images: Images, directory: Path) -> None:
    result = launch("exec", "--env-file", directory / "missing", images.sandbox, "true")
    assert result.status in {1, 255}, str(result)
    assert "missing" in result.err


@pytest.mark.formats("sandbox", "sif")
def test_the_order_of_precedence(launch: Launcher, image: Path, directory: Path) -> None:
    """host < image < injected < --env-file < --env, each step with the next one taken away."""
    file = directory / "file.env"
    file.write_text("GREETING=file\n")
    outside: dict[str, str | None] = {"GREETING": "host", "SINGULARITYENV_GREETING": "injected"}
    both = ["--env-file", str(file), "--env", "GREETING=option"]
    result = launch("exec", *both, image, "/bin/probe", "env", env=outside)
    assert result.status == 0, str(result)
    assert "GREETING=option\0" in result.out
    assert seen(launch, image, "--env-file", str(file), env=outside)["GREETING"] == "file"
    assert seen(launch, image, env=outside)["GREETING"] == "injected"
    assert seen(launch, image, env={"GREETING": "host"})["GREETING"] == "hello from the image"
    assert seen(launch, image, env={"ONLY": "host"})["ONLY"] == "host"


def test_the_path_can_be_edited(launch: Launcher, images: Images) -> None:
    assert seen(launch, images.sandbox, env={"SINGULARITYENV_PREPEND_PATH": "/opt/bin"})["PATH"] == f"/opt/bin:{PATH}"
    assert seen(launch, images.sandbox, env={"SINGULARITYENV_APPEND_PATH": "/opt/bin"})["PATH"] == f"{PATH}:/opt/bin"
    assert seen(launch, images.sandbox, env={"SINGULARITYENV_PATH": "/opt:/bin"})["PATH"] == "/opt:/bin"
    assert seen(launch, images.sandbox, "--env", "PATH=/opt:/bin")["PATH"] == "/opt:/bin"


def test_the_library_path_can_be_injected(launch: Launcher, images: Images) -> None:
    env = seen(launch, images.sandbox, env={"SINGULARITYENV_LD_LIBRARY_PATH": "/opt/lib"})
    assert env["LD_LIBRARY_PATH"] == "/opt/lib:/.singularity.d/libs"


@pytest.mark.needs("root")
def test_home_cannot_be_injected(launch: Launcher, images: Images) -> None:
    result = launch("exec", images.sandbox, "sh", "-c", "echo $HOME", env={"SINGULARITYENV_HOME": "/elsewhere"})
    assert result.out == f"{launch.home_inside}\n"
    assert result.err.startswith("WARNING: ")


def test_both_prefixes_at_once_warn_when_they_differ(launch: Launcher, images: Images) -> None:
    env = {"SINGULARITYENV_X": "one", "APPTAINERENV_X": "two"}
    launch("exec", images.sandbox, "true", env=env).warned("X")
    launch("exec", images.sandbox, "true", env={**env, "APPTAINERENV_X": "one"}).ok()


def test_a_program_of_the_host_never_reads_hostile_variables(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L2: loader, libc and shell variables of the caller reach the program and nothing before it."""
    marker = directory / "marker"
    directory.chmod(0o777)
    script = directory / "script"
    script.write_text(f"touch {marker}\n")
    hostile: dict[str, str | None] = {
        "LD_PRELOAD": "/no/such.so",
        "LD_AUDIT": "/no/such.so",
        "GLIBC_TUNABLES": "glibc.malloc.check=3",
        "GCONV_PATH": str(directory),
        "LOCPATH": str(directory),
        "BASH_ENV": str(script),
        "ENV": str(script),
        "TZ": "/../../etc/passwd",
        "IFS": "/",
        "PYTHONPATH": str(directory),
        "RES_OPTIONS": "debug",
        "MALLOC_CHECK_": "3",
        "TMPDIR": "/no/such",
    }
    result = launch.command(*launch.argv("exec", "--cleanenv", images.sandbox, "/bin/probe", "ids"), env=hostile)
    assert result.status == 0, str(result)
    assert not marker.exists()


def test_the_loaders_variables_of_the_caller_reach_the_program(launch: Launcher, images: Images) -> None:
    """2.2 in SUID mode lost them: the loader deletes them when a setuid program starts."""
    env = seen(
        launch, images.sandbox, env={"LD_BIND_NOW": "1", "TMPDIR": "/tmp", "MALLOC_ARENA_MAX": "1", "LOCPATH": "/x"}
    )
    assert env.get("TMPDIR") == "/tmp"
    assert env.get("MALLOC_ARENA_MAX") == "1"
    assert env.get("LOCPATH") == "/x"


def test_duplicated_and_odd_entries_do_no_harm(launch: Launcher, images: Images) -> None:
    result = launch(
        "exec", images.sandbox, "/bin/probe", "env", env={"with.dot": "1", "1digit": "2", "with-dash": "3", "_ok": "4"}
    )
    assert variables(result)["_ok"] == "4"
