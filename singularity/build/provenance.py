"""What a build says about itself: the predicate of SLSA's provenance 1.0, in the words of this program.

Only what is known for certain: the definition and the options as they were given, images that the build began with
and their digests, and of builds with a lock what package managers and scripts fetched. Values of templates and contents
of files are left out, since they may be secret; the definition is in the image anyway.
"""

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from singularity import __version__, digest
from singularity.build import pack
from singularity.build.locked.document import Fetched
from singularity.build.steps import Plan
from singularity.errors import SingularityError
from singularity.image import metadata
from singularity.image.identify import identify
from singularity.image.sif import edit
from singularity.image.sif.format import DataType
from singularity.transports import Transport
from singularity.trust import provenance
from singularity.trust.pem import PemSeal

_BUILD_TYPE = "urn:singularity:build:1"  # docs/signing.md says what its parameters are
_BUILDER = "urn:singularity"
_BASE = "org.opencontainers.image.base"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What must be looked at before a build."""

    plan: Plan
    inputs: tuple[Mapping[str, Any], ...]
    started: datetime = field(default_factory=lambda: datetime.now(UTC))


def begin(plan: Plan) -> Begun:
    """Takes the digests of the files that the build begins with. Raises FileError."""
    return Begun(plan=plan, inputs=tuple(_inputs(plan)))


def add(target: Path, begun: Begun, seal: PemSeal | None, fetched: Iterable[Fetched] = ()) -> None:
    """Puts the provenance into a SIF file that is finished, and not signed yet. Raises SingularityError.

    `fetched` is what a build with a lock has noted.
    """
    found = [{"uri": each.url, "digest": {"sha256": each.sha256}} for each in fetched if each.sha256]
    with edit.editing(target) as editor, target.open("rb") as file:
        data = provenance.envelope(file, _predicate(begun, target, found), seal)
        primary = editor.content.primary()
        group = primary.group if primary else 0
        addition = edit.Addition(type=DataType.GENERIC_JSON, name=provenance.OBJECT_NAME, group=group)
        editor.add(addition, io.BytesIO(data))


def _predicate(begun: Begun, target: Path, found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    plan, epoch = begun.plan, pack.source_date_epoch()
    request, definition = plan.request, plan.definition
    parameters: dict[str, Any] = {
        "source": _name(definition.name),
        "definition": definition.text,
        "sections": sorted(request.sections),
        "templateArguments": sorted(request.arguments),
        "mksquashfsArguments": list(request.mksquashfs_arguments),
        "architecture": request.architecture,
        "fixPermissions": request.fix_permissions,
        "sourceDateEpoch": epoch,
    }
    run: dict[str, Any] = {"builder": {"id": _BUILDER, "version": {"singularity": __version__}}}
    if epoch is None:  # else the same inputs make the same file
        run["metadata"] = {
            "invocationId": f"urn:uuid:{uuid4()}",
            "startedOn": _time(begun.started),
            "finishedOn": _time(datetime.now(UTC)),
        }
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE,
            "externalParameters": {key: value for key, value in parameters.items() if value not in ("", [], None)},
            "resolvedDependencies": [*begun.inputs, *_fetched(plan, target), *found],
        },
        "runDetails": run,
    }


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _name(text: str) -> str:
    """Of a file its own name, since directories say more of a machine than of an image."""
    return text if ":" in text else Path(text).name


def _inputs(plan: Plan) -> Iterator[Mapping[str, Any]]:
    source = Path(plan.definition.name)
    files = [source, *plan.bases] if source not in plan.bases else plan.bases
    for path in dict.fromkeys(files):
        if path.is_file():
            yield {"uri": f"file:{path.name}", "digest": {"sha256": digest.of_file(path)}}


def _fetched(plan: Plan, target: Path) -> Iterator[Mapping[str, Any]]:
    """The image of a registry that the file system says it comes from, where the build began with one."""
    if plan.definition.stages[-1].agent not in {each.value for each in Transport}:
        return
    try:
        labels = metadata.of_sif(target) or metadata.read(identify(target))
    except (SingularityError, OSError):
        return
    name, said = (labels.labels.get(f"{_BASE}.{key}", "") for key in ("name", "digest"))
    algorithm, colon, digits = said.partition(":")
    if name and colon:
        scheme = "" if "://" in name else f"{Transport.DOCKER.value}://"
        yield {"uri": f"{scheme}{name}", "digest": {algorithm: digits}}
