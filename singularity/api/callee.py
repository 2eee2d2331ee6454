"""What programs can be called in more than once: what a call is, told for those who wait and for those who await."""

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

from singularity.api import launches
from singularity.api.calls import Call, Stream, waiting
from singularity.api.door import Word

if TYPE_CHECKING:
    from typing import Unpack

    from singularity.api.options import CallOptions

OWN = ("env", "env_file", "cwd", "app", "cleanenv", "no_eval", "no_umask", "new_session", "keep_fd")
"""The options that a call may have its own of; the others make the container."""


class Callee(ABC):
    """A container that stays: `Container` and `Instance`, of the package and of `aio`."""

    _directory: str | None = None  # of the host, where calls are started; None: the current one

    @abstractmethod
    def _called(self, options: Mapping[str, object], program: Sequence[Word], verb: str) -> tuple[str, ...]:
        """The command line of a call. Raises LaunchError where there is no container, TypeError for other options."""

    def _exec(
        self,
        program: Word | Sequence[Word],
        *,
        input: str | bytes | None = None,  # noqa: A002
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **options: "Unpack[CallOptions]",
    ) -> Call[CompletedProcess[str]]:
        """Runs a program in the container; all is as for `singularity.exec`.

        `options` are those that a call may have its own of: env, env_file, cwd, app, cleanenv, no_eval, no_umask,
        new_session, keep_fd. Raises LaunchError where the container is not there, or not any more.
        """
        return launches.launch(
            self._called(options, launches.words(program), "exec"),
            launches.streams(input, stdin, stdout, stderr, capture_output=capture_output, options=options),
            timeout=timeout,
            check=check,
            directory=self._directory,
        )

    def _run(
        self,
        arguments: Sequence[Word] = (),
        *,
        input: str | bytes | None = None,  # noqa: A002
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **options: "Unpack[CallOptions]",
    ) -> Call[CompletedProcess[str]]:
        """Runs the image's runscript in the container with these arguments; all else is as for `exec`."""
        return launches.launch(
            self._called(options, launches.several(arguments), "run"),
            launches.streams(input, stdin, stdout, stderr, capture_output=capture_output, options=options),
            timeout=timeout,
            check=check,
            directory=self._directory,
        )


class Waits(Callee):
    """One whose caller waits."""

    exec = waiting(Callee._exec)
    run = waiting(Callee._run)

    def popen(
        self,
        program: Word | Sequence[Word],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        **options: "Unpack[CallOptions]",
    ) -> "subprocess.Popen[bytes]":
        """Starts a program in the container and does not wait for it, as `singularity.popen` does."""
        words = self._called(options, launches.words(program), "exec")
        return subprocess.Popen(
            words, stdin=stdin, stdout=stdout, stderr=stderr, cwd=self._directory, pass_fds=launches.kept(options)
        )


def refuse(options: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Raises TypeError for options that no call may have its own of."""
    for name in options:
        if name not in OWN:
            hint = "it is one of the container" if name in known else f"known are {', '.join(OWN)}"
            raise TypeError(f"a call in a container has no option {name!r}; {hint}")
