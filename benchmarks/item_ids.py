"""Item IDs on MovieLens-100K, scheme by scheme, and the time that 12,000 items take; prints lines of JSON.

``python -m benchmarks.item_ids`` gives the figures of ``docs/item-ids.md``: codes in use, perplexity, and the share
of neighbours that share a prefix, beside chance.  ``python -m benchmarks.item_ids --pictures docs/images`` draws its
pictures anew.  Users and items with at least five events, leave-one-out, MiniLM vectors of title, year and genres.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm4rec.core import Dataset
from llm4rec.data import DataConfig, SplitConfig, load, make_split
from llm4rec.features import Encoder, EncoderConfig, item_vectors, open_encoder, unit
from llm4rec.generative.ids import (
    RQVAE,
    AttributeIDs,
    CollaborativeIDs,
    ItemIDs,
    JointIDs,
    RandomIDs,
    RQKMeans,
    Scheme,
    SequentialIDs,
    TitleIDs,
)
from llm4rec.generative.ids.codebooks import kmeans, quantise
from llm4rec.generative.ids.report import IDReport, inspect

SIZE: dict[str, Any] = {"levels": 3, "codebook": 32}
#: Name in tables and pictures -> scheme.
SCHEMES: dict[str, Scheme] = {
    "random": RandomIDs(**SIZE),
    "sequential": SequentialIDs(),
    "title": TitleIDs(),
    "attributes": AttributeIDs(columns=("genres", "year")),
    "collaborative": CollaborativeIDs(branches=32, encoder="minilm"),
    "rq-kmeans": RQKMeans(**SIZE),
    "rq-kmeans, balanced": RQKMeans(**SIZE, balance=1.0),
    "rq-vae": RQVAE(**SIZE),
    "joint": JointIDs(**SIZE),
}


@dataclass(frozen=True)
class Built:
    """A scheme's IDs and what is known of them."""

    ids: ItemIDs
    report: IDReport
    seconds: float


def movielens() -> tuple[Dataset, Encoder]:
    """Return the training part and the encoder."""
    split = make_split(load(DataConfig(set="ml-100k", user_core=5, item_core=5)), SplitConfig(kind="leave-one-out"))
    return split.train, open_encoder(EncoderConfig())


def build_all(train: Dataset, encoder: Encoder) -> dict[str, Built]:
    """Build and inspect every scheme."""
    vectors = item_vectors(train, encoder)
    built = {}
    for name, scheme in SCHEMES.items():
        start = time.perf_counter()
        ids = scheme.build(train, encoder=encoder, rng=np.random.default_rng(0))
        seconds = time.perf_counter() - start
        built[name] = Built(ids, inspect(ids, train, vectors, rng=np.random.default_rng(0)), seconds)
    return built


def line(name: str, built: Built) -> dict[str, object]:
    """Return a scheme's figures; lists hold a value for each of the first four tokens."""
    report, first = built.report, built.report.levels[:4]
    shares = {
        key: [None if (share := getattr(level, key)) is None else round(share, 3) for level in first]
        for key in ("text", "events", "chance")
    }
    return {
        "scheme": name, "n_tokens": report.n_tokens, "used": report.used, "depth": report.depth,
        "mean_depth": round(report.mean_depth, 2), "collisions": report.collisions, "codes": [level.used for level in first],
        "perplexity": [round(level.perplexity, 1) for level in first], "largest": [level.largest for level in first],
        **shares, "seconds": round(built.seconds, 2),
    }  # fmt: skip


def timing(n: int = 12_000, d: int = 384) -> dict[str, object]:
    """Return the time of residual k-means over made vectors: 3 codebooks of 256, 25 rounds."""
    rng = np.random.default_rng(0)
    vectors = unit(rng.normal(size=(n, d)) + 2 * rng.normal(size=(60, d))[rng.integers(60, size=n)])
    start, spent = time.perf_counter(), time.process_time()
    quantise(
        vectors, [256] * 3, lambda _, rest: kmeans(rest, 256, iterations=25, balance=None, rng=rng), unique=True, balance=None
    )
    wall, cpu = time.perf_counter() - start, time.process_time() - spent
    return {"rq-kmeans": f"{n} items, {d} dimensions", "seconds": round(wall, 2), "cpu_seconds": round(cpu, 2)}


