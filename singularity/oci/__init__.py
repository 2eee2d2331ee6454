"""Images in the formats of Docker and of the Open Container Initiative (OCI), wherever their blobs are.

`digest` and `document` are the formats: what a manifest, an index and a configuration say. `source` has the places that
blobs come from; `choose` finds the image that is meant among those of a source; `layers` makes its layers a root file
system, and `container` makes its configuration the files that launches read.
"""
