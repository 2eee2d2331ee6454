"""EROFS: read without a mount or a tool, and written through mkfs.erofs."""
