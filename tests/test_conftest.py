"""The guards of ``conftest.py`` work."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from tests.conftest import NetworkForbidden


@pytest.mark.parametrize("host", ["198.51.100.7", "example.org", "2001:db8::1"])
def test_the_world_is_out_of_reach(host: str, no_network: list[str]) -> None:
    with pytest.raises(NetworkForbidden):
        socket.create_connection((host, 80), timeout=0.1)
    with pytest.raises(NetworkForbidden), socket.socket() as s:
        s.connect_ex((host, 80))
    assert len(no_network) == 2  # an attempt that somebody swallows fails the test all the same
    no_network.clear()


def test_clients_cannot_swallow_the_refusal(no_network: list[str]) -> None:
    with pytest.raises(NetworkForbidden):
        urllib.request.urlopen("http://example.org/", timeout=0.1)
    no_network.clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_works(host: str) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection((host, server.getsockname()[1]), timeout=5) as client,
    ):
        assert client.getpeername()[0] == "127.0.0.1"
