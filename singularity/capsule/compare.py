"""What differs between a record and what is there now, or another run."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass

from singularity.capsule import contents
from singularity.capsule.model import Content, Kind, Part, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that is not as the record has it."""

    what: str  # "input", "output", "status", "host"
    name: str
    how: str
    counts: bool = True  # what the launcher brings in, and the host, explain differences and are none

    def document(self) -> dict[str, object]:
        """As JSON has it."""
        return asdict(self)


def inputs(record: Record, own: Collection[str]) -> Iterator[Difference]:
    """Files that the run has read and that are not what they were; `own` are names of ours, which are no matter."""
    made = {each.path: each.digest for each in record.outputs}
    limits = contents.Limits(names={*own, *made}, links=True)
    for each in record.inputs:
        if not each.digest or each.kind is Kind.OTHER:
            yield Difference(
                what="input", name=each.path, how=f"cannot be compared: {each.note or 'no digest'}", counts=False
            )
            continue
        found = contents.now(each.path, limits._replace(size=each.size))  # what is larger is another
        counts = each.part is not Part.HOST
        if found is None:
            yield Difference(what="input", name=each.path, how="is not there", counts=counts)
        elif found.digest != each.digest:
            how = "is what the run made of it" if found.digest == made.get(each.path) else _how(each, found)
            yield Difference(what="input", name=each.path, how=how, counts=counts)


def files(record: Record) -> Iterator[Difference]:
    """Files that the run has made and that are not what they were."""
    for each in record.outputs:
        if each.digest:
            found = contents.now(each.path, contents.Limits(size=each.size, links=True))
            if found is None:
                yield Difference(what="output", name=each.path, how="is not there")
            elif found.digest != each.digest:
                yield Difference(what="output", name=each.path, how=_how(each, found))
    for path in record.removed:
        if contents.now(path, contents.Limits(size=0, links=True)) is not None:
            yield Difference(what="output", name=path, how="is there, and the run removed it")


def runs(record: Record, again: Record) -> Iterator[Difference]:
    """How a second run came out otherwise."""
    if record.status != again.status:
        yield Difference(what="status", name="exit status", how=f"{again.status} in place of {record.status}")
    yield from _outputs(record, again)
    known = {each.path for each in record.inputs}
    for each in again.inputs:
        if each.path not in known and each.part is Part.USER and each.kind is Kind.FILE:
            yield Difference(what="input", name=each.path, how="is read, and was not", counts=False)
    for name in sorted(record.host.keys() | again.host.keys()):
        was, now = record.host.get(name, "none"), again.host.get(name, "none")
        if was != now:
            yield Difference(what="host", name=name, how=f"{now} in place of {was}", counts=False)


def _outputs(record: Record, again: Record) -> Iterator[Difference]:
    new = {each.path: each for each in again.outputs}
    for each in record.outputs:
        found = new.pop(each.path, None)
        if found is None:
            yield Difference(what="output", name=each.path, how="was not written", counts=each.part is not Part.STREAM)
        elif not each.digest or not found.digest:
            how = f"cannot be compared: {each.note or found.note}"
            yield Difference(what="output", name=each.path, how=how, counts=False)
        elif (each.kind, each.digest) != (found.kind, found.digest):
            yield Difference(what="output", name=each.path, how=_how(each, contents.Now(found.kind, found.size, "")))
    for each in new.values():
        if each.part is not Part.STREAM:
            yield Difference(what="output", name=each.path, how="is written, and was not")
    for path in set(record.removed) ^ set(again.removed):
        how = "is not removed, and was" if path in record.removed else "is removed, and was not"
        yield Difference(what="output", name=path, how=how)


def differ(found: Sequence[Difference]) -> bool:
    """Whether any of it counts."""
    return any(each.counts for each in found)


def _how(was: Content, found: contents.Now) -> str:
    if was.kind is not found.kind:
        return f"is a {found.kind.value}, and was a {was.kind.value}"
    if was.kind is Kind.DIRECTORY:
        return f"has other names in it: {found.size} of them, and {was.size} then"
    if was.size != found.size:
        return f"has {found.size} bytes in place of {was.size}"
    return "has another content, of the same size"
