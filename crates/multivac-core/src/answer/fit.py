#!/usr/bin/env python3
"""Fits model.txt, the table that turns features into confidence.

    python3 -m pip install numpy lightgbm
    python3 crates/multivac-core/src/answer/fit.py TRAIN.json.gz [MORE.json.gz]… [--report DEV.json.gz]…

Each file is a data set of paragraphs and questions with what answers them: `{"data": [{"key", "text"}], "questions": [{"kind":
"in" | "out" | "near" | "adversarial", "question", "answers" or "sentences", "gold": [keys]}]}`. "In" are answered by a
paragraph, "out" are about something else, "adversarial" only look answered. Those after --report are only reported on.

- Of each "in" question the features program makes a "near" one as well: asked where the paragraphs that answer it are
  missing. The subject is there and the answer is not, which is what people meet most. It is left out where what is chosen
  holds a right answer all the same.
- Each candidate of a question (candidates.rs) is a row; it is right if an answer is in it and it is from a paragraph that
  answers. The "rank" trees (LightGBM, Ke et al., NIPS 2017; LambdaRank, Burges 2010) learn from the answerable questions
  of all sets to rank the right one first.
- The "confidence" trees learn from all questions whether that choice is right, from its features and from how it compares
  with the other candidates. A right choice is 1; a wrong one counts ALMOST where the question could be answered at all,
  since the evidence was near. What a question weighs is in SET_WEIGHT, NEAR_WEIGHT and ADVERSARIAL_WEIGHT.
- The "right" and "wrong" forests estimate from a question's term the probability that the right sentence holds it, and
  that one of the wrong ones does; see expected.rs.
- Whatever is measured or learned from choices uses choices of trees that had not seen the question (FOLDS parts, by
  paragraph).
- The sums of the confidence trees for such choices make the curve: an isotonic regression (Barlow et al., 1972) of the
  share that was right, over the questions that are answered, those about something else, and the near ones, each with its
  weight. The threshold is the lowest where that mix has nearly its best F1; the other thresholds come from the same.
- The first set is learned from twice: the second time its paragraphs are made into logs, chats and lists (as_records).
"""

import argparse
import collections
import gzip
import json
import pathlib
import random
import re
import subprocess
import sys

import lightgbm
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
FOLDS = 5
# Of the first set, and of each other.
SET_WEIGHT = (1.0, 0.3)
NEAR_WEIGHT = 0.5
ADVERSARIAL_WEIGHT = 1.5
ALMOST = 0.5
PARAMETERS = {
    "learning_rate": 0.05, "min_data_in_leaf": 60, "lambda_l2": 5.0, "feature_fraction": 0.5, "bagging_fraction": 0.7,
    "bagging_freq": 1, "max_bin": 255, "seed": 7, "deterministic": True, "force_row_wise": True, "num_threads": 2,
    "verbose": -1,
}
RANK = PARAMETERS | {"objective": "lambdarank", "lambdarank_truncation_level": 10, "label_gain": [0, 1],
                     "num_leaves": 15, "learning_rate": 0.03}
CONFIDENCE = PARAMETERS | {"objective": "cross_entropy", "num_leaves": 12, "min_data_in_leaf": 80, "learning_rate": 0.03,
                           "lambda_l2": 20, "bagging_fraction": 0.5, "feature_fraction": 0.2}
TERM = {"objective": "binary", "num_leaves": 10, "min_data_in_leaf": 100, "learning_rate": 0.08, "lambda_l2": 5.0,
        "feature_fraction": 0.7, "seed": 7, "deterministic": True, "force_row_wise": True, "num_threads": 2, "verbose": -1}
TERM_TREES = 60
RIVALS = 16
RANK_TREES = 500
CONFIDENCE_TREES = 350
# The sums of so many forests, which differ by their seed alone, are averaged: there are few questions to learn from.
CONFIDENCE_FORESTS = 3
# How much F1 may be under the best at the threshold.
FLAT = 0.001
# The kinds of questions that the curve, the thresholds and F1 are about.
MIX = ["in", "out", "near"]
# As model.rs computes them, after the features.
CHOICE = ["sum", "over_own", "over_other", "over_mean", "other", "crowd"]
NO_SUM = -9.0
# As in requirements.rs.
LEFT_BY_VETO = 0.25
# As in question.rs, table.rs and features.rs.
MAX_TERMS = 24
WAYS_TO_HOLD = 5
EXPECTED = [("odds", "expected"), ("passage_odds", "passage_expected"), ("around_odds", "around_expected"),
            ("sense_odds", "sense_expected"), ("passage_sense_odds", "passage_sense_expected")]
