"""The small part of MNIST that the pipeline's tests use."""

from tests.pipeline.conftest import mnist, one_thread, small_dataset, small_folder

__all__ = ["mnist", "one_thread", "small_dataset", "small_folder"]
