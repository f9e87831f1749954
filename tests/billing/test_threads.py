"""The thread that SQLite's batches are written in: one after another, told to whoever still waits, no longer than it is
wanted."""

import asyncio
import subprocess
import sys
import threading

from billing.threads import SerialThread
from tests.kit.ports import eventually


def named(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == name]


def test_a_thread_does_one_thing_after_another_and_says_what_came_of_each() -> None:
    done: list[int] = []

    def work(number: int) -> int:
        if number == 2:
            raise LookupError(number)
        done.append(number)
        return -number

    async def scene() -> list[int | BaseException]:
        thread = SerialThread("one after another")
        assert len(named("one after another")) == 1
        return await asyncio.gather(*(thread.run(work, number) for number in range(5)), return_exceptions=True)

    first, second, third, *rest = asyncio.run(scene())
    assert (first, second, rest) == (0, -1, [-3, -4])
    assert isinstance(third, LookupError)
    assert done == [0, 1, 3, 4]
    eventually(lambda: not named("one after another"))


def test_what_a_thread_was_given_is_done_though_nobody_waits_or_the_loop_is_closed() -> None:
    done: list[str] = []
    go = threading.Event()

    async def scene(thread: SerialThread) -> None:
        thread.run(go.wait).cancel()
        thread.run(done.append, "left").cancel()
        _ = thread.run(done.append, "closed")

    thread = SerialThread("alone")
    asyncio.run(scene(thread))
    go.set()
    thread.end()
    eventually(lambda: not named("alone"))
    assert done == ["left", "closed"]


def test_a_thread_whose_waiter_left_meanwhile_tells_nobody() -> None:
    async def scene() -> int:
        thread = SerialThread("told")
        started, go = threading.Event(), threading.Event()

        def wait() -> None:
            started.set()
            go.wait()

        left = thread.run(wait)
        await asyncio.to_thread(started.wait)
        left.cancel()
        go.set()
        return await thread.run(lambda: 5)

    assert asyncio.run(scene()) == 5


def test_a_process_ends_though_its_thread_is_at_work() -> None:
    program = (
        "import asyncio, time\n"
        "from billing.threads import SerialThread\n"
        "async def main():\n"
        "    thread = SerialThread('long')\n"
        "    thread.run(time.sleep, 60)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)
