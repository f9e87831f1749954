"""The outlet: whoever reads the upstream never waits for the client, and what was put in goes out in order, once."""

import asyncio
from typing import Any

from relay.http import PIECE, Outlet


class Connection:
    """A server's `send` whose buffer is full until `open` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.got: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        await self.open.wait()
        self.got.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)


def test_what_a_connection_takes_at_once_needs_no_task_and_its_head_goes_with_the_first_bytes() -> None:
    async def scene() -> None:
        connection = Connection()
        connection.open.set()
        outlet = Outlet(connection.send)
        outlet.head(200, [(b"a", b"b")])
        assert connection.got == []
        outlet.put(b"one")
        outlet.put(b"two")
        outlet.end()
        assert not outlet.behind
        assert [message["type"] for message in connection.got] == ["http.response.start", *["http.response.body"] * 3]
        assert [message.get("more_body", False) for message in connection.got[1:]] == [True, True, False]
        assert connection.body == b"onetwo"

    asyncio.run(scene())


def test_a_client_that_stands_still_makes_nobody_wait_and_gets_everything_in_order_later() -> None:
    async def scene() -> None:
        connection = Connection()
        outlet = Outlet(connection.send)
        outlet.head(200, [])
        for number in range(50):
            outlet.put(b"%d," % number)
        outlet.end(b"end")
        assert (outlet.behind, connection.got) == (True, [])
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, connection.open.set)
        assert await outlet.caught_up(within=5)
        assert not outlet.behind
        assert connection.body == b"".join(b"%d," % number for number in range(50)) + b"end"
        outlet.put(b"more")
        assert connection.body.endswith(b"endmore")

    asyncio.run(scene())


def test_a_client_that_never_reads_again_is_given_up() -> None:
    async def scene() -> None:
        connection = Connection()
        outlet = Outlet(connection.send)
        outlet.put(b"one")
        outlet.put(b"two")
        await asyncio.wait_for(outlet.flush(within=0.05), 5)
        await asyncio.sleep(0)
        connection.open.set()
        await asyncio.sleep(0.02)
        assert connection.got == []

    asyncio.run(scene())


def test_a_client_that_takes_a_long_event_slowly_is_waited_for_as_long_as_it_goes_on() -> None:
    async def scene() -> None:
        connection = Connection()
        outlet = Outlet(connection.send)
        outlet.head(200, [])
        outlet.put(b"x" * (5 * PIECE + 1))
        outlet.end(b"end")
        flushed = asyncio.ensure_future(outlet.flush(within=0.2))
        for _ in range(10):
            await asyncio.sleep(0.05)
            connection.open.set()
            await asyncio.sleep(0)
            connection.open.clear()
        await asyncio.wait_for(flushed, 5)
        assert connection.body == b"x" * (5 * PIECE + 1) + b"end"

    asyncio.run(scene())


def test_it_remembers_what_was_put_in_up_to_its_limit_and_only_where_it_was_asked_to() -> None:
    async def scene() -> None:
        connection = Connection()
        connection.open.set()
        outlet = Outlet(connection.send)
        outlet.put(b"before")
        assert outlet.kept() is None
        outlet.keep(most=10)
        outlet.put(b"12345")
        assert outlet.kept(b"!", b"?") == b"12345!?"
        outlet.put(b"67890")
        assert outlet.kept() == b"1234567890"
        outlet.put(b"x")
        assert outlet.kept(b"!") is None
        assert connection.body == b"before1234567890x"

    asyncio.run(scene())
