#!/usr/bin/env python3
"""Runs the comparisons of docs/methods.md: ensembles, objectives for cohorts, balanced tasks; three seeds each.

usage: benches/methods.py RECC DATA OUT [--threads N] [--only NAME,...]

RECC is the compiler, DATA the folder with frappe/, ml1m/ and census_income/, OUT a folder that keeps the result of each run: a run that is there is not
made again. A variant is a spec of examples/ with some of its lines changed; the changes are below. Prints one table for each comparison.
"""

import argparse
import hashlib
import json
import subprocess
from pathlib import Path
from statistics import mean, stdev

ROOT = Path(__file__).resolve().parent.parent
SEEDS = [2021, 2022, 2023]

COHORTS = ROOT / "examples" / "census_cohorts.rec"
BALANCE = ROOT / "examples" / "census_balance.rec"
FRAPPE = ROOT / "examples" / "frappe_cetnet.rec"
FILM = ROOT / "examples" / "ml1m_cetnet.rec"

WITHOUT = [("bce(weight: 0.1)", "bce(weight: 0)")]
RULE = "multibalance(over: ranker.shared, scale: 2)"


def rule(name, call):
    return [(RULE, call), ("std.balance.multibalance", f"std.balance.{name}")]


def alone(text, kept):
    """The spec of one member alone."""
    start = text.index("ensemble ")
    text = text[:start] + text[text.index("objective") :]
    for line in ("use std.ensemble.{confidence, mutual}\n",):
        text = text.replace(line, "")
    models = text.split("\nmodel ")
    return models[0] + "".join("\nmodel " + model if model.startswith(kept) else "\n" + model[model.index("\n}\n") + 3 :] for model in models[1:])


FUSED = "confidence(temperature: learned)"
MEAN = [(FUSED, "mean"), ("mutual(weight: 0.1)", "none"), ("use std.ensemble.{confidence, mutual}\n", "")]
NO_MUTUAL = [("mutual(weight: 0.1)", "none"), ("{confidence, mutual}", "confidence")]

COMPARISONS = {
    "cohorts": (
        "census_income",
        "",
        {"without": (COHORTS, WITHOUT), "with": (COHORTS, [])},
        [("income ne", lambda r: r["metrics"]["income"]["ne"])]
        + [(f"{name} ne", lambda r, name=name: r["cohorts"][name]["income"]["ne"]) for name in ("women", "old", "young")]
        + [("income auc", lambda r: r["metrics"]["income"]["auc"])],
    ),
    "balance": (
        "census_income",
        "",
        {
            "plain sum": (BALANCE, [(f"    balance: {RULE}\n", ""), ("use std.balance.multibalance\n", ""), ("    expose shared\n", "")]),
            "multibalance": (BALANCE, []),
            "mgda": (BALANCE, rule("mgda", "mgda(over: ranker.shared)")),
            "pcgrad": (BALANCE, rule("pcgrad", "pcgrad(over: ranker.shared)")),
            "cagrad": (BALANCE, rule("cagrad", "cagrad(over: ranker.shared)")),
            "imtl": (BALANCE, rule("imtl", "imtl(over: ranker.shared)")),
            "income alone": (BALANCE, [("    single:  bce\n", "    single:  bce(weight: 0)\n"), (f"    balance: {RULE}\n", ""), ("use std.balance.multibalance\n", ""), ("    expose shared\n", "")]),
            "single alone": (BALANCE, [("    income:  bce\n", "    income:  bce(weight: 0)\n"), ("ne(income)", "ne(single)"), (f"    balance: {RULE}\n", ""), ("use std.balance.multibalance\n", ""), ("    expose shared\n", "")]),
        },
        [(f"{task} {metric}", lambda r, task=task, metric=metric: r["metrics"][task][metric]) for task in ("income", "single") for metric in ("ne", "auc")],
    ),
    "films": (
        "ml1m",
        "ctr_",
        {"pairs alone": (FILM, "pairs"), "deep alone": (FILM, "deep"), "mean": (FILM, MEAN), "confidence": (FILM, NO_MUTUAL), "confidence, mutual": (FILM, []), "one model, double width": (FILM, "wide")},
        [("auc", lambda r: r["metrics"]["like"]["auc"]), ("logloss", lambda r: r["metrics"]["like"]["logloss"])],
    ),
    "apps": (
        "frappe",
        "",
        {"crossed alone": (FRAPPE, "crossed"), "deep alone": (FRAPPE, "deep"), "mean": (FRAPPE, MEAN), "confidence": (FRAPPE, NO_MUTUAL), "confidence, mutual": (FRAPPE, []), "one model, double width": (FRAPPE, "wide")},
        [("auc", lambda r: r["metrics"]["click"]["auc"]), ("logloss", lambda r: r["metrics"]["click"]["logloss"])],
    ),
}


def text_of(spec, changes):
    text = spec.read_text()
    if changes == "wide":
        # The first member with tables as wide as those of both together.
        text = alone(text, "crossed" if "crossed" in text else "pairs")
        changes = [("dim: 10", "dim: 20"), ("dim: 16", "dim: 32")]
        return text.replace(*changes[0]).replace(*changes[1])
    if isinstance(changes, str):
        return alone(text, changes)
    for old, new in changes:
        assert old in text, f"{spec.name} has no {old!r}"
        text = text.replace(old, new)
    return text


def run(given, data, prefix, text, seed):
    identity = hashlib.sha256(f"{text}{seed}".encode()).hexdigest()[:16]
    result = given.out / f"{identity}.json"
    if not result.exists():
        spec, model, checkpoint = (given.out / name for name in ("spec.rec", "model", "checkpoint"))
        spec.write_text(text)
        subprocess.run([given.recc.resolve(), "build", spec, "-o", model], check=True)
        subprocess.run(["rm", "-rf", checkpoint], check=True)
        parts = [argument for part in ("train", "valid", "test") for argument in (f"--{part}", given.data / data / f"{prefix}{part}.csv.gz")]
        command = [model, "train", *parts, "--seed", str(seed), "--threads", str(given.threads), "--out", checkpoint, "--json"]
        result.write_bytes(subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
        subprocess.run(["rm", "-rf", checkpoint], check=True)
    return json.loads(result.read_text())


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("recc", "data", "out"):
        arguments.add_argument(name, type=Path)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--only", default="", help="names of comparisons, with commas")
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for name, (data, prefix, variants, figures) in COMPARISONS.items():
        if given.only and name not in given.only.split(","):
            continue
        print(f"| {name} | " + " | ".join(head for head, _ in figures) + " |\n| --- |" + " --- |" * len(figures), flush=True)
        for variant, (spec, changes) in variants.items():
            results = [run(given, data, prefix, text_of(spec, changes), seed) for seed in SEEDS]
            cells = [[pick(result) for result in results] for _, pick in figures]
            print(f"| {variant} | " + " | ".join(f"{mean(cell):.5f} ± {stdev(cell):.5f}" for cell in cells) + " |", flush=True)


main()
