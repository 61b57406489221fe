# What the scripts of a release share; sourced by bash, never run. Sets the working folder to the repository's root.
# shellcheck shell=bash disable=SC2034

fail() {
    echo "packaging/${0##*/}: $*" >&2
    exit 1
}

# The architectures that are built, by the first part of their Rust targets.
readonly ARCHITECTURES=(x86_64 aarch64 armv7)

# The flavours that are released, by the names of their packages; each script takes --tls for the second one alone.
readonly FLAVOURS=(pgsqlchk pgsqlchk-tls)
flavour=pgsqlchk
if [[ ${1-} == --tls ]]; then
    flavour=pgsqlchk-tls
    shift
fi
other_flavour=pgsqlchk-tls
[[ $flavour == pgsqlchk ]] || other_flavour=pgsqlchk
# For cargo.
features=()
[[ $flavour == pgsqlchk ]] || features=(--features tls)

# A program of this flavour is at most this long, on any architecture: 2 MiB, and 2.9 MiB.
max_bytes() {
    case $1 in
    pgsqlchk) echo $((2 * 1024 * 1024)) ;;
    pgsqlchk-tls) echo $((29 * 1024 * 1024 / 10)) ;;
    esac
}

rust_target() {
    case $1 in
    x86_64 | aarch64) echo "$1-unknown-linux-musl" ;;
    armv7) echo armv7-unknown-linux-musleabihf ;;
    *) fail "$1: this is built for ${ARCHITECTURES[*]}" ;;
    esac
}

deb_architecture() {
    case $1 in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    armv7) echo armhf ;;
    esac
}

rpm_architecture() {
    case $1 in
    armv7) echo armv7hl ;;
    *) echo "$1" ;;
    esac
}

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# Absolute, for rpmbuild and cargo change folders.
target_folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")
dist_folder=$(realpath -m "${DIST:-dist}")

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
[[ $version ]] || fail "Cargo.toml has no version"

# Counts packages of the same version, from 1. The tests of upgrades set it.
package_release=${PACKAGE_RELEASE:-1}

# Whoever publishes packages gives an address of his own: MAINTAINER="Name <address>" make release
maintainer=${MAINTAINER:-The pgsqlchk authors <authors@pgsqlchk.invalid>}

# Every date in what is built: that of the last commit, or, without git, of the last change to Cargo.toml. So building
# twice gives the same bytes.
if [[ -z ${SOURCE_DATE_EPOCH-} ]]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=$(stat -c %Y Cargo.toml)
fi
export SOURCE_DATE_EPOCH LC_ALL=C.UTF-8 TZ=UTC
umask 022

# Where packaging/static puts the program for an architecture; of this flavour, or of the one named.
static_binary() {
    echo "$target_folder/static/$1/${2-$flavour}"
}

# A script of a package, with what both packages' scripts share in the place of its mark, and the name of the flavour that it
# can be exchanged for in the place of @other@.
with_common() {
    sed -e '/^# @common@$/{r packaging/common.sh' -e 'd}' \
        -e '/^# @exchange@$/{r packaging/deb/exchange.sh' -e 'd}' "$1" | sed "s/@other@/$other_flavour/g"
}

# All times within a folder, for archives that keep them.
set_times() {
    find "$1" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}
