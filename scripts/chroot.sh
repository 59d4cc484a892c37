# shellcheck shell=bash
# What scripts/fresh and scripts/fresh-install share: bare chroots of Debian, made with debootstrap, in namespaces of their own.
# Sourced after lib.sh. `suite` names the Debian, `chroot` the directory, `passed` are variables that say how to reach Debian and
# PyPI: the mirror, proxies, certificates and pip's configuration are the host's. Chroots are made in ${TMPDIR:-/var/tmp}; what
# debootstrap and apt have fetched is kept in build/fresh for a week.

variables='^([a-z]+_proxy|[A-Z]+_PROXY|PIP_[A-Z_]+|SSL_CERT_FILE|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)$'
passed=()
namespaces=(unshare --mount --pid --fork --kill-child --)

# ---- making it ----

mirror() { # where apt has Debian from, if it knows; debootstrap has a default
    # shellcheck disable=SC2016 # apt's variables
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian //p' | head -n 1
}

make_base() { # SUITE: build/fresh/SUITE.tar, if there is none of this week
    local suite=$1 base=build/fresh/$1.tar new
    [[ -z $(find "$base" -mtime -7 2>/dev/null) ]] || return 0
    note "debootstrap $suite"
    new=$(mktemp -d "${TMPDIR:-/var/tmp}/fermata-base.XXXXXX")
    mkdir -p build/fresh
    # shellcheck disable=SC2046 # none or one word
    if ! debootstrap --variant=minbase "$suite" "$new" $(mirror) >"build/fresh/$suite.log" 2>&1; then
        tail -n 5 "build/fresh/$suite.log" >&2
        rm -rf --one-file-system -- "$new"
        die "debootstrap cannot make a $suite here: build/fresh/$suite.log says why"
    fi
    tar -C "$new" -cf "$base.new" .
    mv -- "$base.new" "$base"
    rm -rf --one-file-system -- "$new"
}

copy_from_host() { # FILE...: those that there are, to the same place in the chroot
    local file
    for file in "$@"; do
        [[ -f $file ]] || continue
        mkdir -p -- "$chroot$(dirname -- "$file")"
        cp -L -- "$file" "$chroot$file"
    done
}

find_variables() { # in `passed`: those that say how to reach Debian and PyPI
    local name
    while read -r name; do
        [[ ! $name =~ $variables ]] || passed+=("$name=${!name}")
    done < <(compgen -e)
}

take_over_network() { # what the host has to reach them
    local variable
    copy_from_host /etc/resolv.conf /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf" \
        /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates/*.crt
    apt-config dump | grep -E '^Acquire::[^ ]*(Proxy|Check-|CAInfo)' >"$chroot/etc/apt/apt.conf.d/90host" || true
    for variable in "${passed[@]}"; do
        [[ $variable != *=/* ]] || copy_from_host "${variable#*=}"
    done
}

# ---- in namespaces of its own ----

mount_all() {
    local node
    mount -t proc proc "$chroot/proc"
    mount -t sysfs -o ro sysfs "$chroot/sys"
    mount -t tmpfs -o mode=755 dev "$chroot/dev"
    for node in null zero full random urandom tty; do
        : >"$chroot/dev/$node"
        mount --bind "/dev/$node" "$chroot/dev/$node"
    done
    mkdir "$chroot/dev/pts" "$chroot/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$chroot/dev/pts"
    mount -t tmpfs -o mode=1777 shm "$chroot/dev/shm"
    ln -s pts/ptmx "$chroot/dev/ptmx"
    ln -s /proc/self/fd "$chroot/dev/fd"
    ln -s fd/0 "$chroot/dev/stdin"
    ln -s fd/1 "$chroot/dev/stdout"
    ln -s fd/2 "$chroot/dev/stderr"
    mkdir -p "$root/build/fresh/apt-$suite/partial"
    mount --bind "$root/build/fresh/apt-$suite" "$chroot/var/cache/apt/archives"
}

report=()
failed=

step() { # NAME COMMAND...: what becomes of it is in `report`, and `failed` is set if it failed
    local began=$SECONDS name=$1
    shift
    printf '\n== %s: %s\n' "$suite" "$name"
    if "$@"; then
        report+=("$name: ok, $((SECONDS - began)) s")
    else
        report+=("$name: FAILED, $((SECONDS - began)) s")
        failed=1
    fi
}

can_make() { # SUITE: ends this with a sentence where no chroot can be made
    [[ $(id -u) -eq 0 ]] || die "only root can make a chroot and mount what it needs"
    "${namespaces[@]}" mount -t tmpfs fermata /mnt || die "nothing can be mounted here: a container without the right to?"
    scripts/install-deps fresh
    make_base "$1"
}

clone_to() { # DIR: what is committed
    [[ -z $(git status --porcelain) ]] || note "what is not committed is left out"
    if [[ -d $1 ]]; then
        git --git-dir="$1/.git" fetch --quiet "$root" HEAD
        git -C "$1" checkout --quiet --detach --force FETCH_HEAD
    else
        git clone --quiet --no-hardlinks -- "$root" "$1"
    fi
}

child=
remove=() # when this ends
clean_up() {
    if [[ -n $child ]]; then
        kill -KILL "$child" 2>/dev/null || true # unshare, which blocks SIGTERM; what it has started goes with it
        wait "$child" 2>/dev/null || true
    fi
    [[ ${#remove[@]} -eq 0 ]] || rm -rf --one-file-system -- "${remove[@]}"
}

clean_up_at_the_end() {
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

unpack() { # in `chroot`, unless that is there
    [[ -d $chroot/etc ]] || tar -C "$chroot" -xf "build/fresh/$suite.tar"
    chmod 0755 "$chroot" # mktemp's are for their owner alone, and so would be the chroot's root directory
    take_over_network
}

in_namespaces() { # ARGUMENT...: runs the second half of this script, and exits as that does
    "${namespaces[@]}" "$root/scripts/${0##*/}" --in-namespaces "$@" &
    child=$!
    wait "$child" && code=0 || code=$?
    child=
    exit "$((code != 0))"
}
