"""Reading logs and catalogues, the rules they pass, named sets, and splits."""

from llm4rec.data.loading import DataConfig, load, load_set, read
from llm4rec.data.log import Log
from llm4rec.data.splits import SplitConfig, make_split

__all__ = ["DataConfig", "Log", "SplitConfig", "load", "load_set", "make_split", "read"]
