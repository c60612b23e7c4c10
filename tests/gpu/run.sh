#!/usr/bin/env bash
# What a GPU shows: models agree with the processor, reach its results, and how fast they are.
#
#   tests/gpu/run.sh [OUT]        OUT: where models and results go (default: target/gpu)
#
# It needs `recc` (RECC, default: target/release/recc, built here if there is Rust), Python 3 and a driver; no Rust. Set
#   PEERS   folder of the peers' scripts, to time PyTorch on the same card in the same run
#   DATA    folder of data sets, to train Frappe and MovieLens to the processor's results
#   TINY=1  sizes that an interpreter in the driver's place runs in seconds
#   MODELS, BATCHES, SECONDS_EACH to choose what is timed
# and find the tables in OUT/results.md and their figures in OUT/results.json. It ends with failure where results differ.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
recc=${RECC:-$root/target/release/recc}
if [ -n "${RECC:-}" ] && [ ! -x "$RECC" ]; then
    echo "RECC=$RECC: there is no such executable" >&2
    exit 2
fi
if [ ! -x "$recc" ]; then
    cargo build --release --manifest-path "$root/Cargo.toml"
fi
out=${1:-$root/target/gpu}
mkdir -p "$out"
exec python3 "$root/tests/gpu/run.py" "$root" "$recc" "$(cd "$out" && pwd)"