LEADS = ["odds", "passage_odds", "around_odds"]
NO_ODDS = -10.0


class Set:
    """Data sets, with a row of features for each candidate."""

    def __init__(self, path, weight=1.0, change=lambda text: text):
        with gzip.open(path) as file:
            everything = json.load(file)
        questions = everything["questions"]
        for datum in everything["data"]:
            datum["text"] = change(datum["text"])
        text = json.dumps(everything).encode()
        raw = subprocess.run(["cargo", "run", "--release", "--quiet", "-p", "multivac-core", "--example", "features"],
                             input=text, stdout=subprocess.PIPE, check=True, cwd=HERE).stdout
        names, terms, count, values = raw.split(b"\n", 3)
        self.names, self.term_names = names.decode().split(" "), terms.decode().split(" ")
        values, n = np.frombuffer(values, "<f4"), 3 + len(self.names)
        rows, terms = values[:int(count)].reshape(-1, n + MAX_TERMS), values[int(count):].reshape(-1, 1 + len(self.term_names))
        self.question, self.right, self.gold = rows[:, 0].astype(int), rows[:, 1], rows[:, 2]
        self.features = rows[:, 3:n].copy()
        # Questions on the same paragraph are kept together.
        keys = [(q.get("gold") or [q.get("id", n)])[0] for n, q in enumerate(questions)]
        order = {key: n for n, key in enumerate(np.random.default_rng(7).permutation(sorted(set(keys))))}
        fold = [order[key] % FOLDS for key in keys]
        kind = [q["kind"] for q in questions]
        asked_again = [n for n, of in enumerate(kind) if of == "in" and "near" not in kind]
        self.fold = np.array(fold + [fold[n] for n in asked_again])
        self.kind = np.array(kind + ["near" for _ in asked_again])
        self.weight = np.full(len(self.kind), weight) * np.where(self.kind == "near", NEAR_WEIGHT, 1.0)
        self.weight[self.kind == "adversarial"] *= ADVERSARIAL_WEIGHT
        self.first = np.ones(len(self.kind), bool)
        # For each pair of candidate and term: which candidate, which term, and in which ways it is held, a column each.
        self.pair_row, place = np.nonzero(rows[:, n:] >= 0)
        self.term, self.term_question = terms[:, 1:], terms[:, 0].astype(int)
        first = np.searchsorted(self.term_question, np.arange(len(self.kind)))
        self.pair_term = first[self.question[self.pair_row]] + place
        held = rows[:, n:][self.pair_row, place].astype(int)
        self.held = np.stack([held >> way & 1 for way in range(WAYS_TO_HOLD)], 1)

    def add(self, other):
        """Adds another data set, whose questions are not the first set's."""
        questions, candidates, terms = len(self.kind), len(self.right), len(self.term)
        other.first[:] = False
        for name, offset in (("question", questions), ("term_question", questions), ("pair_row", candidates), ("pair_term", terms),
                             ("right", 0), ("gold", 0), ("features", 0), ("fold", 0), ("kind", 0), ("weight", 0), ("first", 0),
                             ("term", 0), ("held", 0)):
            added = getattr(other, name)
            setattr(self, name, np.concatenate([getattr(self, name), added + offset if offset else added]))

    def expect(self, forests, which):
        """Fills in, for the questions `which`, what these forests expect of the terms held; as expected.rs does."""
        rows = which[self.question]
        pairs = rows[self.pair_row]
        row, term, held = self.pair_row[pairs], self.pair_term[pairs], self.held[pairs]
        for way, (odds_name, share_name) in enumerate(EXPECTED):
            chance = [np.clip(forest.predict(self.term), 0.01, 0.99) for forest in forests[way]]
            right, wrong = chance[0][term], chance[1][term]
            says = np.where(held[:, way] > 0, np.log(right / wrong), np.log((1 - right) / (1 - wrong)))
            odds = np.bincount(row, says, len(rows))
            share = np.bincount(row, right * held[:, way], len(rows)) / np.maximum(np.bincount(row, right, len(rows)), 1e-9)
            self.features[rows, self.names.index(odds_name)] = odds[rows]
            self.features[rows, self.names.index(share_name)] = share[rows]

    def lead(self):
        """How far each of the log-odds is above the best of another passage; as features.rs compares."""
        passage = self.features[:, self.names.index("passage_rank")]
        bounds = np.searchsorted(self.question, np.arange(len(self.kind) + 1))
        for name in LEADS:
            odds, lead = self.features[:, self.names.index(name)], self.features[:, self.names.index(name + "_lead")]
            for start, end in zip(bounds, bounds[1:]):
                if start == end:
                    continue
                values, own = odds[start:end], passage[start:end]
                top = values.argmax()
                other = values[own != own[top]]
                lead[start:end] = values - np.where(own == own[top], other.max() if len(other) else NO_ODDS, values[top])

    def choices(self, sums):
        """For each question the chosen candidate's features and how it compares with the others, and whether it is right."""
        n = len(self.kind)
        order = np.lexsort((-sums, self.question))
        bounds = np.searchsorted(self.question[order], np.arange(n + 1))
        passage = self.features[:, self.names.index("passage_rank")]
        rows, right = np.full((n, len(self.names) + len(CHOICE)), NO_SUM), np.zeros(n)
        for q in range(n):
            o = order[bounds[q]:bounds[q + 1]]
            if not len(o):
                continue
            first, s = o[0], sums[o[0]]
            own, other = o[passage[o] == passage[first]], o[passage[o] != passage[first]]
            rows[q, :len(self.names)] = self.features[first]
            rows[q, len(self.names):] = [
                s, s - sums[own[1]] if len(own) > 1 else -NO_SUM, s - sums[other[0]] if len(other) else -NO_SUM,
                sums[o[:5]].mean() - s, sums[other[0]] if len(other) else NO_SUM, np.log(np.exp(sums[o] - s).sum()),
            ]
            right[q] = self.right[first]
        return rows, right


