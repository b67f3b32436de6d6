#!/bin/sh
# Another release of vLLM, its Python only, for tests that run no kernel:
#   scripts/make_version_env.sh VERSION [FOLDER]      (default .venv-vllm-VERSION)
#
# The release's own wheel without its compiled code, in front of everything else from the environment that `make env`
# made (VENV, default .venv). Takes 20 s, the download of 340 MB aside, and 120 MB.
set -eu
cd "$(dirname "$0")/.."
version=$1 folder=${2:-.venv-vllm-$1} python=${VENV:-.venv}/bin/python
test -x "$python" || { echo "$python: no such environment; make it with make env" >&2; exit 2; }
site() { "$1" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'; }

rm -rf "$folder"
trap 'rm -rf "$folder"' EXIT  # a half-made environment is none
trap 'exit 130' INT TERM
"$python" -m venv --without-pip "$folder"
"$python" -m pip --python "$folder/bin/python" install -q --no-deps --no-compile "vllm==$version"
own=$(site "$folder/bin/python")
find "$own" -name '*.so' -delete
rm -rf "$own/vllm/vllm-rs"
sed -i '/^Version: /s/$/+cpu/' "$own"/vllm-*.dist-info/METADATA  # how vLLM tells that no GPU is meant
site "$python" >"$own/shared.pth"
"$folder/bin/python" -c 'import vllm; print("vllm", vllm.__version__)'
trap - EXIT
