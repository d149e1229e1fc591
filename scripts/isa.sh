#!/bin/sh
# Runs pytest under each instruction set of oneDNN with one and two threads, and prints one line for each.
# Arguments go to pytest: `sh scripts/isa.sh tests/footplate/models tests/footplate_vision`. A log of each run lies in .isa/.
set -u
: "${BIN:=.venv/bin}"
mkdir -p .isa
failed=0
printf '%-10s %-8s %s\n' isa threads result
for isa in SSE41 AVX2 AVX2_VNNI unset; do
  for threads in 1 2; do
    if [ "$isa" = unset ]; then unset ONEDNN_MAX_CPU_ISA; else export ONEDNN_MAX_CPU_ISA="$isa"; fi
    log=".isa/$isa-$threads.log"
    OMP_NUM_THREADS="$threads" "$BIN/python" -m pytest -q "$@" > "$log" 2>&1 || failed=1
    printf '%-10s %-8s %s\n' "$isa" "$threads" "$(tail -n 1 "$log")"
  done
done
exit "$failed"
