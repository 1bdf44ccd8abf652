#!/usr/bin/env bash
# usage: TILEWRIGHT_BIN=path benches/device.sh OUTDIR [--quick]
#
# What: one visit to a machine with a GPU: correctness first, then our times and those of others side by side.
# Why here: time on such a machine is short; everything that is wanted from it is one command.
# Pre: a GPU driver, a release binary that was built elsewhere, this repository, Python 3 (with PyTorch for others' times).
# Nothing is installed, and no setting of the GPU is changed.
# Post: a few small files in OUTDIR, within 9 minutes (3 with --quick), whatever fails on the way. The exit code is 0 if
# everything that was compared agrees and nothing of ours failed, 1 if not, 2 for wrong arguments, 4 without a GPU.
set -u

out=${1:-}
quick=${2:-}
if [ -z "$out" ] || { [ -n "$quick" ] && [ "$quick" != --quick ]; } || [ $# -gt 2 ]; then
    echo "usage: TILEWRIGHT_BIN=path benches/device.sh OUTDIR [--quick]" >&2
    exit 2
fi
bin=${TILEWRIGHT_BIN:-tilewright}
command -v "$bin" >/dev/null || { echo "there is no program \`$bin\`: set TILEWRIGHT_BIN" >&2; exit 2; }
python=${PYTHON:-python3}
gpu=${TILEWRIGHT_DEVICE:-cuda:0}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
session="device-$(date -u +%Y%m%dT%H%M%SZ)"
begin=$SECONDS
if [ "$quick" = --quick ]; then total=175; else total=530; fi
failed=0

# Libraries of CUDA that came with PyTorch, for NVRTC's headers-free compiler and for cuBLAS.
libraries=$("$python" - <<'EOF' 2>/dev/null
import glob, os, sysconfig
print(":".join(sorted(glob.glob(os.path.join(sysconfig.get_paths()["purelib"], "nvidia", "*", "lib")))))
EOF
)
[ -n "$libraries" ] && export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# Kernels are kept for the runs that follow, and go with the visit.
TILEWRIGHT_CACHE=$(mktemp -d)
export TILEWRIGHT_CACHE
trap 'rm -rf "$TILEWRIGHT_CACHE"' EXIT

left() { echo $((total - (SECONDS - begin))); }

# run NAME SECONDS COMMAND...: its output in NAME.log (the end of it), no longer than SECONDS or what is left.
run() {
    local name=$1 limit=$2 rest
    shift 2
    rest=$(left)
    if [ "$rest" -lt 10 ]; then
        echo "$name: no time was left" | tee -a "$out/summary.txt"
        return 0
    fi
    [ "$limit" -gt "$rest" ] && limit=$rest
    local at=$SECONDS code
    timeout --kill-after=5 "$limit" "$@" >"$TILEWRIGHT_CACHE/log" 2>&1
    code=$?
    tail -c 20000 "$TILEWRIGHT_CACHE/log" >"$out/$name.log"
    echo "$name: exit code $code after $((SECONDS - at)) s" | tee -a "$out/summary.txt"
    return $code
}

: >"$out/summary.txt"
echo "$session" >>"$out/summary.txt"
run doctor 20 "$bin" doctor
"$bin" bench kernels --device "$gpu" --quick --seconds 0 --filter "linear m1 n3072" >/dev/null 2>"$out/device.log"
if [ $? -eq 4 ]; then
    cat "$out/device.log" >&2
    exit 4
fi

# Correctness: every instruction kernel against the emulator and against what GPUs gave, every kernel of the test models.
if [ "$quick" = --quick ]; then limit=60; else limit=120; fi
run selftest "$limit" "$bin" --format json selftest --device "$gpu" || failed=1

run kernels-quick 60 "$bin" bench kernels --device "$gpu" --quick --mode all --seconds 40 --session "$session" \
    --json "$out/kernels-quick.json" || failed=1
run steps-quick 60 "$bin" bench steps --device "$gpu" --quick --mode all --seconds 40 --session "$session" \
    --json "$out/steps-quick.json" || failed=1
run peers-quick 60 "$python" "$here/peers.py" all --quick --seconds 35 --session "$session" \
    ${FLASHINFER:+--flashinfer "$FLASHINFER"} ${HAZY:+--hazy "$HAZY"} --json "$out/peers-quick.json"

if [ "$quick" != --quick ]; then
    run calibrate 40 "$bin" calibrate --device "$gpu" -o "$out/profile.json" || failed=1
    run kernels 130 "$bin" bench kernels --device "$gpu" --mode graph --seconds 100 --session "$session" \
        --json "$out/kernels.json" || failed=1
    run steps 100 "$bin" bench steps --device "$gpu" --mode all --seconds 70 --session "$session" \
        --json "$out/steps.json" || failed=1
    run peers 110 "$python" "$here/peers.py" kernels --no-compile --seconds 80 --session "$session" \
        ${FLASHINFER:+--flashinfer "$FLASHINFER"} --json "$out/peers.json"
fi
echo "all: $((SECONDS - begin)) s, $([ $failed -eq 0 ] && echo "nothing of ours failed" || echo "SOMETHING FAILED")" |
    tee -a "$out/summary.txt"
exit $failed
