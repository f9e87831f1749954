"""Which addresses a public channel and the fetching of URLs may reach: none that stands for the machine itself or its
network, however it is spelled."""

import asyncio
import ipaddress
import unicodedata
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

import aiohttp
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from yarl import URL

from relay.channels import dress, egress, upstream
from relay.channels.routing import Candidate, Timeouts
from relay.errors import Cause, RelayError
from tests.kit import scripts
from tests.kit.upstream import Upstream

T = TypeVar("T")

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


# An ASCII character and all others that are it to IDNA (UTS 46): `1` is `\u2460` too, `.` is `\u3002` too.
ALIKE: dict[str, list[str]] = {
    ".": [".", "\N{IDEOGRAPHIC FULL STOP}", "\N{FULLWIDTH FULL STOP}", "\N{HALFWIDTH IDEOGRAPHIC FULL STOP}"]
}
for _code in range(0x80, 0x110000):
    if len(_plain := unicodedata.normalize("NFKC", chr(_code)).lower()) == 1 and _plain in "0123456789abcdef:":
        ALIKE.setdefault(_plain, [_plain]).append(chr(_code))

SPELLINGS = [
    "127.1", "2130706433", "0177.0.0.1", "0x7f.1", "127.0.0.1.", "127.0.0.1..", ".127.0.0.1", "127.0.0.1%1",
    "[::127.0.0.1]", "[::1]", "[::1%251]", "127\u30020\u30020\u30021", "127\uff0e0\uff0e0\uff0e1",
    "127\uff610\uff610\uff611", "\u246027.0.0\u30021", "\uff11\uff12\uff17.1", "[::\uff11]",
    "[::ffff:127\u30020\u30020\u30021]", "localhost", "\u24dbocalhost", "localhost\u3002",
]  # fmt: skip


@pytest.fixture
def machine() -> Iterator[Upstream]:
    """A server on the loopback address that nobody may reach."""
    server = Upstream(scripts.body(b"INTERNAL")).start()
    yield server
    server.stop()


def alone(scene: Awaitable[T]) -> T:
    """What the scene comes to in an event loop of its own, whose sessions are closed with it."""

    async def play() -> T:
        try:
            return await scene
        finally:
            await upstream.close()

    return asyncio.run(play())


def call(base: str, *, proxy: str = "") -> Awaitable[upstream.Reply]:
    """A call of a public channel."""
    dressed = dress.Dress(proxy=proxy)
    candidate = Candidate("c", "openai", base, "m", 0, 1, "cancel", False, Timeouts(), (), dress=dressed)
    return upstream.post(candidate, None, "/chat/completions", b"{}", stream=False)


async def refusal(asked: Awaitable[Any]) -> RelayError:
    with pytest.raises(RelayError) as caught:
        await asked
    return caught.value


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0177.0.0.1", "127.0.0.1.", "[::127.0.0.1]", "[::1]"])
def test_a_channel_with_a_private_address_says_so(host: str) -> None:
    error = alone(refusal(call(f"http://{host}:9/v1")))
    assert (error.cause, error.message) == (Cause.UPSTREAM_ERROR, "The channel's address is not allowed.")


@pytest.mark.parametrize("proxied", [False, True], ids=["address", "proxy"])
@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_the_machine_s_own_address_is_connected_to(machine: Upstream, host: str, proxied: bool) -> None:
    there = f"http://{host}:{machine.port}"
    asked = call("http://1.1.1.1/v1", proxy=there) if proxied else call(f"{there}/v1")
    assert alone(refusal(asked)).cause is Cause.UPSTREAM_ERROR
    assert machine.connections == 0


@pytest.mark.parametrize(
    "host", [*SPELLINGS, "1.1.1.1\\@127.0.0.1", "u@127.0.0.1", "127%2e0%2e0%2e1", "127.0.0.1\u200b"]
)
def test_no_spelling_of_the_machine_s_own_address_is_fetched(machine: Upstream, host: str) -> None:
    error = alone(refusal(egress.fetch(f"http://{host}:{machine.port}/secret.txt")))
    assert error.cause == Cause.INVALID_PARAMETER
    assert machine.connections == 0


@pytest.mark.parametrize("host", SPELLINGS)
@pytest.mark.parametrize("form", ["http://{}:{}/secret.txt", "//{}:{}/secret.txt"])
def test_no_redirect_leads_to_the_machine_s_own_address(machine: Upstream, settings: Any, host: str, form: str) -> None:
    location = form.format(host, machine.port).encode().decode("latin-1")  # as it goes over the wire
    named = Upstream(scripts.body(b"", status=302, headers={"Location": location})).start()
    settings.FETCH_FROM = [f"127.0.0.1:{named.port}"]
    error = alone(refusal(egress.fetch(f"http://127.0.0.1:{named.port}/")))
    named.stop()
    assert error.cause == Cause.INVALID_PARAMETER
    assert (named.connections, machine.connections) == (1, 0)


def test_a_server_that_may_be_private_is_fetched_from_and_redirects_are_followed(
    machine: Upstream, settings: Any
) -> None:
    first = Upstream(scripts.body(b"", status=302, headers={"Location": f"//127.0.0.1:{machine.port}/x?y"})).start()
    settings.FETCH_FROM = [f"127.0.0.1:{first.port}", f"127.0.0.1:{machine.port}"]
    assert alone(egress.fetch(f"http://127.0.0.1:{first.port}/")).data == b"INTERNAL"
    first.stop()
    assert [exchange.target for exchange in machine.exchanges] == ["/x?y"]


@pytest.mark.parametrize("host", SPELLINGS)
def test_a_session_for_public_addresses_opens_no_socket_to_another_whoever_asks(machine: Upstream, host: str) -> None:
    """Nothing is vetted here before the connection is opened."""

    async def scene() -> None:
        with pytest.raises((aiohttp.ClientError, OSError, ValueError)):
            await upstream.sessions.get(private=False).get(f"http://{host}:{machine.port}/secret.txt")

    alone(scene())
    assert machine.connections == 0


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """A private address as no sober person writes it."""
    address = draw(st.sampled_from([each for each in PRIVATE if "%" not in each]))
    written = "".join(draw(st.sampled_from(ALIKE.get(each, [each]))) for each in address)
    return f"[{written}]" if ":" in address else written


@given(spelled(), st.sampled_from(["http", "https"]))
def test_whatever_becomes_a_private_address_is_refused(host: str, scheme: str) -> None:
    try:
        url = URL(f"{scheme}://{host}/x")
        ipaddress.ip_address(url.raw_host or "")
    except ValueError:
        assume(False)  # no URL, or a name, which the resolver vets
    assert not upstream.may_be_public(url)
    assert "private address" in alone(refusal(egress.fetch(f"{scheme}://{host}/x"))).message
    with pytest.raises(egress.Undeliverable):
        egress.check(f"https://{host}/x")
