"""An image gets a copy on each node of a job."""

import logging
import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from singularity import console, files, locks
from singularity.errors import FileError, ImageError, NetworkError
from singularity.stage import copies, meeting
from singularity.stage.copies import Copy
from singularity.stage.meeting import Meeting
from singularity.stage.node import Door, Part, Root, joined

logger = logging.getLogger(__name__)

_LATE = 10.0  # seconds that the root waits for nodes that have not come
_TRIES, _PAUSE = 10, 0.5  # seconds
_STEP = "SLURM_STEP_NUM_NODES"  # and not the job's, which a batch script sees that runs on one of them
_RANKS = (("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"), ("PMI_SIZE", "MPI_LOCALNRANKS"))


def nodes_of(environment: Mapping[str, str]) -> int:
    """On how many nodes this command was started, as its starter says."""
    for all_, here in _RANKS:
        if environment.get(all_, "").isdecimal() and environment.get(here, "").isdecimal():
            return -(-int(environment[all_]) // max(int(environment[here]), 1))
    return int(environment[_STEP]) if environment.get(_STEP, "").isdecimal() else 1


def stage(image: Path, nodes: int, *, for_job: bool) -> Path:
    """The copy of an image on this node, brought where it is missing. Raises SingularityError."""
    job = copies.job() if for_job else ""
    if for_job and not job:
        raise FileError(f"{image}: no job is running here, with which its copy could go", hint="leave out --for-job")
    with FileError.about(image):
        file = image.open("rb")
    with file:
        status = os.fstat(file.fileno())
        copy = copies.of(image, status)
        copies.refuse_useless(image, copy.path)
        with locks.locked(copy.part, f"brings {image} to this node", done=copy.is_whole) as fd:
            if fd is None or copy.is_whole():
                if fd is not None:
                    copy.part.unlink(missing_ok=True)
                files.touch(copy.path)
                return copy.path
            try:
                copies.make_room(copy)
                copy.keep_for(job)
                with console.counting("staging", copy.size) as told:
                    part = Part(fd, copy.path, copy.size, told)
                    part.resume()
                    _Staging(image, copy, part, nodes).bring(file)
            except FileError:  # nothing more will come into a disk that is full
                copy.part.unlink(missing_ok=True)
                raise
            except OSError as error:
                raise FileError.because(image, error) from error
    return copy.path


class _Staging:
    """What a process does that brings a copy."""

    def __init__(self, image: Path, copy: Copy, part: Part, nodes: int) -> None:
        self._image, self._copy, self._part, self._nodes = image, copy, part, nodes
        self._door = Door(part)
        self._root = Root(part, self._door)

    def bring(self, file: BinaryIO) -> None:
        """As the root, or as a member; alone where there is nobody else."""
        if self._nodes <= 1:
            self._read(file)
            self._name()
            return
        path = meeting.place() / self._copy.directory.name
        lost = None
        for _ in range(_TRIES):
            held = meeting.held(path, self._door.port)
            if held is not None:
                self._lead(held, file)
                return
            found = meeting.found(path)
            if found is None:
                continue
            self._door.open(found)
            try:
                wait = joined(found, self._part, self._door)
            except NetworkError as error:
                if lost == found.pem:
                    logger.info("%s: another node begins (%s)", self._image, error)
                    meeting.forget(found)
                lost = found.pem
                time.sleep(_PAUSE)
                continue
            self._name()
            wait()
            return
        raise NetworkError(f"{self._image}: the nodes of this job do not reach each other", hint="--nodes 1")

    def _lead(self, held: Meeting, file: BinaryIO) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a connection for each node
        try:
            self._door.open(held)
            self._read(file)
            self._name()
            whole = self._root.wait(self._nodes, _LATE)
            logger.info("%s is on %d of %d nodes", self._image, whole, self._nodes)
        finally:
            meeting.forget(held)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def _read(self, file: BinaryIO) -> None:
        with ImageError.named(self._image):
            self._root.fill(file)

    def _name(self) -> None:
        """What has come gets its name; who is waiting for more of it has it open."""
        os.fchmod(self._part.fd, 0o700)
        os.fsync(self._part.fd)
        os.rename(self._copy.part, self._copy.path)
