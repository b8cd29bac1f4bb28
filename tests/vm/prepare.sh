#!/bin/sh
# Makes what a test VM boots from: a stock Debian kernel and an initramfs around guest/init.
#
#   tests/vm/prepare.sh          prints the folder that holds `vmlinuz` and `initrd`
#   tests/vm/prepare.sh python   prints the folder with the packages of python.txt, for PYTHONPATH
#
# The result is cached by kernel version and by the content of the inputs, so a second run costs
# milliseconds. Nothing is installed on this machine: packages are downloaded and unpacked.
# BEDPLATE_VM_KERNEL=linux-image-... chooses another kernel package.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
repo=$(cd "$here/../.." && pwd)
cache=${CARGO_TARGET_DIR:-$repo/target}/vm

fail() {
    echo "tests/vm/prepare.sh: $*" >&2
    exit 1
}

# An unprivileged user often has no sbin folder in PATH, and depmod and modprobe live there.
PATH=$PATH:/usr/sbin:/sbin

for tool in apt-get apt-cache dpkg-deb depmod modprobe cpio gzip flock; do
    command -v $tool >/dev/null ||
        fail "needs '$tool': apt-get install $(tr '\n' ' ' <"$here/packages.txt")"
done
busybox=$(command -v busybox) || fail "needs 'busybox': apt-get install busybox-static"
if ldd "$busybox" 2>/dev/null | grep -q '=>'; then
    fail "$busybox needs libraries an initramfs has not: apt-get install busybox-static"
fi

# The package behind the metapackage, so that the version is part of the cache key.
resolve_package() {
    if [ -n "${BEDPLATE_VM_KERNEL:-}" ]; then
        echo "$BEDPLATE_VM_KERNEL"
        return
    fi
    LC_ALL=C apt-cache depends linux-image-amd64 2>/dev/null |
        awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }'
}

download() { (cd "$2" && apt-get -q download "$1" >download.log 2>&1); }

# Fresh package lists, where this user may have them: old ones name kernels the mirror has dropped.
update_lists() {
    as_root=
    [ "$(id -u)" = 0 ] || as_root="sudo -n"
    $as_root apt-get -q update >"$cache/update.log" 2>&1
}

# Downloads and unpacks the package `$1` into the folder `$2`, whole or not at all.
fetch_kernel() {
    work=$2.partial
    rm -rf "$work"
    mkdir -p "$work"
    download "$1" "$work" || { update_lists && download "$1" "$work"; } ||
        fail "cannot download $1: $(tail -n 3 "$work/download.log")"
    dpkg-deb -x "$work"/linux-image-*.deb "$work/root" || fail "cannot unpack $1"
    rm -f "$work"/*.deb
    rm -rf "$2"
    mv "$work" "$2"
}

# Copies module `$1` of kernel `$2` below `$3`, with everything it depends on, into the tree `$4`.
copy_module() {
    listing=$(modprobe -d "$3" -S "$2" --show-depends "$1" 2>/dev/null) || return 1
    echo "$listing" | awk '$1 == "insmod" { print $2 }' | while read -r path; do
        relative=${path#"$3"/}
        mkdir -p "$4/$(dirname "$relative")"
        cp "$path" "$4/$relative"
        # The modprobe of busybox reads no compressed module.
        case $relative in
        *.xz) xz -d -f "$4/$relative" ;;
        *.zst) zstd -q -d --rm -f "$4/$relative" ;;
        esac
    done
}

# Builds the initramfs of kernel `$1`, unpacked below `$2`, as the file `$3`.
build_initrd() {
    tree=$3.tree
    rm -rf "$tree"
    mkdir -p "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/host" "$tree/over" "$tree/root"
    cp "$busybox" "$tree/bin/busybox"
    cp "$here/guest/init" "$tree/init"
    chmod 755 "$tree/init"
    sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$here/guest/modules.txt" | while read -r module; do
        copy_module "${module#\?}" "$1" "$2" "$tree" && continue
        case $module in
        \?*) ;;
        *) fail "kernel $1 has no module '$module'" ;;
        esac
    done
    modules=lib/modules/$1
    cp "$2/$modules"/modules.order "$2/$modules"/modules.builtin* "$tree/$modules/"
    depmod -b "$tree" "$1"
    (cd "$tree" && find . | cpio --quiet -o -H newc | gzip -1) >"$3.partial"
    mv "$3.partial" "$3"
    rm -rf "$tree"
}

prepare_kernel() {
    package=$(resolve_package)
    [ -n "$package" ] || { update_lists && package=$(resolve_package); } || true
    [ -n "$package" ] ||
        fail "apt knows no linux-image-amd64: run 'apt-get update', or set BEDPLATE_VM_KERNEL"
    root=$cache/$package
    [ -d "$root" ] || fetch_kernel "$package" "$root"
    version=$(ls "$root/root/lib/modules")
    key=$(cat "$here/prepare.sh" "$here/guest/init" "$here/guest/modules.txt" "$busybox" |
        sha256sum)
    if [ "$(cat "$root/key" 2>/dev/null)" != "$key" ]; then
        [ -e "$root/root/lib/modules/$version/modules.dep" ] || depmod -b "$root/root" "$version"
        build_initrd "$version" "$root/root" "$root/initrd"
        cp "$root/root/boot/vmlinuz-$version" "$root/vmlinuz"
        echo "$key" >"$root/key"
    fi
    echo "$root"
}

# Python packages of fixed version and content, whole or not at all.
prepare_python() {
    key=$(sha256sum <"$here/python.txt")
    if [ "$(cat "$cache/python/key" 2>/dev/null)" != "$key" ]; then
        rm -rf "$cache/python.partial"
        /usr/bin/python3 -m pip install -q --disable-pip-version-check --no-deps --require-hashes \
            --target "$cache/python.partial" -r "$here/python.txt" >"$cache/pip.log" 2>&1 ||
            fail "cannot install python.txt (needs python3-pip): $(tail -n 3 "$cache/pip.log")"
        echo "$key" >"$cache/python.partial/key"
        rm -rf "$cache/python"
        mv "$cache/python.partial" "$cache/python"
    fi
    echo "$cache/python"
}

mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
exec 9>"$cache/prepare.lock"
flock 9
case ${1:-kernel} in
kernel) prepare_kernel ;;
python) prepare_python ;;
*) fail "say nothing, or 'python'" ;;
esac
