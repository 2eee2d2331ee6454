"""squashfs file systems in files: read by us, written and unpacked by squashfs-tools."""
