"""What documents of images are called. By itself: a registry is asked for a digest without any code that reads them."""

MANIFEST_LIMIT = 4 << 20  # bytes
INDEX_TYPES = frozenset({
    "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
})  # fmt: skip
MANIFEST_TYPES = frozenset({
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
})  # fmt: skip
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
