"""Measures models and their peers alternately, and writes the tables. Called by compare.sh."""
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

OUT = Path(sys.argv[1])
RESULTS = OUT / "results.jsonl"
# Rows of the dictionaries of the peers' input: 25 fields of one id, then the bag.
VOCAB = "1000000,1000000,800000,600000,400000,300000,200000,150000,100000,100000,70000,50000,40000,30000,20000,20000,15000,10000," \
        "10000,5000,5000,3000,2000,1000,1000,100000"
BATCHES = [1, 32, 512, 4096]
# Sequences are fewer and longer, of one dictionary.
SEQUENCES = {"hstu": {"vocab": "1000000", "train": 128, "batches": [1, 8, 32, 128]}}


def chosen(name, default):
    return os.environ.get(name, default).split()


MODELS = chosen("MODELS", "deepfm dcnv2 dlrm autoint wukong cetnet mmoe hstu")
THREADS = [int(count) for count in chosen("THREADS", "1 2")]
PRECISIONS = chosen("PRECISIONS", "f32 bf16")
PHASES = chosen("PHASES", "train score")
# Weights in few bytes, scored beside the peers in f32.
STORAGES = chosen("STORAGES", "f16 int8")
ROUNDS = int(os.environ.get("ROUNDS", "3"))


def last_json(command, folder=None):
    print("  " + " ".join(map(str, command)), file=sys.stderr, flush=True)
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        sys.exit(f"{command[0]} failed with {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(lines[-1])


def vocab(model):
    return SEQUENCES[model]["vocab"] if model in SEQUENCES else VOCAB


def train_batch(model):
    return SEQUENCES[model]["train"] if model in SEQUENCES else 4096


def score_batches(model):
    return SEQUENCES[model]["batches"] if model in SEQUENCES else BATCHES


def ours(model, precision, threads, phase, batch):
    steps = max(12, min(20000, 40000 // batch)) if phase == "score" else 16
    found = last_json([OUT / f"{model}.{precision}", "bench", "--phase", phase, "--batch", batch, "--threads", threads, "--steps", steps,
                       "--vocab", vocab(model), "--json"])
    return {"samples_s": found["samples_per_s"], "p50_us": found["p50"] * 1e3, "p99_us": found["p99"] * 1e3,
            "mb": found["peak_rss_bytes"] / 2**20}


def peer(model, precision, threads, phase, mode):
    command = [sys.executable, "bench_torch.py", "--model", model, "--mode", mode, "--threads", threads, "--repeats", 3,
               "--phase", "train" if phase == "train" else "infer"]
    command += ["--batch", train_batch(model), "--opt", "adam"] if phase == "train" else ["--batches", ",".join(map(str, score_batches(model)))]
    found = last_json(command + (["--bf16"] if precision == "bf16" else []), OUT / "peers")
    if phase == "train":
        return {"samples_s": found["samples_s"][1], "mb": found["rss_mb"], "foreign": found["foreign"]}
    return {batch: {"samples_s": own["samples_s"][1], "p50_us": own["p50_us"], "p99_us": own["p99_us"], "foreign": own["foreign"]}
            for batch, own in found["batches"].items()}


def known():
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text().splitlines()]


def by_key(have):
    return {json.dumps(line["key"]): line for line in have}


def measure(have, key, work):
    if any(line["key"] == key for line in have):
        return
    line = {"key": key, **work()}
    have.append(line)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def peak(threads):
    text = subprocess.run([OUT / "limits"], capture_output=True, text=True, check=True).stdout
    return {"gflops": max(float(value) for value in re.findall(rf"FMA \S+, {threads} thread\D+([\d.]+) GFLOP", text))}


def run():
    have = known()
    for model in MODELS:
        measure(have, [model, "flops"], lambda: last_json([sys.executable, "bench_torch.py", "--model", model, "--flops"], OUT / "peers"))
        for precision in PRECISIONS:
            for threads in THREADS:
                for turn in range(ROUNDS):
                    at = [model, precision, threads, turn]
                    measure(have, ["peak", *at], lambda: peak(threads))
                    if "train" in PHASES:
                        measure(have, ["ours", "train", *at], lambda: ours(model, precision, threads, "train", train_batch(model)))
                        for mode in ["eager", "compile"] if turn == 0 else [fastest(by_key(have), model, precision, threads)]:
                            measure(have, [mode, "train", *at], lambda: peer(model, precision, threads, "train", mode))
                        measure(have, ["ours again", "train", *at], lambda: ours(model, precision, threads, "train", train_batch(model)))
                    if "score" in PHASES:
                        for batch in score_batches(model):
                            measure(have, ["ours", f"score {batch}", *at], lambda: ours(model, precision, threads, "score", batch))
                        modes = ["eager", "compile", "aoti", "ort"] if precision == "f32" else ["eager", "compile"]
                        for mode in modes:
                            measure(have, [mode, "score", *at], lambda: {"batches": peer(model, precision, threads, "score", mode)})
                        for storage in STORAGES if precision == "f32" and model not in SEQUENCES else []:
                            for batch in score_batches(model):
                                measure(have, ["ours", f"score {batch}", model, storage, threads, turn],
                                        lambda: ours(model, storage, threads, "score", batch))
    return have


def fastest(at, model, precision, threads):
    """The peer's mode that trained fastest in the first round; the other rounds measure that one alone."""
    first = {mode: at.get(json.dumps([mode, "train", model, precision, threads, 0])) for mode in ["eager", "compile"]}
    return max(first, key=lambda mode: first[mode]["samples_s"]) if all(first.values()) else None


def spread(values, digits=1):
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}..{max(values):.{digits}f}]"


