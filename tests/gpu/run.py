"""Runs models on a GPU beside the processor and beside PyTorch, and writes the tables. Called by run.sh."""
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT, RECC, OUT = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
TINY = bool(os.environ.get("TINY"))
PEERS = os.environ.get("PEERS")
DATA = os.environ.get("DATA")
MODELS = os.environ.get("MODELS", "quickstart" if TINY else "deepfm dcnv2 dlrm autoint wukong cetnet mmoe").split()
BATCHES = [int(own) for own in os.environ.get("BATCHES", "32" if TINY else "4096 65536").split()]
SECONDS = float(os.environ.get("SECONDS_EACH", "0.5"))
# Rows of the dictionaries of the peers' input: 25 fields of one id, then the bag.
ROWS = [1000000, 1000000, 800000, 600000, 400000, 300000, 200000, 150000, 100000, 100000, 70000, 50000, 40000, 30000, 20000, 20000,
        15000, 10000, 10000, 5000, 5000, 3000, 2000, 1000, 1000, 100000]
# Test AUC on a processor, the mean of three seeds (docs/results.md), and how far one run may lie below.
KNOWN = {"frappe_deepfm": ("frappe", "", 0.98467), "ml1m_ctr": ("ml1m", "ctr_", 0.89512)}
SPREAD = 0.002
# Longest run of the peers, for each precision.
PEER_SECONDS = 240
failures = []


def run(command, **how):
    print("  " + " ".join(map(str, command)), file=sys.stderr, flush=True)
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, **{"timeout": 120, **how})


def figures(command):
    done = run(command)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-1000:]}")
    return json.loads(done.stdout)


def build(spec, name, target, edits=(), rounded=False):
    text = (ROOT / spec).read_text()
    text = bf16(text) if rounded else text
    for old, new in edits:
        if old not in text:
            raise RuntimeError(f"{spec} does not hold {old!r}")
        text = text.replace(old, new)
    path = OUT / f"{name}.rec"
    path.write_text(text)
    done = run([RECC, "build", path, "-o", OUT / f"{name}.{target}", "--target", target])
    if done.returncode:
        raise RuntimeError(done.stderr)
    return OUT / f"{name}.{target}"


def attempt(what, work):
    """A case that fails is a line of its own, and not the end of the run."""
    try:
        return work()
    except (RuntimeError, ValueError, KeyError, OSError, subprocess.TimeoutExpired) as error:
        failures.append(f"{what}: {error}")
        return None


def bf16(text):
    return re.sub(r"^train *\{", "train { precision: bf16,", text, flags=re.M)



SMALL = [("rows: 5_000", "rows: 60"), ("dim: 64", "dim: 16"), ("layers: 4", "layers: 1"), ("negatives: 128", "negatives: 8"),
         ("take_last(200)", "take_last(20)"), ("max: 200", "max: 20")]
# Spec, edits, rows, and how far the losses of an epoch may lie apart.
AGREE = {
    "quickstart": ("examples/quickstart.rec", [], 600, 1e-4),
    "quickstart_bf16": ("examples/quickstart.rec", [], 600, 1e-3),
    "next_item": ("examples/next_item.rec", SMALL if TINY else [], 60 if TINY else 2000, 1e-3),
    "next_item_all": ("examples/next_item.rec", [(", negatives: 128, temperature: 0.05, normalize: true", "")] + [own for own in SMALL if "negatives" not in own[0]],
                      60, 1e-3),
}


def agree(name):
    spec, edits, rows, most = AGREE[name]
    losses = {}
    for target in ("cpu", "cuda"):
        model = build(spec, name, target, edits, name.endswith("_bf16"))
        state = OUT / f"{name}.{target}.ck"
        run(["rm", "-rf", state])
        found = figures([model, "train", "--limit", rows, "--epochs", 2, "--json", "--out", state])
        losses[target] = [epoch["train_loss"] for epoch in found["epochs"]]
    apart = max(abs(a - b) / max(1, abs(b)) for a, b in zip(losses["cuda"], losses["cpu"]))
    if apart > most:
        failures.append(f"{name}: losses {losses['cuda']} on the GPU and {losses['cpu']} on the processor")
    return {"cuda": losses["cuda"][-1], "cpu": losses["cpu"][-1], "apart": apart, "most": most}


def reach(name):
    folder, prefix, known = KNOWN[name]
    model = build(f"examples/{name}.rec", name, "cuda")
    state = OUT / f"{name}.cuda.ck"
    run(["rm", "-rf", state])
    parts = [part for flag in ("train", "valid", "test") for part in (f"--{flag}", f"{DATA}/{folder}/{prefix}{flag}.csv.gz")]
    begin = time.time()
    found = figures([model, "train", "--json", "--out", state, *parts])
    auc = next(iter(found["metrics"].values()))["auc"]
    if auc < known - SPREAD:
        failures.append(f"{name}: test AUC {auc:.5f}, and {known:.5f} on a processor")
    return {"auc": auc, "cpu": known, "seconds": time.time() - begin, "epochs": len(found["epochs"])}


