"""Pinned downloads: for each asset its sources in order, the sha256 of each file, licence and citation."""

from llm4rec.assets.catalog import ASSETS
from llm4rec.assets.source import Asset, Files, Source, Wheel, Zip
from llm4rec.assets.store import fetch, folder, home, is_cached

__all__ = ["ASSETS", "Asset", "Files", "Source", "Wheel", "Zip", "fetch", "folder", "home", "is_cached"]
