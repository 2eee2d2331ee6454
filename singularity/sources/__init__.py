"""Images that are named by a URI, wherever they are: in registries, in libraries, on web servers, in files.

`uri` is what is typed, `fetch` how a command was told to get it, `caches` where what was fetched is kept. `oci` finds
images that are made of layers, `oras`, `library`, `shub` and `web` such as are one file; `images` makes of both a file
that can be launched.
"""
