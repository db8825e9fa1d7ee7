"""Retrievers, fusion, rankers and an explainer in one system that keeps a trace."""

from llm4rec.pipeline.config import PipelineConfig
from llm4rec.pipeline.controller import Controller
from llm4rec.pipeline.fusion import fuse
from llm4rec.pipeline.pipeline import Pipeline
from llm4rec.pipeline.rerank import rerank
from llm4rec.pipeline.trace import Addition, StageRecord, Step, Trace

__all__ = ["Addition", "Controller", "Pipeline", "PipelineConfig", "StageRecord", "Step", "Trace", "fuse", "rerank"]
