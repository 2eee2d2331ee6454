"""Run by a Python that has py-rattler: installs two conda packages, and prints what rattler then reads in the prefix.

conda_pair.py WORK TARGET
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "corpus"))
import conda_environment
import rattler


async def install(channel: Path, target: Path, work: Path) -> None:
    gateway = rattler.Gateway(cache_dir=work / "repodata")
    records = await rattler.solve([channel.as_uri()], ["upper"], gateway=gateway, platforms=["linux-64", "noarch"])
    await rattler.install(records, target_prefix=target, cache_dir=work / "cache", show_progress=False)


def main() -> None:
    work, target = (Path(word).absolute() for word in sys.argv[1:])
    for name, version, depends in (("lower", "1.2", []), ("upper", "2024.1", ["lower"])):
        tree = work / name
        (tree / "share").mkdir(parents=True)
        (tree / "share" / name).write_text(name)
        conda_environment.package(work / "channel", name, version, tree, depends)
    conda_environment.index(work / "channel")
    asyncio.run(install(work / "channel", target, work))
    records = [rattler.PrefixRecord.from_path(each) for each in sorted((target / "conda-meta").glob("*.json"))]
    json.dump([[each.name.normalized, str(each.version), str(each.build)] for each in records], sys.stdout)


main()
