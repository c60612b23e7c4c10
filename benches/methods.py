#!/usr/bin/env python3
"""Runs the comparisons of docs/methods.md: ensembles, objectives for cohorts, balanced tasks; three seeds or more each.

usage: benches/methods.py RECC DATA OUT [--threads N] [--only NAME,...]

RECC is the compiler, DATA the folder with frappe/, ml1m/ and census_income/, OUT a folder that keeps the result of each run: a run that is there is not
made again. A variant is a spec of examples/ with some of its lines changed; the changes are below. Prints one table for each comparison.
"""

import argparse
import csv
import gzip
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
CLICKS = ROOT / "examples" / "ml1m_ctr.rec"
LEVELS = ROOT / "benches" / "ratings.rec"

WITHOUT = [("bce(weight: 0.1)", "bce(weight: 0)")]
INSPECTED = [("per: [women, old, young] }", "per: [women, old, young], inspect: [ranker.shared] }")]
RULE = "multibalance(over: ranker.shared, scale: 2)"


# Every rule of the library, at the shared layer if it needs no more.
RULES = ["multibalance", "mgda", "pcgrad", "gradvac", "cagrad", "imtl", "nash", "fairgrad", "aligned", "db", "gradnorm", "metabalance", "dwa", "uncertainty",
         "gls", "rlw", "slaw", "famo", "ema", "hydalearn", "uniform_weights", "moco"]
# What a rule is given beside its place. Weights of `mgda`, `imtl`, `cagrad` and `moco` add up to one, or nearly so, those of the plain sum to two; Adam takes
# gradients of any size.
SETTINGS = {"multibalance": "scale: 2", "dwa": "every: 200", "moco": "average: 0.5"}


def rule(name):
    place = "parameters" if name == "moco" else "ranker.shared"
    settings = f", {SETTINGS[name]}" if name in SETTINGS else ""
    return [(RULE, f"{name}(over: {place}{settings})"), ("std.balance.multibalance", f"std.balance.{name}")]


def tasks(spec, first, second):
    """A spec of two tasks: their plain sum, each rule, and each task alone."""
    plain = [(f"    balance: {RULE}\n", ""), ("use std.balance.multibalance\n", ""), ("    expose shared\n", "")]
    kept = lambda task: [(f"    {task + ':':9}bce\n", f"    {task + ':':9}bce(weight: 0)\n")]
    variants = {"plain sum": (spec, plain)}
    variants.update({name: (spec, rule(name)) for name in RULES})
    variants[f"{first} alone"] = (spec, kept(second) + plain)
    variants[f"{second} alone"] = (spec, kept(first) + [(f"ne({first})", f"ne({second})")] + plain)
    return variants


def of_tasks(first, second):
    return [(f"{task} {metric}", lambda r, task=task, metric=metric: r["metrics"][task][metric]) for task in (first, second) for metric in ("ne", "auc")]


def units(name):
    """What the units of an exposed value do."""
    return [("dead units", lambda r: r["activations"][name]["dead"]), ("effective rank", lambda r: r["activations"][name]["effective_rank"])]


# Objectives of cohorts beside the click: women, and users of 45 years and more.
FILM_COHORTS = [
    ("    let deep   = mlp(fields, [128, 64], dropout: 0.2) |> linear(1)\n", "    let shared = mlp(fields, [128, 64], dropout: 0.2)\n    expose shared\n    let deep   = linear(shared, 1)\n"),
    ("objective { like: bce }", """cohort women = gender == "F"
cohort old   = age == "45" or age == "50" or age == "56"

auxiliary like_of_women { on: ml1m.shared, label: like and women, head: mlp(_, [32]) |> linear(1) }
auxiliary like_of_old   { on: ml1m.shared, label: like and old, head: mlp(_, [32]) |> linear(1) }

objective { like: bce, like_of_women: bce(weight: 0.1), like_of_old: bce(weight: 0.1) }"""),
    ("metrics   { report: [auc, logloss, gauc(by: user_id)] }", "metrics   { report: [auc, ne], per: [women, old], inspect: [ml1m.shared] }"),
]


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
        {"without": (COHORTS, WITHOUT + INSPECTED), "with": (COHORTS, INSPECTED)},
        [("income ne", lambda r: r["metrics"]["income"]["ne"])]
        + [(f"{name} ne", lambda r, name=name: r["cohorts"][name]["income"]["ne"]) for name in ("women", "old", "young")]
        + [("income auc", lambda r: r["metrics"]["income"]["auc"])]
        + units("ranker.shared"),
    ),
    "film cohorts": (
        "ml1m",
        "ctr_",
        {"without": (CLICKS, FILM_COHORTS + [("bce(weight: 0.1)", "bce(weight: 0)")]), "with": (CLICKS, FILM_COHORTS)},
        [("like ne", lambda r: r["metrics"]["like"]["ne"])]
        + [(f"{name} ne", lambda r, name=name: r["cohorts"][name]["like"]["ne"]) for name in ("women", "old")]
        + [("like auc", lambda r: r["metrics"]["like"]["auc"])]
        + units("ml1m.shared"),
    ),
    "balance": ("census_income", "", tasks(BALANCE, "income", "single"), of_tasks("income", "single")),
    "film tasks": ("levels", "", tasks(LEVELS, "good", "like"), of_tasks("good", "like")),
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


def levels(given):
    """Ratings of MovieLens with two labels, not disliked and liked, and who rated; written once."""
    folder = given.out / "levels"
    if (folder / "test.csv.gz").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = lambda name: (line.rstrip("\n").split("::") for line in gzip.open(given.data / "ml1m" / name, "rt", encoding="latin-1"))
    users = {user: (gender, age, occupation) for user, gender, age, occupation, _ in lines("users.dat.gz")}
    genres = {item: kinds for item, _, kinds in lines("movies.dat.gz")}
    for part in ("train", "valid", "test"):
        new = folder / f"{part}.csv.gz.new"
        with gzip.open(given.data / "ml1m" / "interactions.csv.gz", "rt") as source, gzip.open(new, "wt", newline="") as target:
            out = csv.writer(target)
            out.writerow(["good", "like", "user", "item", "gender", "age", "occupation", "genres"])
            for row in csv.DictReader(source):
                if row["split"] == part:
                    level, user, item = int(row["level"]), row["user"], row["item"]
                    out.writerow([int(level >= 1), int(level == 2), user, item, *users[user], genres[item]])
        new.rename(folder / f"{part}.csv.gz")
    return folder


def run(given, data, prefix, text, seed):
    folder = levels(given) if data == "levels" else given.data / data
    identity = hashlib.sha256(f"{text}{seed}".encode()).hexdigest()[:16]
    result = given.out / f"{identity}.json"
    if not result.exists():
        spec, model, checkpoint = (given.out / name for name in ("spec.rec", "model", "checkpoint"))
        spec.write_text(text)
        subprocess.run([given.recc.resolve(), "build", spec, "-o", model], check=True)
        subprocess.run(["rm", "-rf", checkpoint], check=True)
        parts = [argument for part in ("train", "valid", "test") for argument in (f"--{part}", folder / f"{prefix}{part}.csv.gz")]
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