def tables(have):
    at = by_key(have)

    def all_of(*key, model, precision, threads):
        keys = [json.dumps([*key, model, precision, threads, turn]) for turn in range(ROUNDS)]
        return [at[key] for key in keys if key in at]

    out = ["| model | precision | threads | ours, k samples/s | best PyTorch | mode | ratio of rounds | share of the f32 limit | peak MB, ours / theirs |",
           "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    cases = [(model, precision, threads) for model in MODELS for precision in PRECISIONS for threads in THREADS]
    for model, precision, threads in cases:
        of = dict(model=model, precision=precision, threads=threads)
        mine = [(a["samples_s"] + b["samples_s"]) / 2 for a, b in zip(all_of("ours", "train", **of), all_of("ours again", "train", **of))]
        best = fastest(at, **of)
        if not mine or best is None:
            continue
        peers = all_of(best, "train", **of)
        theirs = [line["samples_s"] for line in peers]
        limit = statistics.median(line["gflops"] for line in all_of("peak", **of)) * 1e9 / at[json.dumps([model, "flops"])]["flops_train"]
        ratios = [a / b for a, b in zip(mine, theirs)]
        out.append(f"| {model} | {precision} | {threads} | {spread([v / 1e3 for v in mine])} | {spread([v / 1e3 for v in theirs])} | {best} | "
                   f"{spread(ratios, 2)} | {statistics.median(mine) / limit:.0%} | {all_of('ours', 'train', **of)[0]['mb']:.0f} / {peers[0]['mb']:.0f} |")
    out += ["", "| model | precision | threads | batch | ours p50 / p99 µs | best peer p50 / p99 µs | mode | throughput ratio |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |"]
    for model, precision, threads in [(model, form, threads) for model in MODELS for form in PRECISIONS + STORAGES for threads in THREADS]:
        for batch in score_batches(model):
            of = dict(model=model, precision=precision, threads=threads)
            mine = all_of("ours", f"score {batch}", **of)
            of["precision"] = "f32" if precision in STORAGES else precision
            modes = {mode: [line["batches"][str(batch)] for line in all_of(mode, "score", **of)] for mode in ["eager", "compile", "aoti", "ort"]}
            modes = {mode: lines for mode, lines in modes.items() if lines}
            if not mine or not modes:
                continue
            best = min(modes, key=lambda mode: statistics.median(line["p50_us"] for line in modes[mode]))
            ratios = [b["p50_us"] / a["p50_us"] for a, b in zip(mine, modes[best])]
            show = lambda lines: " / ".join(f"{statistics.median(line[key] for line in lines):.0f}" for key in ["p50_us", "p99_us"])
            out.append(f"| {model} | {precision} | {threads} | {batch} | {show(mine)} | {show(modes[best])} | {best} | {spread(ratios, 2)} |")
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    text = tables(run())
    (OUT / "table.md").write_text(text)
    print(text)
