"""Which extended attributes belong to a file, and which only to the machine that it was on."""

from singularity.image import acl, marks

CAPABILITY = b"security.capability"
_CARRIED = frozenset((CAPABILITY, acl.ACCESS, acl.DEFAULT))
_OVERLAYS = (b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.")  # would redirect or hide files when used


def is_carried(name: bytes) -> bool:
    """Whether an attribute goes along when a file is copied: what users set, capabilities and ACLs.

    Labels of a security module (`security.selinux`) and hashes (`security.ima`) are of one machine, and what an overlay
    keeps in its layers would, from a foreign archive, lead to other files. Nor what root emulation remembers.
    """
    if name.startswith((b"user.", b"trusted.")):
        return not name.startswith(_OVERLAYS) and name != marks.KEY
    return name in _CARRIED
