"""What only a card can show: `make check-gpu`."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from serving.client import AsyncDigitClient
from serving.pixels import Images
from serving.provider import CUDA
from serving.session import Session
from serving.versions.manifest import Version
from tests.programs import server_process
from tests.serving.conftest import Publisher, has_cuda
from tests.serving.test_soak import swap_to

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_cuda(), reason="needs an NVIDIA card, CUDA 13 and cuDNN 9"),
]


def test_the_known_answers_come_out_on_cuda(versions: Mapping[int, Version]) -> None:
    """Every node on CUDA, within the same bound as on the CPU."""
    session = Session(versions[1], provider=CUDA, threads=1)
    assert session.provider == CUDA
    session.check_known_answers(versions[1].known_answers)


async def test_the_server_answers_on_cuda_and_swaps(
    publisher: Publisher, tmp_path: Path, transport: str, images: Images, sessions: Mapping[int, Session]
) -> None:
    """Also inside Envoy: calls of many sizes at once, before, during and after a swap; then it drains."""
    publisher.publish(1)
    options = ("--transport", transport, "--provider", "cuda", "--poll-ms", "20", "--max-queue-ms", "5000")
    with server_process(publisher.root, tmp_path / "log", *options) as server:
        async with AsyncDigitClient(server.address) as client:

            async def call(count: int) -> None:
                answer = await client.classify(images[:count])
                assert answer.provider == CUDA
                expected = sessions[answer.model_version].run(images[:count]).probabilities
                np.testing.assert_allclose(answer.probabilities, expected, atol=1e-4)

            for version in (2, 1, 2):
                calls = [asyncio.create_task(call(count)) for count in (1, 2, 7, 32, 100, 256, 1000) * 5]
                await swap_to(publisher, client, version)
                await asyncio.gather(*calls)
        assert server.terminate() == 0
