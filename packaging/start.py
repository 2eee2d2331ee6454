"""Starts the Python side of an unpacked archive on a Python of the machine; one that is too old looks for another.

It is read by those too: nothing in it is newer than Python 3.6.
"""

import os
import sys

OLDEST, NEWEST = 11, 19

if sys.version_info < (3, OLDEST):
    directories = [*os.environ.get("PATH", "").split(":"), "/usr/bin", "/usr/local/bin"]
    for minor in range(NEWEST, OLDEST - 1, -1):
        for directory in directories:
            path = os.path.join(directory, f"python3.{minor}")
            if os.access(path, os.X_OK):
                os.execv(path, [path, "-I", *sys.argv])  # noqa: S606
    found = f"{sys.executable} is Python {sys.version_info[0]}.{sys.version_info[1]}"
    what = f"FATAL:   Python 3.{OLDEST} or newer is needed for everything but starting containers, and {found}"
    sys.stderr.write(what + " (install a newer one)\n")
    sys.exit(255)

library = os.path.dirname(os.path.abspath(__file__))
top = os.path.dirname(os.path.dirname(library))
sys.path[0] = library
sys.prefix = top  # where the launcher and the configuration are looked for
sys.executable = os.path.join(top, "bin", "python3")

import runpy  # noqa: E402

runpy.run_module("singularity", run_name="__main__", alter_sys=True)
