"""Fits that a crew shares: the bytes are those of one process, whatever its size."""

from threading import Barrier, Thread

import pytest
import torch

from lpcompress.factor.choice import choose
from lpcompress.factor.problem import Settings


class Threads:
    """Two members of a crew, in threads of one process."""

    def __init__(self):
        self.barrier, self.found, self.counts = Barrier(2, timeout=60), {}, [0, 0]

    def member(self, rank):
        threads = self

        class Member:
            def share(self, costs, work):
                for number in range(rank, len(costs), 2):
                    threads.found[number] = work(number)
                    threads.counts[rank] += 1
                threads.barrier.wait()
                results = [threads.found[number] for number in range(len(costs))]
                threads.barrier.wait()
                return iter(results)

        return Member()

    def run(self, fit):
        """Return what `fit` returns in both members."""
        results = [None, None]

        def work(rank):
            results[rank] = fit(self.member(rank))

        members = [Thread(target=work, args=(rank,)) for rank in range(2)]
        for each in members:
            each.start()
        for each in members:
            each.join()
        return results


@pytest.mark.parametrize("rows", [60, 2700])  # fewer rows than columns in a cluster, and several blocks of rows
def test_two_members_give_the_bytes_of_one(rows):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(rows, 40, generator=generator) * 0.9 ** torch.arange(40)
    matrix[::3] = matrix[::3].flip(1)
    threads = Threads()
    both = threads.run(lambda crew: choose(matrix, "adaptive", 0.6, Settings(crew=crew)).factorization.tensors())
    assert min(threads.counts) > 0
    for name, expected in choose(matrix, "adaptive", 0.6, Settings()).factorization.tensors().items():
        assert all(torch.equal(each[name], expected) for each in both), name
