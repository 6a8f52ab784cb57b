"""A swap to a version of another image size, while calls wait and arrive."""

import asyncio
from collections.abc import Mapping

from serving.errors import InvalidRequestError
from serving.pixels import Images
from serving.session import Session
from tests.serving.conftest import Publisher, Serve, is_right
from tests.serving.swaps import follow, swap_under_load

SIZES = {1: 28, 3: 24}
"""Rows and columns of an image, by version."""


async def test_calls_that_wait_are_answered_by_the_version_they_were_checked_against(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """The queue is long, the new version takes over, and none of those that wait is lost."""
    publisher.publish(1)
    async with serve(concurrent_runs=1, max_queue_images=2**17, max_queue_ms=60_000) as running:
        waiting = [asyncio.create_task(running.client.classify(images, timeout_s=60)) for _ in range(60)]
        while (await running.client.model()).version == 1 and not any(call.done() for call in waiting):
            await asyncio.sleep(0.01)
        publisher.publish(3)
        await follow(running.client, 3)
        assert not all(call.done() for call in waiting)
        small = await running.client.classify(images[:5, 2:26, 2:26])
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert small.model_version == 3
    assert is_right(small, images[:5, 2:26, 2:26], sessions)
    late = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(error) for error in late} <= {InvalidRequestError}  # those that arrived after the swap
    assert len(late) < len(answers)
    assert all(is_right(answer, images, sessions) for answer in answers if not isinstance(answer, BaseException))


async def test_calls_that_arrive_get_an_answer_or_are_told_the_size(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """Callers of both sizes through six swaps: right answers of the version of their size, or the expected bytes."""
    sized = {version: crop(images, size) for version, size in SIZES.items()}
    calls = [(version, mine[:image_count]) for version, mine in sized.items() for image_count in (1, 5, 20, 300)]
    await swap_under_load(serve, publisher, sessions, calls, (3, 1, 3, 1, 3, 1))


def crop(images: Images, size: int) -> Images:
    """The middle of the images, size x size."""
    margin = (images.shape[1] - size) // 2
    return images[:, margin : margin + size, margin : margin + size]


async def test_both_sizes_are_served_at_once_by_number(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """Each call names the version of its size; batches never mix them."""
    publisher.publish(1)
    publisher.publish(3)
    small = images[:, 2:26, 2:26]
    async with serve(versions="current,previous") as running:
        calls = [
            running.client.classify(chosen[index : index + 3], model_version=version)
            for index in range(60)
            for version, chosen in ((1, images), (3, small))
        ]
        answers = await asyncio.gather(*calls)
    for index, (large, little) in enumerate(zip(answers[::2], answers[1::2], strict=True)):
        assert is_right(large, images[index : index + 3], sessions)
        assert is_right(little, small[index : index + 3], sessions)
