"""What the item IDs of a specification's generative systems are like, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from llm4rec.core import SpecError, did_you_mean
from llm4rec.data import load, make_split
from llm4rec.experiment.resources import EncoderResources
from llm4rec.experiment.spec import Spec
from llm4rec.features import item_vectors
from llm4rec.generative.ids import IdScheme, Scheme
from llm4rec.generative.ids.report import IDReport, inspect

#: Scheme name -> class.
SCHEMES: dict[str, type[Scheme]] = {scheme.model_fields["scheme"].default: scheme for scheme in get_args(IdScheme)}
#: Items that are shown with their IDs.
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Inspected:
    """One scheme, inspected.

    Attributes:
        name: of the systems that use it, or of the scheme.
        scheme: its parameters.
        report: what was found.
        examples: (item, its ID as words) of the items with the most events.
    """

    name: str
    scheme: Scheme
    report: IDReport
    examples: tuple[tuple[str, str], ...]


def inspect_ids(spec: Spec, names: Sequence[str] = (), *, tell: Callable[[str], None]) -> list[Inspected]:
    """Build and inspect the IDs of every system that generates them, with the first seed.

    Nearness by text is that of the scheme's own encoder, or of the specification's first one.

    Args:
        spec: its data, split, encoders and systems.
        names: schemes by name, with their defaults, instead of those of the systems.

    Raises:
        SpecError: if no system has IDs, or there is no scheme of a name.
    """
    asked = _named(names) if names else _of_systems(spec)
    tell("reading data ...")
    split = make_split(load(spec.data), spec.split)
    train, encoders = split.train, EncoderResources(spec.encoder)
    seed, found = spec.experiment.seeds[0], []
    for name, scheme in asked:
        tell(f"{name}: giving IDs ...")
        encoder = scheme.open_encoder(encoders)
        ids = scheme.build(train, encoder=encoder, rng=np.random.default_rng(seed))
        tell(f"{name}: looking at IDs ...")
        reader = encoder if encoder is not None else encoders.encoder(next(iter(spec.encoder))) if spec.encoder else None
        template: dict[str, Any] = {"template": t} if encoder is not None and (t := getattr(scheme, "template", None)) else {}
        vectors = None if reader is None else item_vectors(train, reader, **template)
        report = inspect(ids, train, vectors, rng=np.random.default_rng(seed))
        words = ids.written()
        titles = train.item_table["title"] if "title" in train.item_table.columns else train.items.ids
        most = np.argsort(-train.item_counts, kind="stable")[:_SHOWN].tolist()
        examples = tuple((str(titles[i]), " ".join(words[t] for t in ids.codes[i])) for i in most)
        found.append(Inspected(name, scheme, report, examples))
    return found


def _named(names: Sequence[str]) -> list[tuple[str, Scheme]]:
    for name in names:
        if name not in SCHEMES:
            raise SpecError(f"unknown scheme {name!r}", where="ids", todo=did_you_mean(name, SCHEMES))
    return [(name, SCHEMES[name].model_validate({})) for name in names]


def _of_systems(spec: Spec) -> list[tuple[str, Scheme]]:
    """Return the different schemes of the systems, under the names of all that use them."""
    found: dict[Scheme, list[str]] = {}
    for name, system in spec.systems.items():
        for part in system.parts:
            scheme = getattr(part.config, "ids", None)
            if isinstance(scheme, Scheme):
                found.setdefault(scheme, []).append(name)
    if not found:
        raise SpecError("no system generates item IDs", where="systems", todo=f"name a scheme: --scheme {'|'.join(SCHEMES)}")
    return [(", ".join(names), scheme) for scheme, names in found.items()]