# -- pictures -------------------------------------------------------------------------------
INK, FAINT, GRID = "#222", "#777", "#ddd"
TEXT, EVENTS, CHANCE = "#1f6fb4", "#d9822b", "#999"
SCALE = 0.6  # the longest bar of the neighbours


def svg(width: int, height: int, title: str, body: Sequence[str]) -> str:
    """Return a picture on white, with a title for those who cannot see it."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif" font-size="12"><title>{title}</title>'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
    )
    return "\n".join([head, *body, "</svg>\n"])


def word(x: float, y: float, text: str, *, fill: str = INK, anchor: str = "start", size: int = 12, weight: str = "400") -> str:
    """Return a line of text."""
    style = f'fill="{fill}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{text}</text>'


def colour(code: int, n: int) -> str:
    """Return one of n colours, neighbours apart in hue and lightness."""
    return f"hsl({(code * 0.618034 % 1) * 360:.0f} {(70, 45)[code % 2]}% {(38, 52, 66)[code % 3]}%)" if n else INK


def flat(vectors: np.ndarray) -> np.ndarray:
    """Return float[n, 2] in the unit square: near texts stand near (t-SNE)."""
    from sklearn.manifold import TSNE

    xy = TSNE(2, init="pca", perplexity=30, random_state=0).fit_transform(vectors)
    low, high = np.quantile(xy, [0.005, 0.995], axis=0)
    return np.clip((xy - low) / (high - low), 0, 1)


def draw_clusters(xy: np.ndarray, panels: dict[str, ItemIDs]) -> str:
    """Return one map of the films, coloured by the first token of each scheme."""
    side, gap, top = 250, 20, 44
    body = [word(gap, 18, "1,349 films; near points have like texts. Colour: the first token of the ID", fill=FAINT)]
    for at, (name, ids) in enumerate(panels.items()):
        left = gap + at * (side + gap)
        body.append(word(left, top - 6, name, weight="600"))
        body.append(f'<rect x="{left}" y="{top}" width="{side}" height="{side}" fill="none" stroke="{GRID}"/>')
        first = np.unique(ids.padded()[:, 0], return_inverse=True)[1]
        for code in range(int(first.max()) + 1):
            dots = " ".join(
                f"M{left + 5 + x * (side - 10):.1f} {top + 5 + y * (side - 10):.1f}h0" for x, y in xy[first == code].tolist()
            )
            body.append(f'<path d="{dots}" stroke="{colour(code, 1)}" stroke-width="4.2" stroke-linecap="round" fill="none"/>')
    return svg(gap + len(panels) * (side + gap), top + side + 16, "Films coloured by the first token of their IDs", body)


def draw_use(built: dict[str, Built], names: Sequence[str]) -> str:
    """Return bars of how many items have each code, for the first three tokens of some schemes."""
    wide, high, gap, left, top = 210, 60, 38, 165, 58
    body = [word(10, 18, "Items of each code, most used first; the line is an even share", fill=FAINT)]
    body += [word(left + at * (wide + gap), top - 20, f"token {at + 1}", weight="600") for at in range(3)]
    for row, name in enumerate(names):
        padded = built[name].ids.padded()
        y = top + row * (high + gap)
        body.append(word(left - 14, y + high / 2 + 4, name, anchor="end", weight="600"))
        for at in range(3):
            x = left + at * (wide + gap)
            counts = np.sort(np.unique(padded[:, at][padded[:, at] >= 0], return_counts=True)[1])[::-1]
            step, most = wide / max(32, len(counts)), max(int(counts.max()), 1)
            bars = "".join(
                f"M{x + i * step:.2f} {y + high}v{-high * c / most:.2f}h{step * 0.8:.2f}V{y + high}z"
                for i, c in enumerate(counts.tolist())
            )
            share = y + high - high * counts.sum() / len(counts) / most
            body.append(f'<path d="{bars}" fill="{TEXT}"/>')
            body.append(f'<path d="M{x} {share:.1f}h{wide}" stroke="{EVENTS}" stroke-dasharray="3 3" fill="none"/>')
            body.append(f'<path d="M{x} {y + high}h{wide}" stroke="{GRID}" fill="none"/>')
            body.append(word(x + wide, y - 5, f"{len(counts)} codes, most {most}", fill=FAINT, anchor="end", size=11))
    return svg(left + 3 * (wide + gap), top + len(names) * (high + gap) + 4, "How many items have each code", body)


def draw_neighbours(built: dict[str, Built]) -> str:
    """Return, for each scheme, the share of neighbours with the same first token, and with the same first two."""
    left, wide, high, gap, top = 165, 250, 34, 40, 66
    body = [word(10, 18, "Share of an item's ten nearest that have the same beginning of the ID", fill=FAINT)]
    for at, (label, fill) in enumerate((("near by text", TEXT), ("taken by the same users", EVENTS), ("shuffled IDs", CHANCE))):
        body.append(f'<rect x="{left + at * 180}" y="28" width="10" height="10" fill="{fill}"/>')
        body.append(word(left + at * 180 + 15, 37, label))
    for at, title in enumerate(("the first token", "the first two tokens")):
        x = left + at * (wide + gap)
        body.append(word(x, top - 6, title, weight="600"))
        for tick in (0, 0.2, 0.4, 0.6):
            body.append(f'<path d="M{x + wide * tick / SCALE:.1f} {top}v{len(built) * high}" stroke="{GRID}" fill="none"/>')
            body.append(
                word(x + wide * tick / SCALE, top + len(built) * high + 14, f"{tick:g}", fill=FAINT, anchor="middle", size=11)
            )
    for row, (name, one) in enumerate(built.items()):
        y = top + row * high
        body.append(word(left - 12, y + high / 2 + 4, name, anchor="end"))
        for at, level in enumerate(one.report.levels[:2]):
            x = left + at * (wide + gap)
            for nth, (share, fill) in enumerate(((level.text, TEXT), (level.events, EVENTS), (level.chance, CHANCE))):
                body.append(
                    f'<rect x="{x}" y="{y + 5 + nth * 8}" width="{wide * (share or 0) / SCALE:.1f}" height="7" fill="{fill}"/>'
                )
    return svg(left + 2 * (wide + gap), top + len(built) * high + 26, "Neighbours that share the beginning of their IDs", body)


def draw(folder: Path) -> None:
    """Write the pictures."""
    train, encoder = movielens()
    built = build_all(train, encoder)
    vectors = item_vectors(train, encoder)
    panels = {"rq-kmeans": built["rq-kmeans"].ids, "collaborative": built["collaborative"].ids}
    panels["rq-kmeans, shuffled"] = built["rq-kmeans"].ids.shuffled(np.random.default_rng(0))
    pictures = {
        "item-ids-clusters": draw_clusters(flat(vectors), panels),
        "item-ids-use": draw_use(built, ["rq-kmeans", "rq-kmeans, balanced", "rq-vae", "collaborative", "attributes"]),
        "item-ids-neighbours": draw_neighbours(built),
    }
    for name, picture in pictures.items():
        (folder / f"{name}.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    """Print the figures, or draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="draw into this folder instead")
    folder = parser.parse_args().pictures
    if folder is not None:
        draw(folder)
        return
    for name, built in build_all(*movielens()).items():
        print(json.dumps(line(name, built)), flush=True)
    print(json.dumps(timing()), flush=True)


if __name__ == "__main__":
    main()
