"""The server's own figures, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64)


class Figures:
    """Counters of one server; labels are routes, systems and reasons, never ids or words of users."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "llm4rec_requests", "Requests by route, method and status.", ("route", "method", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "llm4rec_request_seconds", "Seconds of a request.", ("route",), buckets=_SECONDS, registry=self.registry
        )
        self.under_way = Gauge("llm4rec_requests_under_way", "Requests being answered.", registry=self.registry)
        self.batches = Histogram(
            "llm4rec_batch_size", "Requests answered by one call of a system.", buckets=_SIZES, registry=self.registry
        )
        self.degraded = Counter(
            "llm4rec_degraded", "Answers without the language model that was asked for.", ("system", "reason"),
            registry=self.registry,
        )  # fmt: skip
        self.events = Counter("llm4rec_events", "Interactions that were acknowledged.", registry=self.registry)
        self.items = Gauge("llm4rec_items", "Items of the catalogue, new ones included.", registry=self.registry)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return bytes(generate_latest(self.registry))
