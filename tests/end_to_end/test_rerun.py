"""rerun: a recorded run once more, what differs, and what a record of somebody else's can do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_record import Runs, sha256

if TYPE_CHECKING:
    from images import Images
    from launching import Launcher

pytestmark = pytest.mark.needs("installation", "busybox", "userns", "fuse", "overlay")
VALIDATOR = Path(__file__).parent.parent / "capsule/validate_crate.py"


@pytest.fixture
def runs(launch: Launcher, images: Images) -> Runs:
    return Runs(launch, images)


def changed(runs: Runs, **members: Any) -> Path:
    """A record that somebody has edited."""
    return runs.put("edited.json", json.dumps({**runs.read(), **members}))


def validated(crate: Path, home: Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, VALIDATOR, crate, "REQUIRED"]
    return subprocess.run(line, capture_output=True, text=True, env={"HOME": str(home)})


def test_the_same_inputs_give_the_same_outputs(runs: Runs) -> None:
    runs.put("in.txt", "b\na\n")
    runs("sort in.txt > out.txt; mkdir -p d; cp out.txt d/x; rm in.txt.old 2>/dev/null; true")
    before = (runs.home / "out.txt").stat()
    result = runs.launch("rerun", "--check", "run.json")
    assert (result.status, result.out) == (0, "same inputs, same outputs\n"), str(result)
    after = (runs.home / "out.txt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_rerun_ends_as_its_program_does_and_writes_where_it_did(runs: Runs) -> None:
    runs.put("in.txt", "1\n")
    runs("cat in.txt >> sum; exit 5", status=5)
    result = runs.launch("rerun", "run.json")
    assert result.status == 5, str(result)
    assert (runs.home / "sum").read_text() == "1\n1\n"
    assert "sh -c 'cat in.txt >> sum; exit 5'" in result.err  # nothing is done unsaid
    assert "writes" in result.err


def test_what_differs_is_named(runs: Runs) -> None:
    runs.put("in.txt", "first\n")
    runs.put("gone.txt")
    runs("cat in.txt gone.txt > out.txt; head -c 8 /dev/urandom > random; echo same > same")
    runs.put("in.txt", "other\n")
    (runs.home / "gone.txt").unlink()
    result = runs.launch("rerun", "--check", "run.json")
    assert result.status == 1, str(result)
    lines = {line.split()[2].rpartition("/")[2]: line for line in result.lines if line.startswith("~ ")}
    assert set(lines) == {"in.txt", "gone.txt", "out.txt", "random"}
    assert "another content, of the same size" in lines["in.txt"]
    assert "is not there" in lines["gone.txt"]
    document = json.loads(runs.launch("rerun", "--check", "--json", "run.json").out)
    assert document["same"] is False
    assert {Path(each["name"]).name for each in document["differences"] if each["counts"]} >= {"in.txt", "random"}


@pytest.mark.modes("userns", "suid")
def test_outputs_go_elsewhere_and_originals_stay(runs: Runs) -> None:
    runs.put("in.txt", "given\n")
    runs.put("edit.txt", "old\n")
    runs("cat in.txt > out.txt; sed -i s/old/new/ edit.txt; echo x > made; ln -sf made link")
    for name in ("out.txt", "made"):
        runs.put(name, "mine\n")
    runs.put("edit.txt", "old\n")
    result = runs.launch("rerun", "--outputs", "again", "--record", "again.json", "run.json")
    assert result.status == 0, str(result)
    inside = str(runs.launch.home_inside if runs.launch.world.private else runs.home).lstrip("/")
    place = runs.home / "again" / inside
    assert {path.name: path.read_text() for path in place.iterdir()} == {
        "out.txt": "given\n", "edit.txt": "new\n", "made": "x\n", "link": "x\n",
    }  # fmt: skip
    assert [(runs.home / name).read_text() for name in ("out.txt", "made", "edit.txt")] == ["mine\n", "mine\n", "old\n"]
    assert set(runs.names(runs.read("again.json"), "outputs")) == {"out.txt", "edit.txt", "made", "link"}
    runs.launch("rerun", "--outputs", "again", "run.json").refused("not empty")


@pytest.mark.modes("userns", "suid")
def test_variables_are_those_of_the_first_run(runs: Runs) -> None:
    env = {"ODD": "a 'b' \"c\" $HOME `id` \\ \\\\ \\n", "LINES": "one\ntwo", "MY_TOKEN": "s3cret", "EMPTY": ""}
    runs("env > variables", "--env", "GIVEN=x", env=env)
    first = sorted((runs.home / "variables").read_text().splitlines())
    assert runs.launch("rerun", "run.json", env={"MY_TOKEN": "s3cret", "OTHER": "not let through"}).status == 0
    assert sorted((runs.home / "variables").read_text().splitlines()) == first
    result = runs.launch("rerun", "run.json")
    assert "MY_TOKEN is not set" in result.err


@pytest.mark.modes("userns")
def test_streams_that_were_files_are_again(runs: Runs) -> None:
    given, taken = runs.put("given", "text\n"), runs.put("taken", "")
    with given.open() as stdin, taken.open("w") as stdout:
        line = runs.launch.argv(*runs.words("tr a-z A-Z"))
        with runs.launch.start(*line, stdin=stdin, stdout=stdout) as process:
            assert process.wait(30) == 0
    taken.write_text("")
    result = runs.launch("rerun", "--check", "run.json")
    if runs.launch.world.private:  # her names of the streams are not those of the shell that opened them
        return
    assert (result.status, result.out) == (0, "same inputs, same outputs\n"), str(result)


@pytest.mark.modes("userns")
def test_another_image_is_refused(runs: Runs, images: Images) -> None:
    runs("true")
    result = runs.launch("rerun", "--image", images.squashfs(), "run.json")
    result.refused("another image", "--image")
    runs.launch("rerun", "--image", "missing.sif", "run.json").refused("missing.sif")
    copy = runs.put("copy.sif")
    shutil.copyfile(runs.image, copy)
    edited = changed(runs, image={**runs.read()["image"], "named": "/gone.sif", "path": "/gone.sif"})
    runs.launch("rerun", edited.name).refused("/gone.sif")
    assert runs.launch("rerun", "--image", "copy.sif", edited.name).status == 0


@pytest.mark.modes("userns")
def test_a_dry_run_says_all_and_does_nothing(runs: Runs) -> None:
    runs("echo x > made", "--bind", "/usr/share:/data")
    (runs.home / "made").unlink()
    result = runs.launch("rerun", "--dry-run", "run.json").ok()
    assert "--bind /usr/share:/data" in result.out
    assert not (runs.home / "made").exists()
    result = runs.launch("rerun", "--dry-run", "--check", "run.json")
    assert (result.status, "made is not there" in result.out) == (1, True), str(result)


@pytest.mark.modes("userns", "suid")
def test_a_record_of_a_stranger_reaches_nothing_but_its_launch(runs: Runs) -> None:
    """Its variables are those of the program in the container; the launcher, Python and their loader never see them."""
    runs("true")
    hostile = {
        "LD_PRELOAD": "/nonexistent.so", "PYTHONPATH": "/nonexistent",
        "PATH": "/nonexistent:/bin", "A b": "x", "x'$(id)": "y",
        "SINGULARITYENV_PATH": "/x", "SINGULARITY_BIND": "/etc:/data",
    }  # fmt: skip
    edited = changed(runs, variables=hostile, arguments=["sh", "-c", "unset LD_PRELOAD; echo $PATH; ls -d /data"])
    result = runs.launch("rerun", edited.name)
    assert result.out == "/nonexistent:/bin\n", str(result)
    assert "cannot be preloaded" not in result.err.split("INFO:")[0]
    for members, said in (
        ({"option_variables": {"LD_PRELOAD": "/x.so"}}, "LD_PRELOAD"),
        ({"option_variables": {"SINGULARITY_DOCKER_HOST": "x"}}, "SINGULARITY_DOCKER_HOST"),
        ({"options": ["--bind", "/etc", "other.sif"]}, "other.sif"),
        ({"options": ["--record=/tmp/x"]}, "--record"),
        ({"options": ["--env-file", "theirs"]}, "--env-file"),
        ({"option_variables": {"SINGULARITY_ENV_FILE": "theirs"}}, "SINGULARITY_ENV_FILE"),
        ({"options": ["--", "other.sif"]}, "options"),
        ({"verb": "build"}, "build"),
        ({"directory": "relative"}, "relative"),
        ({"inputs": [{"path": 3}]}, "3"),
        ({"inputs": "x"}, "x"),
        ({"version": 2}, "version"),
        ({"status": "0"}, "0"),
        ({"arguments": ["a\0b"]}, "no text"),
    ):
        result = runs.launch("rerun", changed(runs, **members).name)
        assert (result.status, result.out, len(result.err.splitlines())) == (255, "", 1), str(result)
        assert said in result.err, str(result)
    for text in ("", "[]", "{", "[" * 100000, '{"format": "singularity-capsule", "version": 1}'):
        runs.put("edited.json", text)
        runs.launch("rerun", "edited.json").refused("edited.json")
    runs.launch("rerun", "missing.json").refused("missing.json")
    runs.launch("rerun", "--json", "run.json").misused("--check")


@pytest.mark.modes("userns")
def test_streams_of_a_stranger_are_said_and_set_aside(runs: Runs) -> None:
    """A record whose standard output is a file of the reader's: told before, and not written where originals stay."""
    inside = runs.launch.home_inside if runs.launch.world.private else runs.home
    runs("echo theirs")
    mine = runs.put("mine", "mine\n")
    edited = changed(runs, streams={"stdout": f"file {inside}/mine"}, outputs=[])
    said = f"writes {inside}/mine as standard output"
    assert said in runs.launch("rerun", "--dry-run", edited.name).ok().out
    for options in (("--check",), ("--outputs", "again")):
        result = runs.launch("rerun", *options, edited.name)
        assert (said in result.err, mine.read_text()) == (True, "mine\n"), str(result)
    assert (runs.home / "again" / str(inside).lstrip("/") / "mine").read_text() == "theirs\n"
    os.mkfifo(runs.home / "pipe")
    edited = changed(runs, streams={"stdin": f"file {inside}/pipe"})
    runs.launch("rerun", edited.name).refused("no regular file")  # and nobody waits for it
    edited = changed(
        runs, inputs=[{"path": "/nowhere", "inside": "", "kind": "file", "part": "user", "note": "\x1b[31m"}]
    )
    assert "\x1b" not in runs.launch("rerun", "--check", edited.name).out


