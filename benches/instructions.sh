#!/usr/bin/env bash
# Counts the instructions of each kernel for an example, which no other work on the machine disturbs: a regression shows without a quiet one.
#
#   benches/instructions.sh [SPEC…]        default: benches/models/*.rec
#
# Needs valgrind. It knows no AVX-512, so models are built for x86-64-v3. A step's count is half the difference between runs of three steps and of one.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
batch=256
command -v valgrind > /dev/null || { echo "valgrind is missing; on Debian: apt-get install valgrind" >&2; exit 2; }
cargo build --quiet --release --manifest-path "$root/Cargo.toml" --workspace
[ $# -gt 0 ] || set -- "$root"/benches/models/*.rec

counts() {
    valgrind --quiet --tool=callgrind --callgrind-out-file="$work/out" "$work/model" bench --phase train --batch $batch --steps "$1" --vocab 1000 > /dev/null 2>&1
    callgrind_annotate --threshold=100 "$work/out" 2> /dev/null | sed -nE 's/^ *([0-9,]+) \([ 0-9.]+%\) +[^:]*:(recc_[^ \x27]+|__mem[^ \x27]+).*/\2 \1/p' | tr -d ,
}

for spec in "$@"; do
    "$root/target/release/recc" build "$spec" --cpu x86-64-v3 -o "$work/model" > /dev/null 2>&1
    counts 1 > "$work/one"
    counts 3 > "$work/three"
    printf '| %s | instructions for an example |\n| --- | --- |\n' "$(basename "$spec" .rec)"
    awk -v batch=$batch 'NR == FNR { one[$1] += $2; next } { three[$1] += $2 }
        END { for (name in three) { own = (three[name] - one[name]) / 2 / batch; total += own; if (own >= 50) printf "| `%s` | %.0f |\n", name, own }
              printf "| all | %.0f |\n", total }' "$work/one" "$work/three" | sort -t'|' -k3,3nr
    echo
done
