"""`singularity build`, from a definition file to an image, and back to what was there when something goes wrong."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builds import as_user

if TYPE_CHECKING:
    from builds import Build

pytestmark = pytest.mark.needs("busybox", "mksquashfs")
Definition = Callable[[str], Path]

WHOLE = """\
%environment
    export GREETING="hello"

%post
    echo "post in $PWD as $(id -u)"
    echo 'export POSTED=yes' >>$SINGULARITY_ENVIRONMENT
    echo 'Posted by the script' >>$SINGULARITY_LABELS
    touch /made

%runscript
    echo "runscript got $# arguments: $*"

%startscript -e
    exec sleep 600

%test
    test -e /made
    test "$GREETING $POSTED" = "hello yes"

%labels
    Maintainer Somebody Else

%help
    What this is for.
"""


def inspect(build: Build, image: str) -> dict[str, object]:
    document: dict[str, object] = json.loads(build.ok("inspect", "--all", image).stdout)["data"]["attributes"]
    return document


def test_an_image_holds_what_its_definition_says(build: Build, definition: Definition) -> None:
    done = build.ok("build", "x.sif", definition(WHOLE))
    *infos, last = [line for line in done.stderr.splitlines() if line.startswith("INFO:")]
    assert infos == [
        "INFO:    Bootstrapping with localimage",
        "INFO:    Running %post",
        "INFO:    Running %test",
        "INFO:    Writing x.sif",
    ]
    assert re.fullmatch(r"INFO:    Build complete: x.sif \([\d.]+ [KM]iB, \d+ s\)", last)
    assert "post in / as 0" in done.stdout
    assert "+ touch /made" in done.stderr
    assert "+ test -e /made" in done.stderr
    about = inspect(build, "x.sif")
    assert about["runscript"] == '#!/bin/sh\n\n    echo "runscript got $# arguments: $*"'
    assert about["startscript"] == "#!/bin/sh -e\n\n    exec sleep 600"
    assert about["helpfile"] == "    What this is for."
    assert about["deffile"] == f"Bootstrap: localimage\nFrom: base\n{WHOLE}".rstrip()
    labels = about["labels"]
    assert isinstance(labels, dict)
    assert labels["Maintainer"] == "Somebody Else"
    assert labels["Posted"] == "by the script"
    assert labels["org.label-schema.usage.singularity.deffile.from"] == "base"
    assert re.fullmatch(
        r"[A-Z][a-z]+day_\d\d_[A-Z][a-z]+_\d{4}_\d\d:\d\d:\d\d_UTC", labels["org.label-schema.build-date"]
    )
    assert build.leftovers() == []


def test_the_root_file_system_is_ready_for_launching(build: Build, definition: Definition) -> None:
    build.ok("build", "x.sif", definition(WHOLE))
    root = build.root_of("x.sif")
    for directory in ("dev", "proc", "root", "var/tmp", "tmp", "etc", "sys", "home", "mnt", ".singularity.d/libs"):
        assert (root / directory).is_dir(), directory
    for name in ("hosts", "resolv.conf", "localtime"):
        assert (root / "etc" / name).read_bytes() == b""
    links = {
        "singularity": ".singularity.d/runscript",
        "environment": ".singularity.d/env/90-environment.sh",
        ".exec": ".singularity.d/actions/exec",
    }
    assert {name: os.readlink(root / name) for name in links} == links
    assert not (root / ".post.script").exists()
    assert not (root / ".build.labels").exists()
    for script in (".singularity.d/runscript", ".singularity.d/env/91-environment.sh", ".singularity.d/actions/run"):
        assert stat.S_IMODE((root / script).stat().st_mode) == 0o755
        subprocess.run(["/bin/sh", "-n", root / script], check=True)
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


def test_the_file_is_executable_as_the_umask_allows(build: Build, definition: Definition) -> None:
    path = definition("")
    umask = os.umask(0o027)
    try:
        build.ok("build", "x.sif", path)
    finally:
        os.umask(umask)
    assert stat.S_IMODE((build.directory / "x.sif").stat().st_mode) == 0o750
    assert stat.S_IMODE(build.root_of("x.sif").stat().st_mode) == 0o755


def test_scripts_in_the_image_have_a_clean_world(build: Build, definition: Definition) -> None:
    script = """\
