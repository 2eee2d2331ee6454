"""Run by a Python that has py-rattler, the solver and installer of pixi: installs packages from a channel.

conda_install.py CHANNEL PREFIX PACKAGE...: then prints name, version and build of what rattler reads in the prefix.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import rattler


async def install(channel: str, prefix: Path, packages: list[str]) -> None:
    records = await rattler.solve([channel], packages, platforms=["linux-64", "noarch"])
    await rattler.install(records, target_prefix=prefix, show_progress=False)


def main() -> None:
    channel, prefix, *packages = sys.argv[1:]
    asyncio.run(install(channel, Path(prefix), packages))
    records = [rattler.PrefixRecord.from_path(each) for each in sorted(Path(prefix, "conda-meta").glob("*.json"))]
    json.dump([[each.name.normalized, str(each.version), str(each.build)] for each in records], sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # rattler's threads do not always survive Python's own end


if __name__ == "__main__":
    main()
