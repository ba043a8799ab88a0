#!/usr/bin/env python3
"""Fits model.txt, the table by which features become confidence.

    python3 -m pip install numpy lightgbm
    python3 crates/multivac-core/src/answer/fit.py TRAIN.json.gz [DEV.json.gz]

TRAIN is a data set of paragraphs and questions with the strings that answer them: `{"data": [{"text"}], "questions":
[{"kind": "in" | "out" | "adversarial", "question", "answers", "gold"}]}`, of which "in" are answered by a paragraph,
"out" are about something else, and "adversarial" only look answered. DEV, of the same form, is only looked at.

- Every sentence of the 30 passages found for a question is a row, right if an answer stands in it. Boosted trees (Ke et
  al., NIPS 2017) learn the log-odds of that.
- The sums of the best sentences of questions the trees did not learn from (in ten parts, by paragraph) make the curve:
  an isotonic regression (Barlow et al., 1972) of how many were right. They make the thresholds, too.
- Adversarial questions teach the trees with a small weight, and the curve not at all: whether a paragraph about the
  very thing answers takes reading, and confidence is to be honest about what was found.
"""

import collections
import gzip
import json
import pathlib
import subprocess
import sys

import lightgbm
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
FOLDS = 10
ADVERSARIAL_WEIGHT = 0.3
TREES = 250
PARAMETERS = {
    "objective": "binary", "learning_rate": 0.05, "num_leaves": 12, "min_data_in_leaf": 60, "lambda_l2": 5.0,
    "feature_fraction": 0.5, "bagging_fraction": 0.7, "bagging_freq": 1, "max_bin": 255, "seed": 7,
    "deterministic": True, "force_row_wise": True, "num_threads": 2, "verbose": -1,
}


class Set:
    """A data set, with a row of features for each candidate."""

    def __init__(self, path):
        with gzip.open(path) as file:
            text = file.read()
        self.questions = json.loads(text)["questions"]
        raw = subprocess.run(["cargo", "run", "--release", "--quiet", "-p", "multivac-core", "--example", "features"],
                             input=text, stdout=subprocess.PIPE, check=True, cwd=HERE).stdout
        names, _, rows = raw.partition(b"\n")
        self.names = names.decode().split(" ")
        rows = np.frombuffer(rows, "<f4").reshape(-1, 2 + len(self.names))
        self.question, self.right, self.features = rows[:, 0].astype(int), rows[:, 1], rows[:, 2:]
        self.kind = np.array([q["kind"] for q in self.questions])
        self.right = np.where(self.kind[self.question] == "in", self.right, 0)
        self.weight = np.where(self.kind[self.question] == "adversarial", ADVERSARIAL_WEIGHT, 1.0)
        # Questions on the same paragraph are kept together.
        keys = [(q.get("gold") or [q.get("id", n)])[0] for n, q in enumerate(self.questions)]
        order = {key: n for n, key in enumerate(np.random.default_rng(7).permutation(sorted(set(keys))))}
        self.fold = np.array([order[key] % FOLDS for key in keys])

    def best(self, sums):
        """For each question, the sum of its best candidate and whether it is right."""
        top = np.full(len(self.questions), -20.0)
        np.maximum.at(top, self.question, sums)
        is_top = sums == top[self.question]
        right = np.zeros(len(self.questions))
        first = np.full(len(self.questions), -1)
        rows = np.flatnonzero(is_top)[::-1]
        first[self.question[rows]] = rows
        right[first >= 0] = self.right[first[first >= 0]]
        return top, right


def fit(s, rows):
    data = lightgbm.Dataset(s.features[rows], s.right[rows], weight=s.weight[rows], feature_name=s.names)
    return lightgbm.train(PARAMETERS, data, TREES)


def auroc(high, low):
    order = np.argsort(np.concatenate([high, low]), kind="stable")
    values = np.concatenate([high, low])[order]
    ranks = np.empty(len(values))
    unique, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks[order] = (ends - (counts - 1) / 2)[inverse]
    return (ranks[:len(high)].sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low))


def isotonic(x, y):
    """Pool adjacent violators; blocks as [mean x, mean y, count]."""
    blocks = []
    for a, b in sorted(zip(x, y)):
        blocks.append([a, b, 1])
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            a2, b2, n2 = blocks.pop()
            a1, b1, n1 = blocks.pop()
            blocks.append([(a1 * n1 + a2 * n2) / (n1 + n2), (b1 * n1 + b2 * n2) / (n1 + n2), n1 + n2])
    return blocks


def curve(top, right):
    """Sums to confidence: isotonic over groups of like sums, and never quite sure."""
    order = np.argsort(top, kind="stable")
    groups = np.array_split(order, 60)
    blocks = isotonic([top[g].mean() for g in groups], [(right[g].sum() + 0.5) / (len(g) + 1) for g in groups])
    points = [(round(float(x), 3), round(float(y), 4)) for x, y, _ in blocks]
    return [p for i, p in enumerate(points) if i == 0 or p[0] > points[i - 1][0]]


