# Sourced by tools/quickstart, tools/test and tools/install: checks for Swift 6 and installs the packages the build needs.
# Run from the root of the checkout.

set -euo pipefail

say() {
    if [ -t 2 ]; then printf '\n\033[1m== %s\033[0m\n' "$*" >&2; else printf '\n== %s\n' "$*" >&2; fi
}

need_swift() {
    if ! command -v swift >/dev/null 2>&1; then
        echo "No Swift toolchain found. ckpt needs Swift 6.2 or later: https://www.swift.org/install" >&2
        exit 1
    fi
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -n 1)
    if [ "$(printf '%s\n6.2\n' "$version" | sort -V | head -n 1)" != 6.2 ]; then
        echo "Swift $version found, but ckpt needs Swift 6.2 or later: https://www.swift.org/install" >&2
        exit 1
    fi
}

# Installs the Debian or Ubuntu packages named that are missing.
need_packages() {
    command -v dpkg-query >/dev/null 2>&1 || {
        echo "This is not Debian or Ubuntu: install LMDB, zstd and xxHash (with headers) and pkg-config yourself." >&2
        return 0
    }
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    say "installing ${missing[*]}"
    local sudo=()
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    "${sudo[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq "${missing[@]}" >/dev/null
}

build_packages=(liblmdb-dev libzstd-dev libxxhash-dev pkg-config)

# Has libraries linked in whose static ones are at hand; $1: a directory for that; the rest: pkg-config's names of them.
use_static_libraries() {
    # A directory that has the static libraries alone, and descriptions that lead the linker there: it takes shared ones where it can.
    local static=$1 module library description place
    shift
    rm -rf "$static"
    mkdir -p "$static"
    for module in "$@"; do
        library=lib${module#lib}.a
        description=$(pkg-config --variable=pcfiledir "$module" || true)/$module.pc
        # Not every description names the directory right; beside the library it lies all the same.
        for place in "$(pkg-config --variable=libdir "$module" || true)" "${description%/pkgconfig/*}"; do
            [ -f "$place/$library" ] && [ -f "$description" ] || continue
            ln -s "$place/$library" "$static/"
            sed "s|^libdir=.*|libdir=${static// /\\\\ }|" "$description" >"$static/$module.pc"
            break
        done
    done
    export PKG_CONFIG_PATH=$static${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
}
