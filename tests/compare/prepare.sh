#!/bin/sh
# prepare.sh DIRECTORY: the images and definition files that the lines of commands.txt name, made by the other program.
set -e
mkdir -p "$1"
cd "$1"
umask 022

mkdir -p tool/bin tool/etc tool/tmp tool/proc tool/sys tool/dev tool/root tool/home tool/mnt tool/var/tmp tool/usr here
cp /bin/busybox tool/bin/busybox
for applet in sh ash cat cp ls id pwd echo env touch rm sort hostname head sleep sed grep ps stat chown umask whoami readlink true \
    false test wc ip mkdir dd find tr printf chmod awk; do
    ln -sf busybox tool/bin/$applet
done
echo root:x:0:0:root:/root:/bin/sh >tool/etc/passwd
echo root:x:0: >tool/etc/group
: >tool/etc/hosts
: >tool/etc/resolv.conf
: >tool/etc/motd
echo of the target >tool/etc/target
ln -s etc/target tool/link
mkdir tool/dirtarget
ln -s dirtarget tool/dirlink
echo inside >here/inside.txt
echo data >data.txt
# shellcheck disable=SC2016  # for the shell that reads it
printf 'ONE=1\nTWO="two words"\nTHREE=$(echo three)\n' >vars
# shellcheck disable=SC2016
echo 'PLACE=$HOME' >vars-home

definition() { { printf 'Bootstrap: localimage\nFrom: %s\n' "${from:-base.sif}"; cat; } >"$1"; }
definition plain.def </dev/null
definition tool.def <<'END'
%labels
    Author Somebody
    Version 1.0
%environment
    export FROM_IMAGE=image
%help
    What this is for.
%runscript
    echo "run: $# arguments: $*"
%startscript
    echo "started: $*"
    exec sleep 1000
%test
    echo tested
%post
    echo post >/post
%apprun first
    echo "first: $*"
%appenv first
    export FIRST=one
%applabels first
    Kind app
%apphelp first
    Help of the first.
%apptest first
    echo tested the first
%appinstall first
    echo x >installed
END
definition python.def <<'END'
%runscript
#!/bin/busybox sh
echo "interpreted: $*"
END
definition indented.def <<'END'
%runscript
    #!/bin/busybox sh
    echo "indented: $*"
END
definition failing.def <<'END'
%test
    exit 5
END
definition failing-post.def <<'END'
%post
    exit 6
END
cp failing.def failing-test.def
definition args.def <<'END'
%arguments
    NAME=default
%runscript
    echo "name is {{ NAME }}"
END
echo NAME=from-file >argfile
definition unset-args.def <<'END'
%runscript
    echo {{ NOBODY }}
END
cat >stages.def <<'END'
Bootstrap: localimage
From: base.sif
Stage: one
%post
    echo first >/made

Bootstrap: localimage
From: base.sif
%files from one
    /made /from-first
END
definition files.def <<'END'
%files
    data.txt /put/data.txt
    here /put/
    vars* /put/
END
definition quoted-label.def <<'END'
%labels
    Quoted "two words"
END
definition section-text.def <<'END'
%environment of the image
    export SECTION_TEXT=yes
END
definition order.def <<'END'
%setup
    echo setup >>$APPTAINER_ROOTFS/order
%post
    echo post >>/order
END
definition umask.def <<'END'
%post
    umask >/umask
END
definition apps.def <<'END'
%apprun b
    echo b
%apprun a
    echo a
END
definition reads-mnt.def <<'END'
%post
    cat /mnt/inside.txt >/read
END
definition more.def <<'END'
%post
    echo more >/more
END
printf 'Bootstrap: localimage\nFrom: base.sif\nMirrorURL: http://127.0.0.1:1/\n' >foreign-key.def
printf 'Bootstrap: localimage\nFrom: base.sif\n%%nonsense\n    x\n' >bad-keyword.def
printf 'Bootstrap: nonsense\nFrom: base.sif\n' >bad-bootstrap.def
printf 'Bootstrap: localimage\nFrom: base.sif\nFingerprints: 0123456789ABCDEF0123456789ABCDEF01234567\n' >fingerprints.def

apptainer --silent build base.sif tool
for name in tool python indented failing plain; do apptainer --silent build --notest $name.sif $name.def; done
rm -rf tool
apptainer --silent build --sandbox tool tool.sif
mksquashfs tool tool.sqfs -quiet -no-progress -all-root
mksquashfs tool data.sqfs -quiet -no-progress -all-root
for name in tool data; do
    mke2fs -q -t ext3 -d tool $name.img 32M
done
: >empty.sif
echo "no image" >text.sif
head -c 40000 tool.sif >cut.sif

umoci init --layout layout
umoci new --image layout:1
umoci insert --rootless --image layout:1 tool/bin /bin
umoci insert --rootless --image layout:1 tool/etc /etc
umoci config --image layout:1 --config.entrypoint /bin/echo --config.cmd standard --config.env FROM_OCI=yes \
    --config.env PATH=/bin:/usr/bin --config.workingdir /etc
skopeo copy --quiet oci:layout:1 oci-archive:oci.tar:1
skopeo copy --quiet oci:layout:1 docker-archive:docker.tar:tool:1
apptainer --silent build oci.sif oci-archive:oci.tar
cp tool.sif signed.sif
# As a user it seals by gocryptfs; as root by LUKS, which wants cryptsetup and a device mapper.
APPTAINER_ENCRYPTION_PASSPHRASE=word setpriv --reuid=newcomer --regid=newcomer --init-groups \
    env HOME=/tmp apptainer --silent build --encrypt /tmp/encrypted.sif tool.sif
mv /tmp/encrypted.sif encrypted.sif
:
