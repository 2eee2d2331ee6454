"""Containers that stay under a name: which there are, how they are ended, and what they use."""
