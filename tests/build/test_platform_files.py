"""The scripts of an image do what they say in a real shell, and leave nothing to one that is not there."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from singularity.build import labels, platform_files, scripts
from singularity.build.platform_files import Facts
from singularity.build.request import SECTIONS
from singularity.definition.parse import parse
from singularity.image.root import Root

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
Bootstrap: scratch
%environment
    export GREETING=hello
%runscript -e
    echo runs
%apprun one
    echo one runs
%appenv one
    export ONE=yes
%apprun t-wo
    echo two runs
%help
    Helps.
"""
FACTS = Facts(architecture="amd64", time=1_700_000_000, overwrite=False, sections=SECTIONS)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.mkdir()
    write(path, TEXT)
    return path


def write(path: Path, text: str, facts: Facts = FACTS) -> None:
    definition = parse(text, "x.def")
    with Root(path) as root:
        platform_files.prepare(root)
        for app in definition.stages[0].apps:
            platform_files.lay_out_app(root, app)
        platform_files.write(root, definition, definition.stages[0], facts)


def moved(text: str, image: Path) -> str:
    """A script with the image's paths as they are from outside."""
    return re.sub(r"(?<![\w/.-])/(?=scif/|\.singularity\.d/)", f"{image}/", text)


def shell(image: Path, *names: str, **variables: str) -> dict[str, str]:
    """The variables after the environment scripts, as a POSIX shell makes them; the image's paths are where it lies."""
    texts = [(image / ".singularity.d/env" / name).read_text() for name in names]
    script = moved("\n".join(texts), image)
    for path in (image / "scif").rglob("*.sh"):
        path.write_text(moved(path.read_text(), image))
    argv = ["/bin/sh", "-eu", "-c", f"{script}\nenv -0"]
    done = subprocess.run(argv, env={"PATH": "/usr/bin:/bin", **variables}, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def test_every_script_is_understood_by_a_posix_shell(image: Path) -> None:
    paths = [path for path in image.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")]
    assert len(paths) > 12
    for path in paths:
        done = subprocess.run(["/bin/sh", "-n", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), path
        assert path.stat().st_mode & 0o777 == 0o755


def test_the_environment_without_an_application(image: Path) -> None:
    names = sorted(path.name for path in (image / ".singularity.d/env").iterdir())
    assert names == ["01-base.sh", "90-environment.sh", "94-appsbase.sh", "95-apps.sh", "99-base.sh"]
    found = shell(image, *names)
    assert found["GREETING"] == "hello"
    assert found["LD_LIBRARY_PATH"] == f"{image}/.singularity.d/libs"
    assert found["PS1"] == "Singularity> "
    assert found["SCIF_APPRUN_t_wo"] == f"{image}/scif/apps/t-wo/scif/runscript"
    assert "SCIF_APPNAME" not in found
    assert (
        shell(image, "99-base.sh", LD_LIBRARY_PATH="/opt/lib")["LD_LIBRARY_PATH"]
        == f"/opt/lib:{image}/.singularity.d/libs"
    )


def test_the_environment_of_the_application_that_is_asked_for(image: Path) -> None:
    found = shell(image, "94-appsbase.sh", "95-apps.sh", SINGULARITY_APPNAME="one")
    assert found["ONE"] == "yes"
    assert found["SCIF_APPNAME"] == "one"
    assert found["PATH"].startswith(f"{image}/scif/apps/one/bin:")
    assert found["LD_LIBRARY_PATH"] == f"{image}/scif/apps/one/lib"
    assert found["SCIF_APPS"] == "one t-wo"
    assert "ONE" not in shell(image, "95-apps.sh", SINGULARITY_APPNAME="t-wo")


def test_names_in_an_image_that_are_no_applications_do_not_reach_scripts(image: Path) -> None:
    """An image can have any name below /scif/apps: it must not become code."""
    (image / "scif/apps/x; touch stolen" / "scif").mkdir(parents=True)
    write(image, TEXT)
    assert "stolen" not in (image / ".singularity.d/env/95-apps.sh").read_text()


def test_a_second_build_keeps_history_environment_and_own_labels(image: Path) -> None:
    write(image, "Bootstrap: localimage\nFrom: x\n%environment\n    export MORE=yes\n%labels\n  A b\n")
    found = shell(image, "90-environment.sh")
    assert (found["GREETING"], found["MORE"]) == ("hello", "yes")
    assert (image / ".singularity.d/bootstrap_history/Singularity0").read_text() == TEXT
    assert (image / ".singularity.d/runscript").read_text() == "#!/bin/sh -e\n\n    echo runs\n"
    read = json.loads((image / ".singularity.d/labels.json").read_text())
    assert read["A"] == "b"
    assert read["org.label-schema.usage.singularity.deffile.bootstrap"] == "localimage"
    assert read["org.label-schema.usage.singularity.runscript.help"] == "/.singularity.d/runscript.help"


def test_scripts_of_an_image_of_version_2_go_where_they_are_today(tmp_path: Path) -> None:
    (tmp_path / "singularity").write_text("echo old\n")
    (tmp_path / "environment").write_text("export OLD=1\n")
    (tmp_path / ".test").write_text("#!/bin/sh\ntrue\n")
    write(tmp_path, "Bootstrap: scratch\n")
    assert (tmp_path / ".singularity.d/runscript").read_text() == "#!/bin/sh\necho old\n"
    assert "export OLD=1" in (tmp_path / ".singularity.d/env/90-environment.sh").read_text()
    assert (tmp_path / ".singularity.d/test").read_text() == "#!/bin/sh\ntrue\n"
    assert (tmp_path / "singularity").is_symlink()


def test_a_container_without_a_test_never_gets_one_from_its_own_link(tmp_path: Path) -> None:
    """`/.test` leads to the script that starts the test: as the test it started itself without end."""
    for _ in range(2):
        write(tmp_path, "Bootstrap: scratch\n")
        with Root(tmp_path) as root:
            platform_files.restore(root)
        assert (tmp_path / ".test").exists()
        assert not (tmp_path / ".singularity.d/test").exists()


def test_what_post_wrote_becomes_part_of_the_image(image: Path) -> None:
    (image / ".singularity.d/env/91-environment.sh").write_text("export POSTED=yes\n")
    (image / ".build.labels").write_text("Posted  one two\n# none\n\nTab\tbed\n")
    write(image, TEXT)
    assert shell(image, "91-environment.sh")["POSTED"] == "yes"
    read = json.loads((image / ".singularity.d/labels.json").read_text())
    assert (read["Posted"], read["Tab"]) == ("one two", "bed")


def test_a_section_with_its_own_interpreter_keeps_it() -> None:
    stage = parse("Bootstrap: scratch\n%runscript -u\n\n#!/usr/bin/python3 -I\nprint()\n", "x.def").stages[0]
    assert stage.runscript is not None
    assert scripts.executable(stage.runscript) == "#!/usr/bin/python3 -I -u\nprint()\n"


def test_labels_that_only_builds_make_are_always_the_last_build_s() -> None:
    before = {
        "A": "old",
        "B": "old",
        "org.label-schema.build-date": "old",
        "org.label-schema.usage": "old",
        "org.x": "kept",
    }
    automatic = {"org.label-schema.build-date": "new"}
    result, kept = labels.merged(before, {"A": "new", "C": "new", "B": "old"}, automatic, overwrite=False)
    assert result == {"A": "old", "B": "old", "C": "new", "org.label-schema.build-date": "new", "org.x": "kept"}
    assert kept == ["A"]
    result, kept = labels.merged(before, {"A": "new"}, automatic, overwrite=True)
    assert (result["A"], kept) == ("new", [])


def test_the_time_zone_is_a_file_that_launches_mount_on(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "zone").write_bytes(b"TZif2")
    (tmp_path / "etc" / "localtime").symlink_to("/zone")
    with Root(tmp_path) as root:
        platform_files.prepare(root)
    assert not (tmp_path / "etc" / "localtime").is_symlink()
    assert (tmp_path / "etc" / "localtime").read_bytes() == b"TZif2"


def test_labels_say_in_the_words_of_oci_images_what_was_built_when_and_on_what(image: Path, tmp_path: Path) -> None:
    base = tmp_path / "base.sif"
    content = bytes(32) + b"SIF_MAGIC\0" + bytes(100)
    base.write_bytes(content)
    write(image, f"Bootstrap: localimage\nFrom: {base}\n%labels\n  org.opencontainers.image.created long ago\n")
    found = json.loads((image / ".singularity.d/labels.json").read_text())
    prefix = "org.opencontainers.image."
    assert found[f"{prefix}base.name"] == str(base)
    assert found[f"{prefix}base.digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert found[f"{prefix}created"] == "long ago"
    assert found[f"{prefix}architecture"] == "amd64"
    write(image, f"Bootstrap: localimage\nFrom: {tmp_path}\n")
    found = json.loads((image / ".singularity.d/labels.json").read_text())
    assert found[f"{prefix}created"] == "2023-11-14T22:13:20Z"
    assert f"{prefix}base.name" not in found


def test_a_link_to_time_zones_that_are_not_there_gives_way_to_a_file(tmp_path: Path) -> None:
    """debootstrap links /etc/localtime whether or not a package has brought the zones along."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "etc" / "localtime").symlink_to("/usr/share/zoneinfo/UTC")
    (tmp_path / "etc" / "resolv.conf").symlink_to("../run/resolv.conf")
    with Root(tmp_path) as root:
        platform_files.prepare(root)
    assert (tmp_path / "etc" / "localtime").read_bytes() == b""
    assert not (tmp_path / "etc" / "localtime").is_symlink()
    assert (tmp_path / "run" / "resolv.conf").read_bytes() == b""