def as_records(text, random=random.Random(7)):
    """The sentences of a paragraph as somebody else may feed them: a log, a chat, a list. All else stays as it is."""
    lines = re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)
    time = f"{random.randint(0, 23):02}:{random.randint(10, 59)}"
    name = random.choice(["api", "worker", "sshd[2213]", "scheduler", "mira", "jon", "petra", "db-1"])
    begin, end = random.choice([
        (f"2026-03-{random.randint(10, 28)}T{time}:07Z INFO {name} ", ""), (f"Mar {random.randint(10, 28)} {time}:31 gate {name}: ", ""),
        (f"[{time}] {name}: ", "."), ("- ", ""), ("* ", "."), (f"{time} [info] {name}: ", "")])
    return "\n".join(begin + line.rstrip(".") + end for line in lines)


def fit_terms(s, which):
    """Forests that estimate the probability that the right sentence holds a term, and a wrong one, for each way."""
    of_answerable = (which & (s.kind == "in"))[s.question]
    place = np.arange(len(s.question)) - np.searchsorted(s.question, s.question)
    right = (of_answerable & (s.right > 0) & (s.gold > 0))[s.pair_row]
    wrong = np.flatnonzero((of_answerable & (s.right == 0) & (place < RIVALS))[s.pair_row])
    wrong = np.random.default_rng(7).choice(wrong, min(len(wrong), 60_000), replace=False)
    fit = lambda pairs, way: lightgbm.train(
        TERM, lightgbm.Dataset(s.term[s.pair_term[pairs]], s.held[pairs, way], feature_name=s.term_names), TERM_TREES)
    return [(fit(right, way), fit(wrong, way)) for way in range(WAYS_TO_HOLD)]


def fit_rank(s, rows):
    rows = rows & (s.kind[s.question] == "in")
    groups = np.unique(s.question[rows], return_counts=True)[1]
    labels = ((s.right > 0) & (s.gold > 0))[rows].astype(int)
    return lightgbm.train(RANK, lightgbm.Dataset(s.features[rows], labels, group=groups, feature_name=s.names), RANK_TREES)


def is_asked(s, right):
    """Which questions are learned from: a near one that is answered all the same is none."""
    return (s.kind != "near") | (right == 0)


def fit_confidence(s, choices, right, which):
    which = which & is_asked(s, right)
    labels = np.where(right > 0, 1.0, np.where(s.kind == "in", ALMOST, 0.0))[which]
    fit = lambda seed: lightgbm.train(
        CONFIDENCE | {"seed": seed}, lightgbm.Dataset(choices[which], labels, weight=s.weight[which]), CONFIDENCE_TREES)
    return [fit(seed) for seed in range(CONFIDENCE_FORESTS)]


def mean(forests, rows):
    return np.mean([forest.predict(rows, raw_score=True) for forest in forests], axis=0)


def auroc(high, low):
    order = np.argsort(np.concatenate([high, low]), kind="stable")
    values = np.concatenate([high, low])[order]
    ranks = np.empty(len(values))
    unique, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks[order] = (ends - (counts - 1) / 2)[inverse]
    return (ranks[:len(high)].sum() - len(high) * (len(high) + 1) / 2) / (len(high) * len(low))


