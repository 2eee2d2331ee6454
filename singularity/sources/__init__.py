"""Images that are named by a URI, wherever they are: in registries, in libraries, on web servers, in files.

`fetch` is how a command was told to get them. `oci` finds images that are made of layers, `docker` those of registries,
`daemon` those of a Docker daemon; `images` those that are one file, by `oras`, `library`, `shub`, `doi` and `web`.
"""
