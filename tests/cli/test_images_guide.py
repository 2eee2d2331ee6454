"""What docs/images.md shows is what happens, for root and for an ordinary user."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from containers import TIMEOUT, contents

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers import Person

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "images.md").read_text()
SHOWN = re.findall(r"^```sh\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
BOX, MORE = re.findall(r"^```singularity\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
PREPARED = f"""\
mkdir -p tree/srv
echo data > tree/srv/data
printf '#!/bin/sh\\necho tool\\n' > tool.sh
cat > box.def <<'EOF'
{BOX}
EOF
cat > more.def <<'EOF'
{MORE}
EOF
tar -c -z -f rootfs.tar.gz -C tree .
"""


@pytest.mark.needs("busybox")
@pytest.mark.parametrize("name", ["root", "user"])
def test_every_command_of_the_guide_works(anyone: Callable[[str], Person], name: str) -> None:
    person = anyone(name)
    own = person.directory / "bin"
    own.mkdir()
    (own / "singularity").write_text(f'#!/bin/sh\nexec {sys.executable} -I -m singularity -q "$@"\n')
    (own / "singularity").chmod(0o755)
    person.give(own)
    environment = person.environment({})
    environment["PATH"] = f"{own}:{environment['PATH']}"
    script = "set -e\n" + PREPARED + "set -x\n" + "".join(SHOWN)
    done = subprocess.run(
        ["/bin/bash", "-o", "pipefail"],
        input=script,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=5 * TIMEOUT,
        preexec_fn=replace(person.world, cwd=person.directory).enter,
    )
    assert done.returncode == 0, done.stderr
    found = contents(person.directory / "box.img")
    assert {"first", "second", "srv/data", "usr/bin/tool", "opt/tree/srv/data", "etc/changed", ".exec"} <= set(found)
    assert {(each.uid, each.gid) for path, each in found.items() if path.startswith("opt/tree")} == {(0, 0)}
    second = contents(person.directory / "second.img")
    assert {"first", "second", "srv/data"} <= set(second)
    assert contents(person.directory / "unpacked").keys() >= second.keys() - {"lost+found"}
    shutil.rmtree(person.directory / "unpacked")


def test_every_verb_of_the_guide_is_shown_with_its_command() -> None:
    text = "".join(SHOWN)
    for verb in ("create", "bootstrap", "import", "export", "copy", "mount"):
        assert f"singularity {verb} " in text
