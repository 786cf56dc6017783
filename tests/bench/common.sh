# What the commands of this folder share. They source it at the root of the repository.
# shellcheck shell=bash

# Debian keeps servers where only root looks.
export PATH="$PWD/target/bench/venv/bin:$PATH:/usr/local/sbin:/usr/sbin:/sbin"

readonly CRYPTOGRAPHY_VERSION=50.0.2 venv=target/bench/venv

say() { printf '== %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# help_only PROGRAM ARGUMENTS…: prints what --help asks for before anything is installed or built.
help_only() {
    case " ${*:2} " in *" --help "* | *" -h "*) exec python3 "$1" --help ;; esac
}

missing=()

# A program, and the Debian package that brings it.
need() { has "$1" || missing+=("$2"); }

# For the servers, the load and the tokens of every command here.
need_bench() {
    need curl curl
    need nginx nginx-light
    need h2load nghttp2-client
    need taskset util-linux
    need python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
}

need_compilers() {
    { has cc && has c++; } || missing+=(build-essential)
    need cmake cmake
}

install_missing() { [ ${#missing[@]} -eq 0 ] || .ci/install-packages "${missing[@]}"; }

# install_module NAME==VERSION [OPTION OF PIP…]
install_module() {
    local module=$1
    shift
    [ ! -e "$venv/$module" ] || return 0
    say "installing $module into $venv"
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "$@" "$module" || return 1
    touch "$venv/$module"
}

build() {
    has cargo || fail "install Rust first: https://rustup.rs"
    say "building $1 (the first time takes minutes)"
    shift
    cargo build --quiet --release --locked "$@"
}

build_gateway() {
    if [ -z "${PORTCULLIS:-}" ]; then
        build "the gateway" --bin portcullis
        PORTCULLIS=target/release/portcullis
    fi
    PORTCULLIS=$(realpath "$PORTCULLIS")
    export PORTCULLIS
}
