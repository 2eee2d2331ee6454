"""Images in the formats of Docker and of the Open Container Initiative (OCI), wherever their blobs are.

`files`, `layout` and `docker_archive` are places that blobs come from, `local` those of this machine; `choose` finds
the image that is meant among those of a place; `layers` makes its layers a root file system, `merge` a stream of them
all, and `container` makes its configuration the files that launches read.
"""
