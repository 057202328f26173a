#!/bin/sh
# Puts the pinned ONNX Runtime library into DEST: `sh models/onnxruntime.sh .ort`
#
# What is fetched, and what its bytes must be, stands in models/onnxruntime.txt. Uses pip only (so that its index,
# proxy and certificate settings hold), and leaves DEST untouched unless all went well. Run twice, it does nothing.
set -eu

fail() {
    printf 'onnxruntime.sh: %s\n' "$1" >&2
    printf 'A library of your own serves as well: set ORT_DYLIB_PATH to libonnxruntime.so, 1.24 or later.\n' >&2
    exit 1
}

[ $# -eq 1 ] || { echo "usage: $0 DEST" >&2; exit 2; }
dest=$1
pins=$(dirname "$0")/onnxruntime.txt
python=${PYTHON:-python3}

[ "$(uname -s)" = Linux ] || fail "the pinned wheels are for Linux, and this is $(uname -s)"
arch=$(uname -m)
case $arch in
    x86_64 | aarch64) ;;
    *) fail "no wheel is pinned for $arch (there are x86_64 and aarch64)" ;;
esac
command -v "$python" >/dev/null || fail "there is no $python; install Python 3 with pip"

# The pins' own hash tells whether what lies in DEST came from these pins.
wanted="$arch $(cksum <"$pins")"
if [ -f "$dest/libonnxruntime.so" ] && [ "$(cat "$dest/pins" 2>/dev/null)" = "$wanted" ]; then
    echo "ONNX Runtime is in $dest already"
    exit 0
fi
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip (Debian: apt-get install python3-pip)"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

echo "Fetching $(sed -n 's/^\(onnxruntime==[0-9.]*\).*/\1/p' "$pins") for $arch"
# The library does not depend on the Python that fetches it, so one version's wheel is named, whatever runs here.
"$python" -m pip download --disable-pip-version-check --quiet --no-deps --require-hashes --only-binary=:all: \
    --implementation cp --python-version 3.12 --abi cp312 --platform "manylinux_2_28_$arch" \
    --dest "$work" --requirement "$pins" ||
    fail "pip could not fetch it; its message above says why (no network? then pip needs an index that it can reach)"

mkdir -p "$dest" || fail "cannot write to $dest"
"$python" - "$work" "$dest" "$wanted" <<'PYTHON' || fail "the wheel could not be unpacked into $dest"
import os, pathlib, sys, zipfile

work, dest, wanted = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    library, = [n for n in archive.namelist() if n.startswith("onnxruntime/capi/libonnxruntime.so")]
    members = {library: "libonnxruntime.so", "onnxruntime/LICENSE": "LICENSE",
               "onnxruntime/ThirdPartyNotices.txt": "ThirdPartyNotices.txt"}
    for member, name in members.items():
        part = dest / (name + ".part")
        part.write_bytes(archive.read(member))
        os.replace(part, dest / name)
(dest / "pins").write_text(wanted + "\n")
PYTHON
echo "ONNX Runtime is in $dest"
