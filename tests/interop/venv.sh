#!/usr/bin/env bash
# Creates the virtual environment of the interop tests under the target directory, unless it
# exists, and prints the path of its interpreter.
# Uses the newest Python >= 3.12 on the path or under pyenv. The Python server needs 3.13 and is
# skipped with 3.12. Fails with a message if there is no such Python or if pip fails.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
needs=tests/interop/requirements.txt
venv=${CARGO_TARGET_DIR:-target}/interop-venv

# minor: prints the minor version of the Python 3 that $1 starts. Prints nothing if $1 starts none,
# as a shim of pyenv may do.
minor() {
    "$1" -c 'import sys, venv
print(sys.version_info.minor if sys.version_info.major == 3 else "")' 2>/dev/null || true
}

newest() {
    local python found best=0 path= pyenv=${PYENV_ROOT:-$HOME/.pyenv}
    for python in $(compgen -c python3 | sort -u) "$pyenv"/versions/*/bin/python; do
        [[ ${python##*/} =~ ^python(3(\.[0-9]+)?)?$ ]] || continue
        found=$(minor "$python")
        if [ "${found:-0}" -gt "$best" ]; then
            best=$found path=$python
        fi
    done
    if [ "$best" -lt 12 ]; then
        echo 'no Python >= 3.12 on the path or under pyenv' >&2
        return 1
    fi
    echo "$path"
}

# The copy of the requirements is created last, so its presence shows a complete environment.
if ! { [ -x "$venv/bin/python" ] && cmp -s "$needs" "$venv/requirements.txt"; }; then
    python=$(newest)
    rm -rf "$venv"
    "$python" -m venv "$venv" >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$needs" >&2
    cp "$needs" "$venv/requirements.txt"
fi
echo "$(cd "$venv" && pwd)/bin/python"