def isotonic(points):
    """Pool adjacent violators, of (x, y, weight) in the order of x; the same where y never falls."""
    blocks = []
    for x, y, weight in points:
        blocks.append([x, y, weight])
        while len(blocks) > 1 and blocks[-2][1] >= blocks[-1][1]:
            x2, y2, n2 = blocks.pop()
            x1, y1, n1 = blocks.pop()
            blocks.append([(x1 * n1 + x2 * n2) / (n1 + n2), (y1 * n1 + y2 * n2) / (n1 + n2), n1 + n2])
    return blocks


def curve(top, right, weight):
    """Sums to confidence: isotonic over groups of similar sums, and never 0 or 1."""
    order = np.argsort(top, kind="stable")
    groups = np.array_split(order, 60)
    mean = lambda values, g: (values[g] * weight[g]).sum() / weight[g].sum()
    points = [(mean(top, g), ((right[g] * weight[g]).sum() + 0.5) / (weight[g].sum() + 1), weight[g].sum()) for g in groups]
    points = [(round(float(x), 3), round(float(y), 4)) for x, y, _ in isotonic(points)]
    return [p for i, p in enumerate(points) if i == 0 or p[0] > points[i - 1][0]]


def report(name, s, choices, top, right, points, threshold):
    confidence = left(s, choices, np.interp(top, *zip(*points)))
    kind = s.kind
    for label, main in (("", (kind == "in") | (kind == "out")), (" with near", np.isin(kind, MIX) & is_asked(s, right))):
        answered = confidence >= threshold
        p = right[answered & main].sum() / max(1, (answered & main).sum())
        r = right[answered & main].sum() / (kind == "in").sum()
        best, at = best_f1(confidence[main], right[main], (kind == "in").sum(), np.ones(main.sum()))
        bins = np.minimum((confidence * 10).astype(int), 9)
        error = sum(abs((confidence - right)[(bins == b) & answered & main].sum()) for b in range(10)) / (answered & main).sum()
        area = lambda other: auroc(confidence[kind == "in"], confidence[main & (kind == other)]) if (main & (kind == other)).any() else 0
        print(f"{name}{label}: precision {p:.3f} recall {r:.3f} F1 {2 * p * r / (p + r):.4f} (best {best:.4f} at {at:.2f}); "
              f"AUROC out {area('out'):.4f} near {area('near'):.4f}; calibration error {error:.4f}; "
              f"abstained {(~answered)[main & (kind == ('near' if label else 'out'))].mean():.3f}")
    if (kind == "adversarial").any():
        print(f"{name}: AUROC adversarial {auroc(confidence[kind == 'in'], confidence[kind == 'adversarial']):.4f}; "
              f"best sentence right {right[kind == 'in'].mean():.4f}")
    print("  stated  questions  right")
    for b in range(10):
        here = (bins == b) & main
        if here.any():
            print(f"  {confidence[here].mean():.2f}  {here.sum():6d}    {right[here].mean():.2f}")


def f1s(confidence, right, answerable, weight):
    """The F1 of answering from each confidence on, and those confidences, falling."""
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum((right * weight)[order])
    answered = np.cumsum(weight[order])
    last = np.append(confidence[order][1:] != confidence[order][:-1], True)
    return (2 * hits / (answered + answerable))[last], confidence[order][last]


def best_f1(confidence, right, answerable, weight):
    f1, confidence = f1s(confidence, right, answerable, weight)
    return f1.max(), confidence[f1.argmax()]


def lowest_threshold(confidence, right, answerable, weight):
    """The lowest confidence with nearly the best F1: its top is flat, and who feeds little has no other datum to confirm it."""
    f1, confidence = f1s(confidence, right, answerable, weight)
    return confidence[f1 >= f1.max() - FLAT].min()


def left(s, choices, confidence):
    """Confidence after a veto; as requirements.rs has it."""
    veto = choices[:, s.names.index("vetoed")]
    return confidence * np.where(veto > 0, LEFT_BY_VETO, 1)


def precisions(confidence, right, weight):
    """For each precision, the lowest confidence from which on the answers are that often right."""
    order = np.argsort(-confidence, kind="stable")
    share = np.cumsum((right * weight)[order]) / np.cumsum(weight[order])
    table = []
    for wanted in np.arange(0.5, 1.0, 0.01):
        reached = np.flatnonzero((share >= wanted) & (np.arange(len(order)) >= 100))
        if len(reached):
            at = confidence[order][reached[-1]]
            table.append((round(float(wanted), 2), round(float(at), 4)))
    return [(p, max(t for q, t in table if q <= p)) for p, _ in table]


