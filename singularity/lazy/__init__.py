"""Images that are started before they are there: what a program reads is fetched when it reads it.

`image` is a file whose bytes come from elsewhere: `web` has those of an image on a web server, `layers` those of an OCI
image whose layers say where each file is. `fuse` shows such a file to the kernel, and `server` is the process that does
so for as long as a container runs, and meanwhile fetches the rest.
"""