def hers(runs: Runs, path: Path, text: str = "mine\n") -> Path:
    """A file of the reader's outside of her home directory, in a directory of her own."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    status = runs.home.stat()
    for each in (path.parent, path):
        os.chown(each, status.st_uid, status.st_gid)
    return path


@pytest.mark.parametrize("asked", [("--check",), ("--outputs", "again")], ids=["check", "outputs"])
@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("echo theirs > {there}/f; rm {there}/f; echo x > {there}/new", ("--bind", "{there}")),
        ("echo theirs > /data/f; ln -sf f /data/new", ("--bind", "{there}:/data")),
        ("mv {there}/f {there}/new; mkdir {there}/new", ("--mount", "type=bind,source={there},target={there}")),
        ("echo theirs > ~/.profile; rm -rf ~/keep ~/new; echo x > ~/new", ("--home", "{home}")),
        ("echo theirs > {temporary}/f; echo x > {temporary}/new", ()),
        ("echo theirs > /f; echo theirs > /new", ("--overlay", "{there}")),
        ("echo theirs > /tmp/f; echo x > /var/tmp/new", ("--contain", "--workdir", "{there}")),
        ("true", ("--trace", "{there}/new")),
        ("umount {there}; echo theirs > {there}/f", ("--fakeroot", "--bind", "{there}")),
    ],
    ids=["bind", "bind-elsewhere", "mount", "home", "temporary", "overlay", "workdir", "trace", "fakeroot"],
)
@pytest.mark.modes("userns", "suid", "root")
def test_a_record_of_a_stranger_writes_nothing_that_is_there(
    runs: Runs, script: str, options: tuple[str, ...], asked: tuple[str, ...], directory: Path
) -> None:
    """Whatever its record does not admit: the originals stay what they are, everywhere on the host."""
    temporary = hers(runs, Path("/tmp") / f"theirs-{os.getpid()}" / "f")
    there = hers(runs, directory / "there/f")
    places = {
        "there": there.parent, "home": runs.launch.home_inside if runs.launch.world.private else runs.home,
        "temporary": temporary.parent,
    }  # fmt: skip
    runs.put(".profile", "mine\n")
    runs.put("keep", "mine\n")
    hers(runs, directory / "elsewhere/f")
    runs("true")
    edited = changed(
        runs,
        arguments=["sh", "-c", script.format(**places)],
        options=[each.format(**places) for each in options],
        directory=str(directory / "elsewhere"),
        outputs=[],
        removed=[],
    )
    kept = runs.put("kept.json", edited.read_text())
    try:
        result = runs.launch("rerun", *asked, edited.name)
        assert (result.status != 255 or "--trace" in options or "--overlay" in options or "--workdir" in options) or (
            "--fakeroot" in options
        ), str(result)
        left = {path.name: path.read_text() for path in (there, temporary, runs.home / ".profile", runs.home / "keep")}
        assert left == {"f": "mine\n", ".profile": "mine\n", "keep": "mine\n"}, str(result)
        assert [path for path in (there.parent, temporary.parent, runs.home) if (path / "new").exists()] == []
        assert [path.name for path in there.parent.iterdir()] == ["f"]
        assert edited.read_text() == kept.read_text()
    finally:
        shutil.rmtree(temporary.parent)


@pytest.mark.modes("userns", "root")
def test_paths_of_a_stranger_lead_to_nothing_that_waits_or_has_no_end(runs: Runs, directory: Path) -> None:
    there = hers(runs, directory / "there/f")
    os.symlink("/proc/kmsg", runs.home / "endless")
    os.mkfifo(runs.home / "pipe")
    runs("true")
    content = {"inside": "/x", "kind": "file", "part": "user", "size": 1 << 50, "digest": "sha256:0"}
    home = runs.launch.home_inside if runs.launch.world.private else runs.home
    names = (f"{home}/endless", f"{home}/pipe", "/proc/kcore", "/dev/zero", "/proc/self/mem", f"{home}/../../{there}")
    members = {part: [{**content, "path": name} for name in names] for part in ("inputs", "outputs")}
    edited = changed(runs, **members, removed=[f"{directory}/there/../there/f", "/", f"{home}/missing/../x"])
    for options in (("--check",), ("--dry-run", "--check"), ("--outputs", "again")):
        result = runs.launch("rerun", *options, edited.name)
        assert "Traceback" not in result.err, str(result)
    assert there.read_text() == "mine\n"


@pytest.mark.parametrize(
    "asked",
    [
        {"options": ["--host-cmd", "sbatch"]},
        {"options": ["--add-caps=CAP_SYS_ADMIN"]},
        {"options": ["--keep-privs"]},
        {"option_variables": {"SINGULARITY_HOST_CMD": "sbatch"}},
        {"option_variables": {"APPTAINER_KEEP_PRIVS": "1"}},
    ],
    ids=["host-cmd", "add-caps", "keep-privs", "variable", "another-variable"],
)
@pytest.mark.modes("userns", "root")
def test_what_is_beyond_its_mounts_is_refused_where_originals_are_to_stay(runs: Runs, asked: dict[str, Any]) -> None:
    runs("true")
    runs.launch("rerun", "--check", changed(runs, **asked).name).refused("originals can be written", "--dry-run")


@pytest.mark.modes("userns", "suid", "root")
def test_a_directory_is_the_same_image_where_its_owners_cannot_be_seen(
    runs: Runs, images: Images, directory: Path
) -> None:
    """Without root, originals are set aside in a user namespace, in which all of root's files are nobody's."""
    runs.image = directory / "image"
    shutil.copytree(images.sandbox, runs.image, symlinks=True)
    (runs.image / "root").chmod(0o755)
    if os.geteuid() == 0:
        for path in (runs.image, *runs.image.rglob("*")):
            os.chown(path, 0, 7, follow_symlinks=False)
    runs("echo x > made")
    result = runs.launch("rerun", "--check", "--record", "new.json", "run.json")
    assert (result.status, result.out) == (0, "same inputs, same outputs\n"), str(result)
    assert runs.read("new.json")["image"] == {**runs.read()["image"], "named": str(runs.image)}


@pytest.mark.modes("userns")
def test_an_image_that_is_called_like_an_option_is_an_image(runs: Runs) -> None:
    runs("true")
    strange = runs.put("--bind=/usr:/mnt")
    shutil.copy(runs.image, strange)
    image = {**runs.read()["image"], "named": "--bind=/usr:/mnt", "path": "/nowhere"}
    edited = changed(runs, image=image, arguments=[str(runs.image), "ls", "/mnt"])
    assert runs.launch("rerun", edited.name).status == 127
    edited = changed(runs, options=["--bind"], arguments=[str(runs.image), "true"])
    assert runs.launch("rerun", edited.name).status in (1, 255)


@pytest.mark.modes("userns", "suid")
def test_a_link_that_the_program_leaves_leads_nowhere(runs: Runs) -> None:
    """It wrote a file, and a link to another directory has the name of that file's directory since."""
    runs.put("secret/x", "secret\n")
    record = runs("mkdir d; echo theirs > d/x; mv d e; ln -s secret d")
    assert sha256("secret\n") not in json.dumps(record)
    assert {"e/x", "d"} == set(runs.names(record, "outputs"))
    result = runs.launch("rerun", "--ro-crate", "crate", "run.json").ok()
    assert [path.read_text() for path in (runs.home / "crate/files").rglob("x")] == ["theirs\n"], str(result)
    (runs.home / "d").unlink()
    shutil.rmtree(runs.home / "e")
    runs.launch("--quiet", "rerun", "--outputs", "again", "run.json").ok()
    inside = str(runs.launch.home_inside if runs.launch.world.private else runs.home).lstrip("/")
    place = runs.home / "again" / inside
    assert sorted(path.name for path in place.rglob("*")) == ["d", "e", "x"]
    assert (os.readlink(place / "d"), (place / "e/x").read_text()) == ("secret", "theirs\n")


