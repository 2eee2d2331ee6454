"""What an image says about itself as the configuration of an OCI image, and the way back of what came with one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from images import write

from singularity.content import digest, document
from singularity.errors import ImageError
from singularity.image.root import Root
from singularity.oci import container
from singularity.oci.image import Image
from singularity.push import configuration

if TYPE_CHECKING:
    from pathlib import Path

FULL: dict[str, Any] = {
    "User": "7:8",
    "ExposedPorts": {"80/tcp": {}},
    "Env": ["PATH=/usr/bin:/bin", "odd name=x", 'A=it\'s "q" $HOME \\n', "A=twice", "NEW\nLINE=1"],
    "Entrypoint": ["/bin/sh", "-c", 'echo "$@"', ""],
    "Cmd": ["two words", "$X", "new\nline"],
    "Volumes": {"/data": {}},
    "WorkingDir": "/srv",
    "Labels": {"z": "1", "org.opencontainers.image.created": "2020-01-01T00:00:00Z", "ü": '"'},
    "StopSignal": "SIGUSR1",
    "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1},
    "ArgsEscaped": True,
}


def said(root: Path, *, kept: bytes | None = None, has_shell: bool = True) -> configuration.Configuration:
    with Root(root) as files:
        return configuration.of(files, kept=kept, has_shell=has_shell, name="x.sif")


def came(root: Path, raw: dict[str, Any]) -> None:
    """What `build` makes of a configuration."""
    with Root(root) as files:
        config = document.parse_config(json.dumps({"config": raw}).encode(), "x")
        container.write(files, Image(name="x", digest=digest.of(b""), config=config, layers=()))
    labels = root / ".singularity.d/labels.json"
    found = json.loads(labels.read_text())
    found |= {"org.label-schema.build-date": "today", "org.opencontainers.image.created": "2026-01-01T00:00:00Z"}
    labels.write_text(json.dumps(found))


@pytest.mark.parametrize(
    "raw", [FULL, {}, {"Cmd": ["x"]}, {"Entrypoint": [], "Cmd": None, "Env": None}, {"Labels": {}}]
)
def test_a_configuration_comes_back_to_the_letter(root: Path, raw: dict[str, Any]) -> None:
    came(root, raw)
    found = said(root)
    assert json.dumps(dict(found.content)) == json.dumps(raw)
    assert (found.came_with, found.entrypoint, found.code) == (True, None, ())


def test_the_object_of_a_peers_sif_file_is_such_a_configuration(root: Path) -> None:
    text = "#!/bin/sh\nOCI_ENTRYPOINT='\"/bin/sh\"'\nOCI_CMD=''\n# more of the peer's\n"
    write(root / ".singularity.d/runscript", text, 0o755)
    write(root / ".singularity.d/env/10-docker2singularity.sh", 'export A="${A:-"escaped \\\\\\$"}"\n')
    found = said(root, kept=json.dumps(FULL).encode())
    assert found.content == FULL


def test_what_a_definition_file_changed_is_said_and_the_rest_stays(root: Path) -> None:
    came(root, FULL)
    place = root / ".singularity.d"
    write(place / "runscript", "#!/bin/sh\necho mine\n", 0o755)
    write(place / "env/90-environment.sh", "export PATH=/opt/bin:$PATH\nexport B=c\n", 0o755)
    labels = json.loads((place / "labels.json").read_text()) | {"z": "2", "more": "x"}
    write(place / "labels.json", json.dumps(labels))
    found = said(root)
    assert found.content["Entrypoint"] == ["/.singularity.d/entrypoint"]
    assert "Cmd" not in found.content
    assert found.entrypoint == b"#!/bin/sh\necho mine\n"
    assert found.content["Env"] == ["PATH=/opt/bin:/usr/bin:/bin", *FULL["Env"][1:], "B=c"]
    assert found.content["Labels"] == {**FULL["Labels"], "z": "2", "more": "x"}
    for key in ("User", "WorkingDir", "Healthcheck", "ExposedPorts", "StopSignal", "Volumes"):
        assert found.content[key] == FULL[key]


def test_a_path_that_is_extended_a_second_time_stays(root: Path) -> None:
    """As in an image that was pushed, and pulled again."""
    came(root, {"Env": ["PATH=/first:/bin:/last", "A_PATH=/x", "LIST=x"]})
    script = "export PATH=/first:$PATH:/last A_PATH=/y:$A_PATH LIST=x:$LIST\n"
    write(root / ".singularity.d/env/90-environment.sh", script, 0o755)
    assert said(root).content["Env"] == ["PATH=/first:/bin:/last", "A_PATH=/y:/x", "LIST=x:x"]


def test_an_image_of_a_definition_file(root: Path) -> None:
    place = root / ".singularity.d"
    write(place / "runscript", "#!/usr/bin/python3\nprint(1)\n", 0o755)
    write(place / "env/90-environment.sh", "export A=b\n", 0o755)
    write(place / "env/99-base.sh", "export PS1=no\n", 0o755)
    write(place / "labels.json", '{"org.label-schema.build-arch": "amd64", "b": "c"}')
    found = said(root)
    assert found.content == {
        "Entrypoint": ["/.singularity.d/entrypoint"],
        "Env": ["A=b"],
        "Labels": {"b": "c", "org.label-schema.build-arch": "amd64"},
    }


def test_where_the_environment_is_code_it_runs_before_the_runscript(root: Path) -> None:
    place = root / ".singularity.d"
    write(place / "runscript", "echo no interpreter line\n", 0o755)
    write(place / "env/90-environment.sh", "export A=$(id)\nexport B=1\n", 0o755)
    found = said(root)
    assert found.content["Env"] == ["B=1"]
    assert found.content["Entrypoint"][:2] == ["/bin/sh", "-c"]
    assert found.content["Entrypoint"][2].endswith('exec /bin/sh /.singularity.d/entrypoint "$@"')
    assert found.code == ("90-environment.sh:1 (A)",)
    assert said(root, has_shell=False).content["Entrypoint"] == ["/bin/sh", "/.singularity.d/entrypoint"]


def test_an_image_of_version_2(root: Path) -> None:
    write(root / "singularity", "echo old\n", 0o755)
    write(root / "environment", "A=b\nexport A\n")
    found = said(root)
    assert found.content == {"Entrypoint": ["/bin/sh", "/.entrypoint"], "Env": ["A=b"]}
    assert (found.place, found.entrypoint) == ("/.entrypoint", b"echo old\n")


def test_an_image_that_says_nothing_has_a_shell_where_there_is_one(root: Path) -> None:
    assert said(root).content == {"Cmd": ["/bin/sh"]}
    assert said(root, has_shell=False).content == {}


@pytest.mark.parametrize("kept", [b"[]", b"{", b'{"Env": 1}', b'{"Labels": {"a": 1}}', b'{"Cmd": ["a\\u0000"]}'])
def test_a_damaged_configuration_is_refused(root: Path, kept: bytes) -> None:
    with pytest.raises(ImageError, match=r"x\.sif: "):
        said(root, kept=kept)
