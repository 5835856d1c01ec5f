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