def timed(name, precision):
    spec = f"benches/models/{name}.rec"
    is_peer = (ROOT / spec).exists()
    rows = "20" if TINY or not is_peer else ",".join(map(str, ROWS))
    lines = []
    for batch in BATCHES:
        edits = [("batch: 4096", f"batch: {batch}")] if is_peer else []
        model = build(spec if is_peer else f"examples/{name}.rec", f"{name}.{precision}", "cuda", edits, precision == "bf16")
        for phase in ("train", "score"):
            def bench(steps):
                return figures([model, "bench", "--phase", phase, "--batch", batch, "--steps", steps, "--vocab", rows, "--json"])
            # A few steps say how many fill the time.
            first = bench(1 if TINY else 5)
            steps = max(1, int(SECONDS * 1e3 / first["ms_per_step"]))
            found = first if TINY else bench(min(steps, 2000))
            lines.append({"model": name, "precision": precision, "phase": phase, "batch": batch, "samples_s": found["samples_per_s"],
                          "ms": found["p50"], "p99": found["p99"]})
    return lines


def peers(precision):
    command = [sys.executable, "bench_torch_gpu.py", "--models", ",".join(MODELS), "--batches", ",".join(map(str, BATCHES)),
               "--seconds", SECONDS, "--repeats", 3]
    done = run(command + (["--bf16"] if precision == "bf16" else []), cwd=PEERS, timeout=PEER_SECONDS)
    if done.returncode:
        raise RuntimeError(f"{command[1]} ended with {done.returncode}: {done.stderr[-1000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table(head, rows):
    lines = [head] + [[str(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], ["---"] * len(head), *lines[1:]]) + "\n"


def main():
    begin = time.time()
    card = "an interpreter" if TINY else "unknown"
    if not TINY and shutil.which("nvidia-smi"):
        card = run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]).stdout.strip()
    results = {"card": card, "recc": run([RECC, "--version"]).stdout.strip(), "date": time.strftime("%Y-%m-%d"), "agree": {}, "reach": {}, "speed": [], "peers": []}
    text = f"{results['date']}, {results['recc']}, {card}.\n\n"
    for name in AGREE:
        results["agree"][name] = attempt(name, lambda: agree(name))
        if failures and "built for NVIDIA GPUs" in failures[0]:
            sys.exit(failures[0])
    rows = [[name, f"{own['cuda']:.6f}", f"{own['cpu']:.6f}", f"{own['apart']:.1e}", f"{own['most']:.0e}"]
            for name, own in results["agree"].items() if own]
    text += table(["model", "loss on the GPU", "loss on the processor", "apart", "at most"], rows) + "\n"
    if DATA:
        for name in KNOWN:
            results["reach"][name] = attempt(name, lambda: reach(name))
        rows = [[name, f"{own['auc']:.5f}", f"{own['cpu']:.5f}", own["epochs"], f"{own['seconds']:.1f}"]
                for name, own in results["reach"].items() if own]
        text += table(["example", "test AUC on the GPU", "on a processor", "epochs", "seconds"], rows) + "\n"
    for precision in ("f32", "bf16"):
        for name in MODELS:
            results["speed"] += attempt(f"{name} in {precision}", lambda: timed(name, precision)) or []
    if PEERS:
        results["peers"] = [own for precision in ("f32", "bf16") for own in attempt("peers", lambda: peers(precision)) or []]
    def peer(own, mode):
        phase = "train" if own["phase"] == "train" else "infer"
        wanted = (own["model"], mode, phase, own["batch"], own["precision"] == "bf16")
        found = [row["samples_s"] for row in results["peers"]
                 if (row.get("model"), row.get("mode"), row.get("phase"), row.get("batch"), row.get("bf16")) == wanted and "samples_s" in row]
        return found[0] if found else None
    rows = []
    for own in results["speed"]:
        known = {mode: peer(own, mode) for mode in ("eager", "compile")}
        cell = lambda mode: f"{known[mode] / 1e3:.0f} ({own['samples_s'] / known[mode]:.2f})" if known[mode] else "-"
        rows.append([own["model"], own["precision"], own["phase"], own["batch"], f"{own['ms']:.3f}", f"{own['samples_s'] / 1e3:.3f}", cell("eager"), cell("compile")])
    text += table(["model", "precision", "phase", "batch", "ms", "k samples/s", "eager (ratio)", "compile (ratio)"], rows)
    ceilings = [row for row in results["peers"] if "copy_gb_s" in row]
    if ceilings:
        text += f"\nThe card copies {ceilings[0]['copy_gb_s']} GB/s and multiplies {ceilings[0]['matmul_f32_tflop_s']} TFLOP/s in f32, {ceilings[0]['matmul_bf16_tflop_s']} in bf16.\n"
    text += f"\n{time.time() - begin:.0f} seconds in all.\n" + "".join(f"\nFAILED {own}\n" for own in failures)
    (OUT / "results.md").write_text(text)
    (OUT / "results.json").write_text(json.dumps(results, indent=1))
    print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
