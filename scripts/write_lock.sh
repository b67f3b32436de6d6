#!/bin/sh
# Prints the versions that an environment has, as constraints. Not this project, nor what `make env` takes out or makes itself.
# Usage: scripts/write_lock.sh PYTHON
set -eu
echo "# What \`make env\` installs, for Linux on x86-64, from $("$1" --version). Written by \`make lock\`; do not edit."
"$1" -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' | grep -vE '^(bidkv|vllm|pip|torchvision|torchaudio|torchcodec)=='
