"""Dockerfiles, as their reference has them (https://docs.docker.com/reference/dockerfile/): from text to stages.

`lines` has the text as instructions, `words` what stands in one, `mounts` those of RUN, `ignore` patterns of
`.dockerignore`, `state` what instructions say of an image, and `parse` makes stages of definitions. What an instruction
does to files is the build's affair.
"""

from singularity.definition.dockerfile.parse import Asked, parse, recognise

__all__ = ["Asked", "parse", "recognise"]
