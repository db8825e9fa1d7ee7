"""Models of other libraries beside ours: each runs in an environment of its own and exchanges files."""

from llm4rec.peers.environments import HOME, PEERS, Library, PeerError, home, installed, interpreter
from llm4rec.peers.peer import Peer, PeerConfig

__all__ = ["HOME", "PEERS", "Library", "Peer", "PeerConfig", "PeerError", "home", "installed", "interpreter"]
