"""Reading logs and catalogues, the rules they pass, named sets, and splits."""

from llm4rec.data.clicks import as_clicks
from llm4rec.data.loading import DataConfig, catalogue_order, load, load_set, make, read
from llm4rec.data.log import Log
from llm4rec.data.sets import SetInfo, sets
from llm4rec.data.splits import SplitConfig, make_split, make_training
from llm4rec.data.summary import describe
from llm4rec.data.world import World, WorldConfig

__all__ = [
    "DataConfig", "Log", "SetInfo", "SplitConfig", "World", "WorldConfig", "as_clicks", "catalogue_order", "describe", "load",
    "load_set", "make", "make_split", "make_training", "read", "sets",
]  # fmt: skip
