"""Which addresses a public channel may reach: none that stands for the machine itself or its network."""

import asyncio

import pytest

from relay.channels import upstream
from relay.channels.routing import Candidate, Timeouts
from relay.errors import Cause, RelayError

PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "0.0.0.0", "100.64.0.1", "169.254.169.254",
    "192.0.0.8", "192.88.99.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::",
    "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::127.0.0.1",
    "2002:7f00:1::", "2001:0:4136:e378:8000:63bf:80ff:fffe", "fe80::1", "fe80::1%1", "fec0::1", "fc00::1",
    "ff0e::1", "5f00::1", "100::1", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_of_the_open_internet_is_not_public(address: str) -> None:
    assert not upstream.is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_an_address_of_the_open_internet_is_public(address: str) -> None:
    assert upstream.is_public(address)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "127.0.0.1.", "[::127.0.0.1]", "[::1]"])
def test_no_spelling_of_the_machine_s_own_address_is_connected_to(host: str) -> None:
    candidate = Candidate("c", "openai", f"http://{host}:9/v1", "m", 0, 1, "cancel", False, Timeouts(), ())

    async def scene() -> RelayError:
        try:
            await upstream.post(candidate, None, "/chat/completions", b"{}", stream=False)
        except RelayError as error:
            return error
        finally:
            await upstream.close()
        raise AssertionError("connected")

    error = asyncio.run(scene())
    assert (error.cause, error.message) == (Cause.UPSTREAM_ERROR, "The channel's address is not allowed.")