%post
    env >/env
    mount >/mounts
    ls /dev >/devices
    cat /etc/resolv.conf >/seen
    echo changed >/etc/hosts
    ls /proc >/processes
"""
    build.write("base/etc/resolv.conf", "# of the image\n")
    build.write("base/etc/hosts", "# of the image\n")
    hosts = Path("/etc/hosts").read_bytes()
    build.ok("build", "x.sif", definition(script), SECRET="of the host", http_proxy="http://proxy.example")
    root = build.root_of("x.sif")
    variables = dict(line.split("=", 1) for line in (root / "env").read_text().splitlines())
    assert "SECRET" not in variables
    assert variables["HOME"] == "/root"
    assert variables["http_proxy"] == "http://proxy.example"
    assert (
        variables["APPTAINER_ENVIRONMENT"]
        == variables["SINGULARITY_ENVIRONMENT"]
        == "/.singularity.d/env/91-environment.sh"
    )
    assert {"null", "zero", "urandom", "shm", "pts", "fd"} <= set((root / "devices").read_text().split())
    assert not any(name.startswith(("sd", "vd", "loop", "nvme")) for name in (root / "devices").read_text().split())
    assert str(build.directory) not in "".join(
        line
        for line in (root / "mounts").read_text().splitlines(keepends=True)
        if "/etc/" not in line and " / " not in line
    )
    assert len([name for name in (root / "processes").read_text().split() if name.isdecimal()]) <= 4
    assert (root / "seen").read_bytes() == Path("/etc/resolv.conf").read_bytes()
    assert (root / "etc" / "resolv.conf").read_text() == (root / "etc" / "hosts").read_text() == "# of the image\n"
    assert Path("/etc/hosts").read_bytes() == hosts


def test_another_shell_runs_the_post_script_when_asked(build: Build, definition: Definition) -> None:
    build.write("base/bin/shout", '#!/bin/sh\necho "shout got $1"\n').chmod(0o755)
    done = build.ok("build", "x.sif", definition("%post -c /bin/shout\n    nothing a shell knows\n"))
    assert "shout got /.post.script" in done.stdout


def test_an_own_interpreter_runs_the_test(build: Build, definition: Definition) -> None:
    build.write("base/bin/check", '#!/bin/sh\necho "check got $1"\n').chmod(0o755)
    done = build.ok("build", "x.sif", definition("%test\n#!/bin/check\n"))
    assert "check got /.singularity.d/test" in done.stdout


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ("%post\n    true\n    exit 3\n", "x.def:5: %post failed with status 3"),
        ("%post\n    kill -9 $$\n", "x.def:4: %post was killed by signal 9"),
        ("%test\n    false\n", "x.def:4: %test failed with status 1"),
        ("%setup\n    false\n", "x.def:4: %setup failed with status 1"),
        ("%pre\n    exit 7\n", "x.def:4: %pre failed with status 7"),
        ("%post -c /bin/nowhere\n    true\n", "x.def:3: %post needs /bin/nowhere, which is not in the image"),
        ("%test\n#!/bin/nowhere\n    true\n", "x.def:3: %test needs /bin/nowhere, which is not in the image"),
        ("%files\n    nowhere\n", "x.def:4: %files: nowhere: no such file"),
        ("%appfiles tool\n    nowhere\n", "x.def:4: %appfiles: nowhere: no such file"),
        (
            "%files from other\n    x\n",
            'x.def:4: %files: no earlier stage "other" (a stage is named with a line Stage: NAME)',
        ),
        ("%pots\n", 'x.def:3: unknown section "%pots" (did you mean "%post"?)'),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(
    build: Build, definition: Definition, sections: str, message: str
) -> None:
    path = definition(sections)
    before = sorted(build.directory.iterdir())
    assert build.fails("build", "x.sif", path.name) == message
    assert build.leftovers() == []
    assert sorted(build.directory.iterdir()) == before


def test_a_caller_that_ignores_its_children_hides_no_failure(build: Build, definition: Definition) -> None:
    path = definition("%post\n    exit 3\n")
    script = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    argv = [sys.executable, "-c", script, *build.argv("build", "x.sif", path)]
    done = subprocess.run(argv, cwd=build.directory, env=build.env(), capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "FATAL:   x.def:4: %post failed with status 3" in done.stderr.replace(str(build.directory) + "/", "")
    assert not (build.directory / "x.sif").exists()


def test_closed_standard_streams_do_no_harm(build: Build, definition: Definition) -> None:
    path = definition("%post\n    echo out\n    echo err >&2\n")
    script = '"$@" <&- >&- 2>&-'
    argv = ["sh", "-c", script, "sh", *build.argv("build", "x.sif", path)]
    assert subprocess.run(argv, cwd=build.directory, env=build.env(), check=False).returncode == 0
    assert "Def.FILE" in build.ok("sif", "list", "x.sif").stdout


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Bootstrap: docker\n", "bootstrap agent docker needs From"),
        ("Bootstrap: docker\nFrom: a b\n", 'x.def:2: "a b" names no image'),
        ("Bootstrap: docker\nFrom: a\nIncludeCmd: maybe\n", 'x.def:3: IncludeCmd: "maybe" (yes or no)'),
        ("Bootstrap: oras\n", "bootstrap agent oras needs From"),
        ("Bootstrap: library\n", "bootstrap agent library needs From"),
        ("Bootstrap: shub\n", "bootstrap agent shub needs From"),
        ("Bootstrap: docker-daemon\n", "bootstrap agent docker-daemon needs From"),
        ("Bootstrap: dockerfile\nFrom: .\n", "x.def:2: From: .: no Dockerfile in it"),
        ("Bootstrap: buildkit\nFrom: .\n", 'unknown bootstrap agent "buildkit" (did you mean "dockerfile"?)'),
        ("Bootstrap: debotstrap\n", 'unknown bootstrap agent "debotstrap" (did you mean "debootstrap"?)'),
        ("Bootstrap: debootstrap\n", "bootstrap agent debootstrap needs OSVersion"),
        ("Bootstrap: debootstrap\nOSVersion: --foo\n", 'OSVersion: "--foo" is none'),
        ("Bootstrap: debootstrap\nOSVersion: stable\nMirrorURL: -x\n", 'MirrorURL: "-x" is none'),
        ("Bootstrap: localimage\n", "bootstrap agent localimage needs From"),
        ("Bootstrap: localimage\nFrom: nowhere\n", "x.def:2: From: nowhere: No such file or directory"),
        ("Bootstrap: localimage\nFrom: x.def\n", "x.def: a definition file, not an image"),
        ("Bootstrap: scratch\n%post\n    true\n", "x.def:2: %post needs /bin/sh, which is not in the image"),
    ],
)
def test_a_header_that_cannot_be_is_one_line(build: Build, header: str, message: str) -> None:
    build.write("x.def", header)
    assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


def test_sources_that_are_no_definition(build: Build) -> None:
    assert build.fails("build", "x.sif", "nowhere.def") == "nowhere.def: No such file or directory"
    assert "lookup host.invalid: no such host" in build.fails("build", "x.sif", "docker://host.invalid/alpine")
    (build.directory / "windows.def").write_bytes("Bootstrap: scratch\r\n".encode("utf-16"))
    message = build.fails("build", "x.sif", "windows.def")
    assert message == "windows.def: text of 16-bit letters, as Windows writes it (save it as UTF-8)"
    build.write("damaged", "Bootstrap: x\0")
    assert "damaged: a definition file, not an image" in build.fails("build", "x.sif", "damaged")


def test_the_same_definition_makes_the_same_file(build: Build, definition: Definition) -> None:
    """SOURCE_DATE_EPOCH: identity, times and labels are those of the epoch."""
    path = definition(WHOLE)
    for name in ("a.sif", "b.sif"):
        build.ok("build", name, path, SOURCE_DATE_EPOCH="1700000000")
        time.sleep(1.1)
    first, second = (build.directory / name for name in ("a.sif", "b.sif"))
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[48:64] == bytes(16), "the id in the header"
    header = build.ok("sif", "header", "a.sif").stdout
    assert not [line for line in header.splitlines() if line.startswith(("ID:", "Created At:", "Modified At:"))]
    assert build("build", "d.sif", path).returncode == 0
    assert (build.directory / "d.sif").read_bytes()[48:64] != bytes(16), "else it is a new one"
    assert "Tuesday_14_November_2023_22:13:20_UTC" in build.ok("inspect", "a.sif").stdout
    message = build.fails("build", "c.sif", path, SOURCE_DATE_EPOCH="yesterday")
    assert message == 'SOURCE_DATE_EPOCH is "yesterday": not seconds since 1970'


def test_an_existing_target_is_replaced_only_by_force(build: Build, definition: Definition) -> None:
    path = definition("")
    for options, old in (([], build.write("x.sif", "old")), (["--sandbox"], build.write("x/old", "old").parent)):
        message = build.fails("build", *options, old.name, path)
        assert message == f"{old.name}: exists (--force replaces it)"
        build.ok("build", "--force", *options, old.name, path)
    assert (build.directory / "x" / "bin" / "busybox").exists()
    assert not (build.directory / "x" / "old").exists()
    assert "Def.FILE" in build.ok("sif", "list", "x.sif").stdout
    (build.directory / "link.sif").symlink_to("nothing")
    message = build.fails("build", "--force", "link.sif", path)
    assert message == "link.sif: a link to nothing (remove it, or name another file)"
    assert build.fails("build", "--force", "base", path) == "base: a directory (name a file, or use --sandbox)"
    assert build.leftovers() == []


@pytest.mark.needs("root", "userns", "installation")
def test_a_place_that_nothing_can_be_written_to_is_said_before_the_work(build: Build, definition: Definition) -> None:
    definition("%post\n    echo working\n")
    for target, message in (("nowhere/x", "nowhere: No such file"), ("x.def/x", "x.def/x: Not a directory")):
        done = build("build", target, "x.def")
        assert (done.returncode, done.stdout) == (255, "")
        assert done.stderr.startswith(f"FATAL:   {message}"), done.stderr
    for target in ("/usr/bin/x", "/proc/x"):
        done = as_user(build, "build", target, "x.def")
        assert (done.returncode, done.stdout) == (255, "")
        assert done.stderr.splitlines()[-1] == f"FATAL:   {Path(target).parent}: Permission denied"
    assert build.leftovers() == []


def test_host_scripts_find_what_definitions_of_2_2_ask_for(build: Build, definition: Definition) -> None:
    names = ("ROOTFS", "BUILDDEF", "IMAGE", "CONTAINER", "TMPDIR")
    shown = "\n".join(f'    echo {name}=$SINGULARITY_{name} >>"$SINGULARITY_TMPDIR/seen"' for name in names)
    last = '    cp "$SINGULARITY_TMPDIR/seen" "$SINGULARITY_ROOTFS/seen"\n    ls -d "$SINGULARITY_TMPDIR"'
    path = definition(f"%pre\n    ls $SINGULARITY_TMPDIR\n%setup\n{shown}\n{last}\n%post\n    cat /seen\n")
    done = build.ok("build", "x.sif", path.name)
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    assert said["BUILDDEF"] == str(path)
    assert said["IMAGE"] == said["CONTAINER"] == str(build.directory / "x.sif")
    assert said["TMPDIR"] != said["ROOTFS"] != ""
    assert said["TMPDIR"] == done.stdout.splitlines()[0]
    assert not Path(said["TMPDIR"]).exists()
    assert build.leftovers() == []


def test_quiet_builds_show_what_scripts_say_and_nothing_else(build: Build, definition: Definition) -> None:
    body = "\n    case $- in *e*) ;; *) exit 1 ;; esac\n    echo said\n"
    path = definition("".join(f"{name}{body}" for name in ("%pre", "%setup", "%post", "%test")))
    for option in ("--quiet", "--silent"):
        done = build.ok(option, "build", "--force", "--no-cache", "x.sif", path)
        assert done.stdout == "said\n" * 4
        assert done.stderr == ""
    definition("%test\n    echo said\n    false\n    true\n")
    done = build("--quiet", "build", "y.sif", path)
    assert done.stderr == f"FATAL:   {path}:5: %test failed with status 1\n"


def test_an_empty_directory_is_no_image(build: Build) -> None:
    (build.directory / "empty").mkdir()
    assert build.fails("build", "x.sif", "empty") == "empty: an empty directory, not an image"
    assert build.leftovers() == []


def test_a_definition_file_is_never_replaced(build: Build, definition: Definition) -> None:
    """TARGET and SOURCE typed the wrong way round, which --force and an answered question must not make a loss."""
    path = definition("%post\n    touch /made\n")
    build.ok("build", "x.sif", path)
    build.write("tool", f"# a tool\n{path.read_text()}")
    build.write("Singularity", "# to be written\n")
    for options in ([], ["--force"], ["--dry-run"], ["--force", "--format", "tar"]):
        for name in ("x.def", "tool", "Singularity"):
            before = (build.directory / name).read_text()
            message = build.fails("build", *options, name, "x.sif", status=1)
            hint = f"TARGET comes first: singularity build x.sif {name}"
            assert message == f"{name}: a definition file is never replaced ({hint})"
            assert (build.directory / name).read_text() == before
    assert build.leftovers() == []


def test_a_directory_that_holds_more_than_a_container_is_not_replaced(build: Build, definition: Definition) -> None:
    path = definition("%post\n    touch /made\n")
    for place in ("home/alice", "work", "all"):
        (build.directory / place).mkdir(parents=True)
    inner = build.write("work/deep/x.def", path.read_text())
    build.write("home/alice/thesis", "years of work")
    for target, source, what in (
        (".", path, "the working directory"),
        (build.directory.parent, path, "the working directory"),
        ("home", path, "the home directory"),
        ("home/alice", path, "the home directory"),
        ("work", inner, "SOURCE"),
    ):
        home = str(build.directory / "home" / "alice")
        message = build.fails("build", "--force", "--sandbox", target, source, status=1, HOME=home)
        assert message == f"{target}: {what} is or lies in it (name another directory)"
    assert inner.exists()
    assert (build.directory / "home" / "alice" / "thesis").exists()
    build.ok("build", "--force", "--sandbox", "all", path)
    build.ok("build", "--force", "--sandbox", "base", path)  # what it is built from is in it
    assert (build.directory / "base" / "made").exists()


def test_a_sandbox_is_a_directory_and_goes_into_an_empty_one(build: Build, definition: Definition) -> None:
    """What container engines do: an empty directory that they made, and --force."""
    (build.directory / "empty").mkdir()
    build.ok("build", "--force", "--sandbox", "empty", definition("%post\n    touch /made\n"))
    assert (build.directory / "empty" / "made").exists()
    assert build.leftovers() == []


def test_an_oci_layout_is_not_taken_for_a_root_file_system(build: Build) -> None:
    build.write("layout/oci-layout", '{"imageLayoutVersion": "1.0.0"}\n')
    message = build.fails("build", "x.sif", "layout")
    assert message == "layout: an OCI layout, no root file system (oci:layout is the image in it)"
    argv = ["tar", "--create", "--file=x.tar", "--directory=layout", "oci-layout"]
    subprocess.run(argv, cwd=build.directory, check=True)
    message = build.fails("build", "x.sif", "x.tar")
    assert message.startswith("x.tar: an archive of layers, no root file system (oci-archive:x.tar or docker-archive")


def test_images_are_made_from_images_as_they_are(build: Build, definition: Definition) -> None:
    build.ok("build", "x.sif", definition(WHOLE))
    build.ok("build", "--sandbox", "sandbox", "x.sif")
    build.ok("build", "again.sif", "sandbox")
    first, last = (inspect(build, name) for name in ("x.sif", "again.sif"))
    for part in ("runscript", "test", "helpfile", "environment"):
        assert first[part] == last[part]
    history = build.root_of("again.sif") / ".singularity.d" / "bootstrap_history"
    assert [path.name for path in sorted(history.iterdir())] == ["Singularity0", "Singularity1"]


def test_labels_and_help_of_the_image_below_stay_unless_forced(build: Build, definition: Definition) -> None:
    build.ok("build", "x.sif", definition(WHOLE))
    build.write("y.def", "Bootstrap: localimage\nFrom: x.sif\n%labels\n  Maintainer New\n  More yes\n%help\n  New.\n")
    done = build.ok("build", "y.sif", "y.def")
    assert "WARNING: Label Maintainer of the image that this one is built on stays (--force replaces it)" in done.stderr
    labels = build.ok("inspect", "y.sif").stdout
    assert "Maintainer: Somebody Else" in labels
    assert "More: yes" in labels
    assert inspect(build, "y.sif")["helpfile"] == "    What this is for."
    build.ok("build", "--force", "y.sif", "y.def")
    assert "Maintainer: New" in build.ok("inspect", "y.sif").stdout
    assert inspect(build, "y.sif")["helpfile"] == "  New."


def test_only_the_chosen_sections_are_used(build: Build, definition: Definition) -> None:
    path = definition("%setup\n    touch setup-ran\n%post\n    touch /posted\n%test\n    false\n%labels\n    A b\n")
    build.ok("build", "--notest", "a.sif", path)
    assert (build.directory / "setup-ran").exists()
    build.ok("build", "--section", "post,labels", "b.sif", path)
    build.ok("build", "--section", "none", "c.sif", path)
    assert "A: b" in build.ok("inspect", "b.sif").stdout
    assert (build.root_of("b.sif") / "posted").exists()
    assert not (build.root_of("c.sif") / "posted").exists()
    assert build.fails("build", "--section", "posts", "d.sif", path, status=1).startswith("--section: posts")
    assert (
        build.fails("build", "--section", "all,post", "d.sif", path, status=1) == "--section: all and none stand alone"
    )


def test_stages_hand_files_on(build: Build, base: Path) -> None:
    del base
    text = """\
