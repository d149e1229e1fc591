#!/bin/sh
# Runs the fast tests in one cell of the matrix, in an environment of its own, and prints a line of the table in install.md.
# Usage: sh scripts/matrix.sh PYTHON TORCH NUMPY [EXTRA]    for example: sh scripts/matrix.sh python3.10 2.6.0 1.26.4
# Without a version (-), pip chooses it. With EXTRA, such as mmseg0, installs only this extra, and runs footplate doctor.
set -eu
python=$1 torch=$2 numpy=$3 extra=${4:-}
root=$(cd "$(dirname "$0")/.." && pwd)
cell=$("$python" -c 'import platform; print(platform.python_version())')-$torch-$numpy${extra:+-$extra}
folder=${MATRIX:-$root/.matrix}/$cell
mkdir -p "$folder"
log=$folder/log
result() {
  printf '| %s | %s | %s | %s | %s | %s |\n' "${cell%%-*}" "$torch" "$numpy" "${extra:-tests}" "$1" "$(date +%F)"
}
pin() { if [ "$2" = - ]; then echo "$1"; else echo "$1==$2"; fi; }
install() { "$folder/bin/python" -m pip install --quiet --no-compile "$@" >> "$log" 2>&1; }

"$python" -m venv "$folder"
if ! install "$(pin torch "$torch")" "$(pin numpy "$numpy")"; then
  result 'torch or NumPy cannot be installed'
  exit 1
fi
{ pin torch "$torch"; pin numpy "$numpy"; } | grep '==' > "$folder/constraints.txt" || true
# What the cell does not set, pip chooses: the newest versions that go with it.
if ! install --constraint "$folder/constraints.txt" --editable "${root}[${extra:-dev,detection,export,optimizers,tensorboard,tiles,transformers}]"; then
  result "not installed: $(grep -E '^ERROR' "$log" | tail -1 | cut -c1-120)"
  exit 1
fi
cd "$root"
export PYTHONDONTWRITEBYTECODE='' OMP_NUM_THREADS=1 PYTHONPATH="$root/src"
if [ -n "$extra" ]; then
  # Some code bases are installed without their dependencies, with the command that doctor prints.
  PATH=$folder/bin:$PATH
  advice=$(footplate doctor "$extra" | sed -nE 's/^ *(Run|Install it): //p' | head -1)
  if [ -n "$advice" ]; then sh -c "$advice" >> "$log" 2>&1 || true; fi
  if footplate doctor "$extra" >> "$log" 2>&1; then
    result complete
  else
    result "$(tail -1 "$log" | cut -c1-120)"
  fi
else
  "$folder/bin/python" -m pytest -q --numprocesses "${PROCESSES:-2}" --dist loadgroup >> "$log" 2>&1 || true
  result "$(grep -E '(passed|failed|error)' "$log" | tail -1 | tr -d '=')"
  grep -E '^(FAILED|ERROR) ' "$log" || true
fi