def report(name, s, sums, points, threshold):
    top, right = s.best(sums)
    confidence = np.interp(top, *zip(*points))
    kind = s.kind
    main = kind != "adversarial"
    told = confidence >= threshold
    p = right[told & main].sum() / max(1, (told & main).sum())
    r = right[told & main].sum() / (kind == "in").sum()
    best, at = best_f1(confidence[main], right[main], (kind == "in").sum())
    bins = np.minimum((confidence * 10).astype(int), 9)
    error = sum(abs((confidence - right)[(bins == b) & told & main].sum()) for b in range(10)) / (told & main).sum()
    print(f"{name}: precision {p:.3f} recall {r:.3f} F1 {2 * p * r / (p + r):.4f} (best {best:.4f} at {at:.2f}); "
          f"AUROC out {auroc(confidence[kind == 'in'], confidence[kind == 'out']):.4f} "
          f"adversarial {auroc(confidence[kind == 'in'], confidence[kind == 'adversarial']):.4f}; "
          f"calibration error {error:.4f}; best sentence right {right[kind == 'in'].mean():.4f}")
    print("  said  questions  right")
    for b in range(10):
        here = (bins == b) & main
        if here.any():
            print(f"  {confidence[here].mean():.2f}  {here.sum():6d}    {right[here].mean():.2f}")


def best_f1(confidence, right, answerable):
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(right[order])
    told = np.arange(1, len(order) + 1)
    f1 = 2 * hits / (told + answerable)
    last = np.append(confidence[order][1:] != confidence[order][:-1], True)
    at = np.argmax(np.where(last, f1, 0))
    return f1[at], confidence[order][at]


def precisions(confidence, right):
    """For each precision, the lowest confidence from which on the answers are that often right."""
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    table = []
    for wanted in np.arange(0.5, 1.0, 0.01):
        reached = np.flatnonzero((share >= wanted) & (np.arange(len(order)) >= 100))
        if len(reached):
            at = confidence[order][reached[-1]]
            table.append((round(float(wanted), 2), round(float(at), 4)))
    return [(p, max(t for q, t in table if q <= p)) for p, _ in table]


def preorder(node):
    if "leaf_value" in node:
        return [f"{node['leaf_value']:.5g}"]
    # LightGBM goes left at most the bound, as model.rs does; bounds are kept exactly enough for 32 bits.
    return ([f"{node['split_feature']}<{node['threshold']:.9g}"]
            + preorder(node["left_child"]) + preorder(node["right_child"]))


def main(train, dev=None):
    s = Set(train)
    print(f"{len(s.questions)} questions, {len(s.right)} candidates, {len(s.names)} features; an answer is among them for "
          f"{len(set(s.question[s.right > 0])) / (s.kind == 'in').sum():.3f}")
    sums = np.zeros(len(s.right))
    for fold in range(FOLDS):
        held = s.fold[s.question] == fold
        sums[held] = fit(s, ~held).predict(s.features[held], raw_score=True)
    top, right = s.best(sums)
    main = s.kind != "adversarial"
    points = curve(top[main], right[main])
    confidence = np.interp(top, *zip(*points))
    _, threshold = best_f1(confidence[main], right[main], (s.kind == "in").sum())
    threshold = round(float(threshold) - 0.005, 2)
    table = precisions(confidence[main], right[main])
    report("held out", s, sums, points, threshold)
    model = fit(s, np.ones(len(s.right), bool))
    gain = sorted(zip(model.feature_importance("gain"), s.names), reverse=True)
    print("gain:", ", ".join(f"{name} {100 * g / sum(x for x, _ in gain):.1f}" for g, name in gain))
    lines = ["# Written by fit.py; see model.rs for what the lines mean.", "features " + " ".join(s.names)]
    for tree in model.dump_model()["tree_info"]:
        lines.append("tree " + " ".join(preorder(tree["tree_structure"])))
    lines.append("curve " + " ".join(f"{x}:{y}" for x, y in points))
    lines.append(f"threshold {threshold}")
    lines.append("precision " + " ".join(f"{p}:{t}" for p, t in table))
    (HERE / "model.txt").write_text("\n".join(lines) + "\n")
    told = collections.Counter()
    for p, t in table:
        told[p] = (confidence[main & (s.kind == "in")] >= t).mean()
    print("precision, from confidence, share of answerable questions answered:",
          ", ".join(f"{p} {t} {told[p]:.2f}" for p, t in table if round(p * 100) % 5 == 0))
    if dev:
        d = Set(dev)
        report("dev", d, model.predict(d.features, raw_score=True), points, threshold)


if __name__ == "__main__":
    main(*sys.argv[1:])
