#!/bin/bash
# inside.sh PREFIX REPORT [WORD...]: what compare does in its machine: servers on loopback, the images for each person, the lines.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The other program wants every capability of root. Where the machine's has fewer, one of a user namespace with a million ids has them.
if [[ ${1:-} == --again ]]; then
    shift
elif ! grep -q '^CapEff:.*1ffffffffff$' /proc/self/status; then
    exec unshare --user --map-users 0,0,1000000 --map-groups 0,0,1000000 --mount --net --pid --fork --mount-proc "$0" --again "$@"
fi
prefix=$1 report=$2
shift 2
place=/srv/compare
mkdir -p "$place"
exec 7>"$place/lock"
flock --nonblock 7 || { echo "compare: it runs already" >&2; exit 1; }
export REGISTRY=127.0.0.1:5000 HTTP=http://127.0.0.1:5080
busybox ip link set lo up
chmod 666 /dev/fuse 2>/dev/null || true
rm -rf "$place/template"
mkdir -p "$place/template" "$place/ours" "$place/registry"
ln -sfn "$prefix/bin/singularity" "$place/ours/apptainer"
ln -sfn "$prefix/bin/singularity" "$place/ours/singularity"
cat >"$place/registry.yml" <<END
version: 0.1
storage: {filesystem: {rootdirectory: $place/registry}}
http: {addr: 127.0.0.1:5000}
END
docker-registry serve "$place/registry.yml" >"$place/registry.log" 2>&1 &
(cd "$place/template" && exec python3 -m http.server --bind 127.0.0.1 5080) >"$place/http.log" 2>&1 &

export HOME=$place/maker
mkdir -p "$HOME"
sh "$here/prepare.sh" "$place/template/root"
cp -a "$place/template/root" "$place/template/user"
chown -Rh newcomer:newcomer "$place/template/user"
cp "$place/template/root/tool.sif" "$place/template/"
for tag in 1 latest; do skopeo copy --quiet --dest-tls-verify=false "oci:$place/template/root/layout:1" "docker://$REGISTRY/tool:$tag"; done
python3 "$here/run.py" /usr/bin "$place/ours" "$report" "$@"
