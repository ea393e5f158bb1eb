# SPDX-License-Identifier: MIT
# The other peer: the Python original's way of coalescing on asyncio, written
# anew in as few steps as it needs: a dictionary of futures, each caller awaiting
# a future of its own that is resolved from the first call's. `peer.py WORK`
# prints the nanoseconds of one operation.

import asyncio
import sys
import time


def memoize_concurrent(func):
    in_flight = {}

    async def call(key, waiters):
        try:
            result = await func(key)
        except BaseException as error:
            del in_flight[key]
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(error)
        else:
            del in_flight[key]
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(result)

    async def cached(*args, **kwargs):
        key = (args, tuple(kwargs.items()))
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        waiters = in_flight.get(key)
        if waiters is None:
            waiters = in_flight[key] = []
            loop.create_task(call(key, waiters))
        waiters.append(waiter)
        return await waiter

    return cached


async def join_leave():
    count = 100_000
    keys = [("cc -O2 -c some/directory/of/sources/file_%09d" % i)[:50] for i in range(1000)]
    hold = asyncio.Event()

    async def held(key):
        await hold.wait()

    fetch = memoize_concurrent(held)
    live = [asyncio.create_task(fetch(key)) for key in keys]
    await asyncio.sleep(0)
    begin = time.perf_counter_ns()
    # A requester is a task, as in a server: it joins when it first runs and leaves when it is cancelled.
    for first in range(0, count, 1000):
        tasks = [asyncio.create_task(fetch(keys[i % 1000])) for i in range(first, first + 1000)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    passed = time.perf_counter_ns() - begin
    print("%.2f" % (passed / count))
    hold.set()
    await asyncio.gather(*live)


asyncio.run({"join_leave": join_leave}[sys.argv[1]]())