def preorder(node, share=1):
    if "leaf_value" in node:
        return [f"{share * node['leaf_value']:.5g}"]
    # LightGBM goes left where the value is at most the bound, as forest.rs does. Nine digits are enough for 32 bits.
    return ([f"{node['split_feature']}<{node['threshold']:.9g}"]
            + preorder(node["left_child"], share) + preorder(node["right_child"], share))


def held_out(s):
    """The sets' choices, whether each is right, and its sum, all by trees that had not seen the question."""
    for fold in range(FOLDS):
        s.expect(fit_terms(s, s.fold != fold), s.fold == fold)
    s.lead()
    sums = np.zeros(len(s.right))
    for fold in range(FOLDS):
        held = s.fold[s.question] == fold
        sums[held] = fit_rank(s, ~held).predict(s.features[held], raw_score=True)
    choices, right = s.choices(sums)
    top = np.zeros(len(s.kind))
    for fold in range(FOLDS):
        held = s.fold == fold
        top[held] = mean(fit_confidence(s, choices, right, ~held), choices[held])
    return choices, right, top


def calibrate(s, choices, top, right):
    """The curve, the threshold, and the thresholds for other precisions."""
    mix = np.isin(s.kind, MIX) & is_asked(s, right)
    weight = s.weight[mix]
    points = curve(top[mix], right[mix], weight)
    confidence = left(s, choices[mix], np.interp(top[mix], *zip(*points)))
    threshold = lowest_threshold(confidence, right[mix], weight[s.kind[mix] == "in"].sum(), weight)
    table = precisions(confidence, right[mix], weight)
    answered = [(p, t, (confidence[s.kind[mix] == "in"] >= t).mean()) for p, t in table]
    return points, round(float(threshold), 4), answered


def write(s, terms, rank, confidence, points, threshold, answered):
    lines = ["# Written by fit.py; see model.rs for what the lines mean.", "terms " + " ".join(s.term_names),
             "features " + " ".join(s.names)]
    for way, forests in enumerate(terms):
        for name, forest in zip(("right", "wrong"), forests):
            for tree in forest.dump_model()["tree_info"]:
                lines.append(f"{name} {way} " + " ".join(preorder(tree["tree_structure"])))
    for name, forests in (("rank", [rank]), ("confidence", confidence)):
        for tree in (tree for forest in forests for tree in forest.dump_model()["tree_info"]):
            lines.append(f"{name} " + " ".join(preorder(tree["tree_structure"], 1 / len(forests))))
    lines.append("curve " + " ".join(f"{x}:{y}" for x, y in points))
    lines.append(f"threshold {threshold}")
    lines.append("precision " + " ".join(f"{p}:{t}" for p, t, _ in answered))
    (HERE / "model.txt").write_text("\n".join(lines) + "\n")


def main(arguments):
    s = Set(arguments.train, SET_WEIGHT[0])
    for path in arguments.more:
        s.add(Set(path, SET_WEIGHT[1]))
    s.add(Set(arguments.train, SET_WEIGHT[1], as_records))
    print(f"{len(s.kind)} questions, {len(s.right)} candidates, {len(s.names)} features; an answer is among them for "
          f"{len(set(s.question[s.right > 0]) & set(np.flatnonzero(s.kind == 'in'))) / (s.kind == 'in').sum():.3f}")
    choices, right, top = held_out(s)
    points, threshold, answered = calibrate(s, choices, top, right)
    report("held out", s, choices, top, right, points, threshold)
    everything = np.ones(len(s.kind), bool)
    terms, rank = fit_terms(s, everything), fit_rank(s, everything[s.question])
    confidence = fit_confidence(s, choices, right, everything)
    for name, model, names in (("rank", rank, s.names), ("confidence", confidence[0], s.names + CHOICE)):
        gain = sorted(zip(model.feature_importance("gain"), names), reverse=True)[:25]
        print(f"gain of {name}:", ", ".join(f"{n} {100 * g / sum(model.feature_importance('gain')):.1f}" for g, n in gain))
    write(s, terms, rank, confidence, points, threshold, answered)
    print("precision, from confidence, share of answerable questions answered:",
          ", ".join(f"{p} {t} {share:.2f}" for p, t, share in answered if round(p * 100) % 5 == 0))
    for path in arguments.report:
        d = Set(path)
        d.expect(terms, np.ones(len(d.kind), bool))
        d.lead()
        choices, right = d.choices(rank.predict(d.features, raw_score=True))
        report(pathlib.Path(path).name, d, choices, mean(confidence, choices), right, points, threshold)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("train")
    parser.add_argument("more", nargs="*")
    parser.add_argument("--report", nargs="*", default=[])
    main(parser.parse_args())
