"""Swaps between versions that take other images, while calls for both come in."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from serving.client import AsyncDigitClient
from serving.errors import InvalidRequestError
from serving.pixels import Images
from serving.session import Session
from tests.serving.conftest import Publisher, Serve, is_right


async def follow(client: AsyncDigitClient, version: int) -> None:
    """Wait until this version answers."""
    while (await client.model()).version != version:
        await asyncio.sleep(0.01)


async def swap_under_load(
    serve: Serve,
    publisher: Publisher,
    sessions: Mapping[int, Session],
    calls: Sequence[tuple[int, Images]],
    order: Sequence[int],
) -> None:
    """Publish the versions in this order under one caller for each of `calls`: a version, and images that it takes.

    Every answer must be right and of that version, or say how many bytes were expected; each caller must meet both.
    """
    publisher.publish(1)
    stop = asyncio.Event()

    async def call_on(client: AsyncDigitClient, version: int, images: Images) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        while not stop.is_set():
            try:
                answer = await client.classify(images)
            except InvalidRequestError as error:
                assert f"came {images.size} bytes, expected" in error.message
                outcomes["told"] += 1
            else:
                assert answer.model_version == version
                assert is_right(answer, images, sessions)
                outcomes["answered"] += 1
        return outcomes

    async with asyncio.timeout(60), serve() as running:
        callers = [asyncio.create_task(call_on(running.client, version, images)) for version, images in calls]
        for version in order:
            publisher.publish(version)
            await follow(running.client, version)
            await asyncio.sleep(0.1)
        stop.set()
        outcomes = await asyncio.gather(*callers)
    assert all(outcome["answered"] and outcome["told"] for outcome in outcomes)
