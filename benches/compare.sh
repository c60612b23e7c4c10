#!/usr/bin/env bash
# Compares compiled models with their PyTorch peers in one sitting, and writes a table.
#
#   benches/compare.sh PEERS [OUT]        PEERS: folder of the peers' scripts; OUT: where results go (default: target/compare)
#
# Installs the peers and builds the models where they are absent. A comparison that was cut off goes on where it stopped: every measurement
# is a line of OUT/results.jsonl. Choose with MODELS, THREADS, PRECISIONS, STORAGES, PHASES and ROUNDS, as in: MODELS=dlrm THREADS="1 2" benches/compare.sh …
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
if [ $# -lt 1 ] || [ ! -f "$1/bench_torch.py" ]; then
    echo "usage: benches/compare.sh PEERS [OUT]: PEERS holds bench_torch.py and its README" >&2
    exit 2
fi
peers=$(cd "$1" && pwd)
out=${2:-$root/target/compare}
mkdir -p "$out"
out=$(cd "$out" && pwd)

if [ ! -x "$out/venv/bin/python" ]; then
    python3 -m venv "$out/venv.new"
    "$out/venv.new/bin/pip" install --quiet -r "$peers/requirements.txt"
    rm -rf "$out/venv.new/bin/activate"*
    mv "$out/venv.new" "$out/venv"
fi
# The peers write beside their scripts.
[ -d "$out/peers" ] || { cp -r "$peers" "$out/peers"; chmod -R u+w "$out/peers"; }
[ -x "$out/limits" ] || gcc -O3 -march=native -fopenmp "$peers/limits.c" -o "$out/limits"
cargo build --quiet --release --manifest-path "$root/Cargo.toml" --workspace
for spec in "$root"/benches/models/*.rec; do
    name=$(basename "$spec" .rec)
    "$root/target/release/recc" build "$spec" -o "$out/$name.f32"
    sed 's/^train *{/train { precision: bf16,/' "$spec" > "$out/$name.bf16.rec"
    "$root/target/release/recc" build "$out/$name.bf16.rec" -o "$out/$name.bf16"
    # A table that is ranked is not stored in few bytes.
    grep -q 'softmax(' "$spec" && continue
    for storage in f16 int8; do
        sed "s/^train *{/train { storage: $storage,/" "$spec" > "$out/$name.$storage.rec"
        "$root/target/release/recc" build "$out/$name.$storage.rec" -o "$out/$name.$storage"
    done
done
exec "$out/venv/bin/python" "$root/benches/compare.py" "$out"
