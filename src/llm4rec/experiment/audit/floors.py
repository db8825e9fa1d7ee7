"""Is every system above the rules that anybody would try first?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from llm4rec.experiment.audit.finding import Finding, Verdict
from llm4rec.experiment.audit.subject import Subject
from llm4rec.metrics import evaluate, holm, paired_test

_ALPHA = 0.05


def floors(subject: Subject) -> Iterator[Finding]:
    """The primary metric of each system less that of the best rule, with paired tests against all of them.

    The rules are popularity, what most often came right after the last item (first-order Markov), and, where events
    have real times, what is popular at the moment of the question, with a half-life chosen on validation cases.
    """
    bench, served = subject.bench, subject.served
    if bench is None or not served:
        yield Finding("floors", "", "above the rules", None, "not applicable", subject.unserved)
        return
    primary = bench.primary
    fitted = bench.floors(subject.split)
    question = bench.question(subject.split, {})
    rules = {
        n: evaluate(bench.lists(c, question.cases, question.exclude), question.cases.truth, [primary])[primary]
        for n, c in fitted.items()
    }
    systems = {n: s.values[primary] for n, s in served.items() if not bench.spec.systems[n].control}
    against = {(n, r): rules[r][served[n].numbers] for n in systems for r in rules}  # on the cases that both have
    own = {n: [r for r in rules if np.array_equal(against[n, r], systems[n])] for n in systems}
    pairs = [(n, r) for n in systems for r in rules if not own[n]]
    found = [paired_test(systems[n], against[n, r], rng=subject.rng()) for n, r in pairs]
    adjusted = holm([t.p for t in found])
    tests = {p: (t, float(q)) for p, t, q in zip(pairs, found, adjusted, strict=True)}
    for name, values in systems.items():
        mean, means = float(values.mean()), {r: float(against[name, r].mean()) for r in rules}
        best = max(means, key=lambda r: means[r])
        details: dict[str, Any] = {"mean": mean, "rules": means, "cases": len(values)}
        if own[name]:
            verdict: Verdict = "not applicable"
            line = f"is the rule of {' and '.join(own[name])} itself; the best rule has {means[best]:.4f}"
        else:
            details["p_holm"] = {r: tests[name, r][1] for r in rules}
            below = [r for r in rules if not (tests[name, r][0].difference > 0 and tests[name, r][1] < _ALPHA)]
            verdict = "warning" if below else "ok"
            told = ", ".join(f"{r} {means[r]:.4f} (p = {tests[name, r][1]:.3f})" for r in rules)
            line = f"{mean:.4f} against {told}"
            line += f": not clearly above {' and '.join(below)}; tune it, or look for a fault" if below else ""
        yield Finding("floors", name, f"{primary} above the best rule", mean - means[best], verdict, line, details)
