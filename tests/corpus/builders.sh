# The builders of the corpus: each function makes one image and leaves it in $OUT, as an OCI `layout` with the tag `t`, as
# skopeo's `dir` or as `image.tar`. Run in the workshop (workshop.py) with /tmp of its own, until the first command fails.
#
# $CONTEXT holds the Containerfile of $STACK; $FROM is the layout that `buildkit` made of it, for those who make one image
# out of another; $REGISTRY takes and gives images; $STORAGE stays between runs.
# shellcheck shell=dash

copy() { skopeo copy --quiet --insecure-policy "$@"; }
there=docker://$REGISTRY/tmp/$STACK:t

# ---- BuildKit, in Docker's daemon
buildx() {
    SOURCE_DATE_EPOCH=${EPOCH:-} docker buildx build --quiet --network host --build-arg "REGISTRY=$REGISTRY" \
        -f "$CONTEXT/Containerfile" "$@" "$CONTEXT"
}
layout() {
    compression=$1
    shift
    buildx --output "type=oci,dest=$OUT/layout,tar=false,name=corpus:t,force-compression=true,compression=$compression" "$@"
}
buildkit() { layout gzip --provenance=false; }
buildkit_zstd() { layout zstd --provenance=false; }
buildkit_plain() { layout uncompressed --provenance=false; }
buildkit_attested() { layout gzip --provenance=mode=max; }
buildkit_schema2() { layout gzip,oci-mediatypes=false --provenance=false; }
buildkit_dated() { EPOCH=1000000000 && layout gzip,rewrite-timestamp=true --provenance=false; }
buildkit_docker() { buildx --provenance=false --output "type=docker,dest=$OUT/image.tar,name=corpus:t"; }
docker_save() { buildx --load -t "corpus/$STACK" && docker save -o "$OUT/image.tar" "corpus/$STACK"; }
docker_commit() {
    buildx --load -t "corpus/$STACK"
    name=$(docker create --network none "corpus/$STACK" /none)
    echo committed >/tmp/committed
    docker cp --quiet /tmp/committed "$name:/committed"
    docker commit "$name" "corpus/$STACK-2"
    docker rm "$name"
    docker save -o "$OUT/image.tar" "corpus/$STACK-2"
}

# ---- buildah and podman
options="--root $STORAGE/buildah --runroot /run/buildah"
# buildah would raise these, which not every machine lets root do.
files=$(ulimit -H -n)
processes=$(ulimit -H -p)
build() {
    # shellcheck disable=SC2086
    buildah $options build --quiet --isolation chroot --network host --tls-verify=false --build-arg "REGISTRY=$REGISTRY" \
        --ulimit "nofile=$files:$files" --ulimit "nproc=$processes:$processes" \
        -f "$CONTEXT/Containerfile" -t "$STACK" "$@" "$CONTEXT"
}
given() {
    # shellcheck disable=SC2086
    buildah $options push --quiet "$@" "$STACK" "oci:$OUT/layout:t"
}
saved() {
    # shellcheck disable=SC2086
    podman $options save --quiet "$@" "$STACK"
}
buildah_plain() { build --layers=false && given --disable-compression; }
buildah_layers() { build --layers && given; }
buildah_squash() { build --squash && given; }
buildah_dated() { build --layers=false --timestamp 1000000000 && given; }
buildah_chunked() { build --layers && given --compression-format zstd:chunked --force-compression; }
podman_save() { build --layers && saved -o "$OUT/image.tar"; }
podman_save_oci() { build --layers && saved --format oci-dir -o /tmp/saved && copy oci:/tmp/saved "oci:$OUT/layout:t"; }

# ---- umoci
begun() {
    umoci unpack --image "$FROM:t" /tmp/from
    umoci init --layout "$OUT/layout"
    umoci new --image "$OUT/layout:t"
}
umoci_repack() {
    begun
    umoci unpack --image "$OUT/layout:t" /tmp/to
    cp -a /tmp/from/rootfs/. /tmp/to/rootfs/
    umoci repack --image "$OUT/layout:t" /tmp/to
}
umoci_insert() {
    begun
    umoci insert --image "$OUT/layout:t" /tmp/from/rootfs /
    mkdir /tmp/more
    echo added >/tmp/more/added
    umoci insert --image "$OUT/layout:t" --opaque /tmp/more /var/tmp
    umoci insert --image "$OUT/layout:t" --whiteout /mnt
}

# ---- skopeo, in every compression and format
skopeo_gzip() { copy --dest-compress-format gzip --dest-compress-level 1 --dest-force-compress-format "oci:$FROM:t" "oci:$OUT/layout:t"; }
skopeo_zstd() { copy --dest-compress-format zstd "oci:$FROM:t" "oci:$OUT/layout:t"; }
skopeo_zstd_19() { copy --dest-compress-format zstd --dest-compress-level 19 "oci:$FROM:t" "oci:$OUT/layout:t"; }
skopeo_chunked() { copy --dest-compress-format zstd:chunked "oci:$FROM:t" "oci:$OUT/layout:t"; }
skopeo_plain() { copy --dest-decompress "oci:$FROM:t" "oci:$OUT/layout:t"; }
skopeo_schema2() { copy --format v2s2 "oci:$FROM:t" "dir:$OUT/dir"; }
skopeo_docker_archive() { copy "oci:$FROM:t" "docker-archive:$OUT/image.tar:corpus:t"; }

# ---- crane
pushed() { copy --dest-tls-verify=false "oci:$FROM:t" "$there"; }
fetched() { copy --src-tls-verify=false "$there" "oci:$OUT/layout:t"; }
crane_append() {
    pushed
    crane export --insecure "${there#docker://}" /tmp/all.tar
    crane append --insecure -f /tmp/all.tar -t "${there#docker://}"
    crane mutate --insecure --set-platform linux/amd64 -t "${there#docker://}" "${there#docker://}"
    fetched
}
crane_flatten() { pushed && crane flatten --insecure "${there#docker://}" -t "${there#docker://}" && fetched; }

# ---- stargz-snapshotter, in the containerd of Docker's daemon
converted() {
    pushed
    ctr="ctr-remote --address $CONTAINERD --namespace corpus image"
    $ctr pull --plain-http "${there#docker://}"
    $ctr convert --oci "$1" "${there#docker://}" corpus:converted
    $ctr export /tmp/converted.tar corpus:converted
    copy oci-archive:/tmp/converted.tar "oci:$OUT/layout:t"
}
stargz_estargz() { converted --estargz; }
stargz_chunked() { converted --zstdchunked; }