Bootstrap: localimage
From: base
Stage: one
%post
    mkdir -p /opt/tool/bin
    echo made >/opt/tool/bin/tool
    ln -s tool /opt/tool/bin/link
    ln -s /etc/passwd /opt/tool/absolute

Bootstrap: scratch
%files from one
    /opt/tool
    /opt/tool/absolute /accounts
    /opt/tool/bin/* /flat
"""
    build.write("x.def", text)
    build.ok("build", "x.sif", "x.def")
    root = build.root_of("x.sif")
    assert (root / "opt/tool/bin/tool").read_text() == "made\n"
    assert os.readlink(root / "opt/tool/bin/link") == "tool"
    assert (root / "accounts").read_text() == "root:x:0:0:root:/root:/bin/sh\n"
    assert sorted(path.name for path in (root / "flat").iterdir()) == ["link", "tool"]
    assert not (root / "bin").exists()


def test_applications_have_a_place_and_an_environment_of_their_own(build: Build, definition: Definition) -> None:
    sections = """\
%appinstall tool
    echo "#!/bin/sh" >bin/tool
    chmod +x bin/tool
    echo "installed in $SCIF_APPROOT" >where
%appfiles tool
    x.def deep/er/copy.def
%apprun tool
    exec tool "$@"
%appenv tool
    export TOOL=yes
%applabels tool
    Kind example
%apphelp tool
    Helps.
%apptest tool
    true
"""
    build.ok("build", "x.sif", definition(sections))
    root = build.root_of("x.sif")
    assert (root / "scif/apps/tool/where").read_text() == "installed in /scif/apps/tool\n"
    assert (root / "scif/apps/tool/deep/er/copy.def").exists()
    assert json.loads((root / "scif/apps/tool/scif/labels.json").read_text()) == {
        "Kind": "example",
        "SCIF_APP_NAME": "tool",
    }
    assert build.ok("inspect", "--list-apps", "x.sif").stdout == "tool\n"
    assert build.ok("run-help", "--app", "tool", "x.sif").stdout == "    Helps.\n"
    shell = f". {root}/.singularity.d/env/94-appsbase.sh; echo $SCIF_APPRUN_tool"
    assert subprocess.check_output(["/bin/sh", "-c", shell], text=True) == "/scif/apps/tool/scif/runscript\n"


def test_links_in_a_base_image_never_reach_the_host(build: Build, base: Path, definition: Definition) -> None:
    """R-B6: bind points, platform files, %files and the network files resolve inside the root."""
    outside = build.directory / "outside"
    outside.mkdir()
    (outside / "file").write_text("of the host\n")
    (base / ".singularity.d").symlink_to(outside)
    (base / "tmp").symlink_to(outside)
    (base / "etc" / "hosts").symlink_to(outside / "file")
    (base / "etc" / "resolv.conf").symlink_to(f"../../../../../../..{outside}/file")
    (base / "opt").symlink_to(outside)
    build("build", "x.sif", definition(WHOLE + "%files\n    x.def /opt/copied\n"))
    assert [(path.name, path.read_text()) for path in outside.iterdir()] == [("file", "of the host\n")]


def test_templates_are_filled_in_from_the_command_line_and_files(build: Build, base: Path) -> None:
    del base
    build.write("x.def", "Bootstrap: {{ AGENT }}\nFrom: base\n%arguments\n  WHAT=default\n%labels\n  What {{ WHAT }}\n")
    build.write("values", "AGENT=localimage\n")
    build.ok("build", "--build-arg-file", "values", "x.sif", "x.def")
    assert "What: default" in build.ok("inspect", "x.sif").stdout
    build.ok("build", "--force", "--build-arg-file", "values", "--build-arg", "WHAT=given", "x.sif", "x.def")
    assert "What: given" in build.ok("inspect", "x.sif").stdout
    assert "Bootstrap: localimage" in build.ok("inspect", "--deffile", "x.sif").stdout
    build.ok("build", "--force", "--build-arg", "WHAT=a,b = c,AGENT=localimage", "x.sif", "x.def")
    assert "What: a,b = c\n" in build.ok("inspect", "x.sif").stdout
    message = build.fails("build", "--build-arg-file", "nowhere", "y.sif", "x.def", status=1)
    assert message == "--build-arg-file: nowhere: No such file or directory"
    message = build.fails("build", "y.sif", "x.def")
    assert message.startswith("x.def:1: {{ AGENT }} has no value")
    words = ["--build-arg-file", "values", "--build-arg", "OTHER=1"]
    assert "no {{ OTHER }} in it, but a value was given" in build.fails("build", *words, "y.sif", "x.def")
    done = build.ok("build", *words, "--warn-unused-build-args", "y.sif", "x.def")
    assert "WARNING: x.def: no {{ OTHER }} in it, but a value was given" in done.stderr


def test_mksquashfs_gets_further_arguments(build: Build, definition: Definition) -> None:
    build.ok("build", "--mksquashfs-args", "-comp gzip", "x.sif", definition(""))
    with (build.directory / "x.sif").open("rb") as file:
        data = file.read()
    place = data.index(b"hsqs")
    assert int.from_bytes(data[place + 20 : place + 22], "little") == 1


def test_what_mksquashfs_does_not_take_is_said_before_the_work(build: Build, definition: Definition) -> None:
    path = definition("%post\n    echo working\n")
    for words, message in (
        (["--mksquashfs-args", "-no-such-option"], "mksquashfs does not take -no-such-option: invalid option"),
        (["--compression", "none"], 'mksquashfs does not take -comp none: Compressor "none" is not supported! (known'),
    ):
        done = build("build", *words, "y.sif", path)
        assert (done.returncode, done.stdout) == (255, "")
        assert done.stderr.startswith(f"FATAL:   {message}"), done.stderr
    assert build.leftovers() == []


def test_a_plan_is_printed_and_nothing_done(build: Build, definition: Definition) -> None:
    path = definition("%setup\n    touch /nowhere/x\n%files\n    a b\n%post\n    false\n%test\n    false\n")
    assert build.ok("build", "--dry-run", "x.sif", path.name).stdout == (
        " 1. bootstrap with localimage  (x.def:1)\n"
        " 2. make what launches and scripts expect  (default)\n"
        " 3. run on the host %setup  (x.def:3)\n"
        " 4. copy files %files  (x.def:6; perhaps from the cache)\n"
        "      a -> b\n"
        " 5. run in the image %post  (x.def:7; perhaps from the cache)\n"
        " 6. write /.singularity.d  (default)\n"
        " 7. test %test  (x.def:9)\n"
        " 8. pack x.sif  (default: a SIF file)\n"
    )
    document = json.loads(build.ok("build", "--dry-run=json", "--sandbox", "x", path.name).stdout)
    assert document["target"] == "x"
    last = {"stage": 1, "do": "place", "what": "x", "reason": "--sandbox: a directory", "cache": False}
    assert document["steps"][-1] == last
    assert build.leftovers() == []


def test_stages_are_named(build: Build, base: Path) -> None:
    del base
    text = "Bootstrap: localimage\nFrom: base\nStage: first\n%post\n    touch /made\n"
    build.write("x.def", f"{text}Bootstrap: scratch\n%files from first\n    /made\n")
    for begun in ("Running %post", "Using the cache: %post"):
        done = build.ok("build", "--force", "x.sif", "x.def")
        infos = [line.removeprefix("INFO:    ") for line in done.stderr.splitlines() if line.startswith("INFO:")]
        assert f"Stage first: {begun}" in infos
        assert "Writing x.sif" in infos
    assert "Stage 2: Using the cache: %files from stages" in infos


@pytest.mark.parametrize(("first", "missing"), [("", "/bin/sh"), ("#!/bin/none -x\n", "/bin/none")])
def test_a_runscript_without_its_interpreter_is_warned_of(build: Build, first: str, missing: str) -> None:
    build.write("x.def", f"Bootstrap: scratch\n%runscript\n{first}    echo hello\n")
    done = build.ok("build", "x.sif", "x.def")
    assert f"WARNING: %runscript needs {missing}, which is not in the image\n" in done.stderr
    build.write("x.def", "Bootstrap: scratch\n%files\n    /bin/busybox /bin/sh\n%runscript\n    echo hello\n")
    assert "WARNING" not in build.ok("build", "--force", "x.sif", "x.def").stderr


def test_a_transport_that_nobody_knows_is_no_file_that_is_missing(build: Build) -> None:
    wanted = 'dockr://debian: unknown transport "dockr" (did you mean docker://debian?)'
    assert build.fails("build", "x.sif", "dockr://debian") == wanted
    assert build.fails("build", "x.sif", "no.def") == "no.def: No such file or directory"
