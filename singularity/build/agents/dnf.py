"""`Bootstrap: dnf`: another name of `Bootstrap: yum`; which of the two programs runs is a matter of the host."""

from singularity.build.agents.yum import bootstrap, check, source_digest

__all__ = ["bootstrap", "check", "source_digest"]
