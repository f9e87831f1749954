"""The relay's life in a server process: what starts before the first call and ends after the last."""

import asyncio
import gc
from typing import Any

from asgiref.sync import sync_to_async

from billing import holds, ledger
from billing.group_commit import writer
from keys import limits
from relay import calibration, counting, snapshot, standing
from relay.channels import upstream

END_WITHIN = 5.0  # seconds that the last calls may take, and then what they have the ledger write

_tasks: list["asyncio.Task[Any]"] = []


async def start() -> None:
    """Loads the snapshot and starts what keeps it, and the leases of open holds, fresh."""
    await sync_to_async(snapshot.refresh, thread_sensitive=False)()
    await sync_to_async(ledger.revenue_account, thread_sensitive=False)()  # the first hold need not wait for it
    await limits.start()
    _tasks.append(asyncio.create_task(snapshot.keep_fresh()))
    _tasks.append(asyncio.create_task(holds.keep_leases()))
    _tasks.append(asyncio.create_task(calibration.keep()))
    _tasks.append(asyncio.create_task(standing.keep()))
    _tasks.append(asyncio.create_task(_warm()))
    # What is loaded by now stays for good: the collector need not look at it again with every thousand calls.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def _warm() -> None:
    """What counting needs, without keeping anybody waiting for the start."""
    await sync_to_async(counting.warm, thread_sensitive=False)(snapshot.current().upstream_models())


async def stop() -> None:
    """Lets calls end that were cancelled with the server: what they came to may have to be counted first. Then ends the
    background work, closes the connections, writes what the ledger still has to write."""
    await holds.all_closed(within=END_WITHIN)
    for task in _tasks:
        task.cancel()
    await asyncio.gather(*_tasks, return_exceptions=True)
    _tasks.clear()
    await standing.flush(at_once=True)
    await limits.stop()
    await upstream.close()
    await writer.close(within=END_WITHIN)
