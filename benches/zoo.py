#!/usr/bin/env python3
"""Trains every examples/frappe_*.rec with three seeds and writes docs/zoo.md.

usage: benches/zoo.py RECC FRAPPE OUT [--threads N] [--only NAME,...] [--made]

RECC is the compiler, FRAPPE the folder with train.csv.gz, valid.csv.gz and test.csv.gz, OUT a folder that keeps the results of each run: a run that
is there is not made again, so the command can be stopped and started at will. A changed model is run again. With --made nothing is run, and the table
is of the models whose three runs are there.
"""

import argparse
import json
import re
import subprocess
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
SEEDS = [2021, 2022, 2023]


def run(recc, frappe, out, spec, seed, threads, made):
    """The results of one seed, made if they are not there."""
    name = spec.stem.removeprefix("frappe_")
    model = out / f"{name}.model"
    subprocess.run([recc, "build", spec, "-o", model], check=True)
    # How a spec is laid out and commented does not matter.
    identity = json.loads(subprocess.run([model, "info", "--json"], check=True, stdout=subprocess.PIPE).stdout)["hash"][:12]
    result = out / f"{name}.{seed}.{identity}.json"
    if not result.exists() and made:
        return None
    if not result.exists():
        checkpoint = out / f"{name}.checkpoint"
        subprocess.run(["rm", "-rf", checkpoint], check=True)
        parts = [argument for part in ("train", "valid", "test") for argument in (f"--{part}", frappe / f"{part}.csv.gz")]
        command = [model, "train", *parts, "--seed", str(seed), "--threads", str(threads), "--out", checkpoint, "--json"]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        result.write_bytes(text)
        subprocess.run(["rm", "-rf", checkpoint], check=True)
        figures = json.loads(text)["metrics"]["click"]
        print(f"{name:12} seed {seed}  auc {figures['auc']:.5f}  logloss {figures['logloss']:.5f}", flush=True)
    return json.loads(result.read_text())


def published(spec):
    """The title and the published figures, from the comment at the top of a spec."""
    comment = " ".join(line.removeprefix("//").strip() for line in spec.read_text().splitlines() if line.startswith("//"))
    figures = re.search(r"published test AUC ([0-9.]*[0-9])(?: / log loss ([0-9.]*[0-9]))?", comment)
    return (float(figures[1]), figures[2]) if figures else (None, None)


def row(spec, runs):
    """One line of the table."""
    aucs = [result["metrics"]["click"]["auc"] for result in runs]
    losses = [result["metrics"]["click"]["logloss"] for result in runs]
    seconds = sorted(epoch["seconds"] for result in runs for epoch in result["epochs"])
    auc, loss = published(spec)
    figure = "none" if auc is None else f"{auc:.4f}" + (f" / {loss}" if loss else "")
    gain = "" if auc is None else f"{mean(aucs) - auc:+.4f}"
    seeds = ", ".join(f"{value:.5f}" for value in aucs)
    counts = [len(result["epochs"]) for result in runs]
    spread = f"{min(counts)} to {max(counts)}"
    return mean(aucs), f"| `{spec.stem}` | {seeds} | {mean(aucs):.4f} | {mean(losses):.4f} | {figure} | {gain} | {spread} | {seconds[len(seconds) // 2]:.1f} |"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("recc", type=Path)
    arguments.add_argument("frappe", type=Path)
    arguments.add_argument("out", type=Path)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--only", default="", help="names of models, with commas")
    arguments.add_argument("--made", action="store_true", help="run nothing")
    given = arguments.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    only = [name for name in given.only.split(",") if name]
    specs = [spec for spec in sorted((ROOT / "examples").glob("frappe_*.rec")) if not only or spec.stem.removeprefix("frappe_") in only]
    rows = []
    for spec in specs:
        runs = [run(given.recc.resolve(), given.frappe, given.out, spec, seed, given.threads, given.made) for seed in SEEDS]
        if all(runs):
            rows.append(row(spec, runs))
    if not only:
        head = (ROOT / "docs" / "zoo.md").read_text().split("| spec |")[0]
        table = "| spec | test AUC of seeds 2021, 2022, 2023 | mean AUC | mean log loss | published AUC / log loss | difference of AUC | epochs | median seconds an epoch |\n"
        table += "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
        (ROOT / "docs" / "zoo.md").write_text(head + table + "\n".join(text for _, text in sorted(rows)) + "\n")


main()
