#!/bin/sh
# Writes scripts/lock.txt: what `make env` installs, as it resolves today in an environment of its own. `make lock` calls it.
# Usage: scripts/lock.sh PYTHON EXTRAS TORCH_INDEX
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$1" -m venv "$folder"
"$folder/bin/pip" install -q -e ".[$2]" || "$folder/bin/pip" install -q -e ".[$2]" --extra-index-url "$3"
scripts/write_lock.sh "$folder/bin/python" > "$folder/lock.txt"
mv "$folder/lock.txt" scripts/lock.txt
