"""A mount namespace that nobody else looks into, for whoever calls as the same user."""

import os
from pathlib import Path

from singularity import kernel


def enter() -> None:
    """This process gets it, and without root's rights a user namespace to mount in, with its own ids. Raises OSError.

    The process must have one thread.
    """
    uid, gid = os.getuid(), os.getgid()
    if os.geteuid() == 0:
        kernel.unshare(kernel.CLONE_NEWNS)
    else:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        for what, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{what}").write_text(text, encoding="ascii")
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
