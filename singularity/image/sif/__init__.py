"""SIF files: the format, and changes to files that exist."""
