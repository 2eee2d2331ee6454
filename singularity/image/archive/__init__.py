"""tar and cpio archives, plain or compressed: read, written and unpacked as streams of members."""
