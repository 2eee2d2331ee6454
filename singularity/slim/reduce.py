"""`build --only`: an image without what its traces have not used, kept only where its %test passes."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from singularity import console, files, paths, process
from singularity.build.request import Chosen
from singularity.errors import BuildError, ImageError
from singularity.files import NewFile
from singularity.image import metadata, removed, stacked
from singularity.image.identify import Image, recognise
from singularity.image.lookup import Followed, translated
from singularity.image.root import Root
from singularity.packages.model import Survey
from singularity.slim import python_hook, selection, traces
from singularity.slim.traces import Trace

logger = logging.getLogger(__name__)

_TEST = f"{metadata.DIRECTORY}/test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduction:
    """What the options of such a build say."""

    traces: Sequence[Path]
    keep: Sequence[str] = ()
    whole_packages: bool = False
    test: bool = True

    def chosen(self, image: Image) -> Chosen:
        """What stays of an image. Raises FileError for traces, ImageError for an image that has overlays."""
        if image.overlays:
            what = f"--only: {image.path}: it has an overlay, whose files no trace has"
            raise ImageError(what, hint="build a sandbox of it, an image of that, and trace this one")
        trace = traces.read(self.traces)
        with console.working("choosing files"), translated(image.path), stacked.shown(image) as lookup:
            survey = Survey(lookup)
            found = selection.choose(survey, trace.names, self.keep, whole_packages=self.whole_packages)
            before = removed.read(Followed(lookup))
        other = sum(each not in survey.walked for each in trace.names)
        _warn(trace, other, image.path)
        _say_sizes(found)
        gone = {*found.removed, *(each for each in before if each.rpartition("/")[0] in {"", *found.kept})}

        def complete(root: Root) -> None:
            left = removed.write(root, gone)
            if left:
                logger.warning("%d of %d removed names have no place in %s", left, len(gone), removed.FILE)
            python_hook.write(root, found.kept)

        return Chosen(paths={b"", *(os.fsencode(each[1:]) for each in found.kept)}, complete=complete)

    def try_out(self, new: NewFile, target: Path) -> None:
        """Runs %test of the new image, where it has one. Raises BuildError where that fails."""
        with open(new.fd, "rb", closefd=False) as file:
            image = recognise(file, Path(new.path))
        with stacked.shown(image) as lookup:
            has_test = Followed(lookup).resolve(_TEST)[1] is not None
        if not self.test or not has_test:
            logger.info("No %test is run: nothing has tried the new image")
            return
        logger.info("Running %test of the new image")
        with files.temporary_directory(target.parent) as place:  # a launch takes no file without a name
            named = place / target.name
            _give_second_name(new, named)
            argv: list[str | Path] = [paths.front_door(), "--quiet", "test", named]
            status = process.attached(argv, environment=os.environ)
        if status:
            what = f"--only: %test of the new image failed with status {status}, and it is not kept"
            hint = "singularity test --trace FILE IMAGE adds what %test uses to a trace; --notest leaves it unasked"
            raise BuildError(what, hint=hint)


def _give_second_name(new: NewFile, name: Path) -> None:
    try:
        os.link(new.path, name)
    except OSError:  # a file system that knows one name alone
        with name.open("xb") as file:
            files.copy_data(new.fd, file.fileno())


def _warn(trace: Trace, other: int, image: Path) -> None:
    if trace.incomplete:
        logger.warning("A traced run used more names than are kept: what is not in its trace is left out")
    if other:
        count = len(trace.names)
        logger.warning("%d of the %d names in the traces are not in %s: made with another?", other, count, image)


def _say_sizes(found: selection.Selection) -> None:
    size, kept = console.size(found.size), console.size(found.kept_size)
    logger.info("%d of %d files stay, %s of %s", found.kept_files, found.files, kept, size)