@pytest.mark.modes("userns")
def test_names_of_any_bytes_come_through(runs: Runs) -> None:
    for name in (b"new\nline", b"\xff\xfe"):
        runs.put(b"odd/" + name, "odd\n")
    runs('cp odd/* .; printf "\\033[31m" > "$(printf \'\\033[2Jx\')"')
    result = runs.launch("rerun", "--check", "--outputs", "again", "run.json")
    assert result.status == 0, str(result)
    inside = str(runs.launch.home_inside if runs.launch.world.private else runs.home).lstrip("/")
    assert sorted(os.listdir(os.fsencode(runs.home / "again" / inside))) == [b"\x1b[2Jx", b"new\nline", b"\xff\xfe"]
    (runs.home / "new\nline").write_text("other")
    result = runs.launch("rerun", "--dry-run", "--check", "run.json")
    assert "\\n" in result.out
    assert "\033" not in result.out


@pytest.mark.modes("userns")
@pytest.mark.parametrize("status", [0, 4])
def test_an_ro_crate_is_what_its_own_validator_takes(runs: Runs, status: int, directory: Path) -> None:
    """rocrate-validator of PyPI, with the profile of Process Run Crate 0.5; ro-crate-py reads it."""
    pytest.importorskip("rocrate_validator")
    for name in (b"in.txt", b"odd \xff\nname", b"changed"):
        runs.put(name)
    runs(f"cat in.txt odd* changed > out.txt; ls . > list; cat /etc/hosts > /dev/null; exit {status}", status=status)
    runs.put("changed", "since then\n")
    assert runs.launch("rerun", "--ro-crate", "crate", "run.json").status == 0
    done = validated(runs.home / "crate", directory)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 40
    from rocrate.rocrate import ROCrate

    crate = ROCrate(runs.home / "crate")
    (action,) = (each for each in crate.contextual_entities if each.type == "CreateAction")
    assert action["actionStatus"].endswith("Failed" * (status > 0) + "Completed" * (status == 0) + "ActionStatus")
    digests = {each["sha256"] for each in crate.data_entities if "sha256" in each.properties()}
    assert sha256("content\n").removeprefix("sha256:") in digests
    assert json.loads((runs.home / "crate/run.json").read_text()) == runs.read()
    runs.launch("rerun", "--ro-crate", "crate", "run.json").refused("not empty")


@pytest.mark.modes("userns")
def test_the_validator_finds_what_is_wrong(runs: Runs, directory: Path) -> None:
    pytest.importorskip("rocrate_validator")
    runs("true")
    assert runs.launch("rerun", "--ro-crate", "crate", "run.json").status == 0
    path = runs.home / "crate/ro-crate-metadata.json"
    document = json.loads(path.read_text())
    document["@graph"] = [
        {key: value for key, value in each.items() if key != "instrument"} for each in document["@graph"]
    ]
    path.write_text(json.dumps(document))
    done = validated(runs.home / "crate", directory)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "instrument" in done.stdout
