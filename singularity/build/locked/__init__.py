"""Locked builds: what a build fetches is noted by digest, kept, and played back (docs/locked-builds.md)."""
