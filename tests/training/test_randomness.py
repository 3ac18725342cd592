"""Streams of random numbers, and the global generator that is left alone."""

import numpy as np
import pytest
import torch

from sepconc.training.randomness import RandomStreams, derived_seed, permutation

CPU = torch.device("cpu")


def draws(streams):
    """A few numbers of every stream."""
    with streams.noise():
        noise = torch.rand(3)
    return [torch.rand(3, generator=g) for g in (streams.init, streams.order, streams.augmentation)] + [noise]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_the_seed_decides():
    assert equal(draws(RandomStreams(3, CPU)), draws(RandomStreams(3, CPU)))
    assert not any(
        torch.equal(a, b) for a, b in zip(draws(RandomStreams(3, CPU)), draws(RandomStreams(4, CPU)), strict=True)
    )


def test_every_use_has_numbers_of_its_own():
    found = draws(RandomStreams(0, CPU))
    assert not any(torch.equal(found[i], found[j]) for i in range(4) for j in range(i))


def test_the_global_generators_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    draws(RandomStreams(0, CPU))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_noise_is_what_a_network_draws_and_does_not_depend_on_the_global_state():
    first, second = RandomStreams(0, CPU), RandomStreams(0, CPU)
    dropout, x = torch.nn.Dropout(0.5), torch.ones(50)
    with first.noise():
        expected = [dropout(x), dropout(x)]
    torch.rand(7)
    with second.noise():
        start = dropout(x)
    torch.rand(7)
    with second.noise():
        assert equal([start, dropout(x)], expected)  # one stream, however often it is entered


def test_noise_goes_on_after_an_error():
    streams, other = RandomStreams(0, CPU), RandomStreams(0, CPU)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError), streams.noise():
        torch.rand(5) @ torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    with other.noise():
        torch.rand(9)
    assert equal(draws(streams), draws(other))


def test_states_restore(tmp_path):
    streams = RandomStreams(0, CPU)
    draws(streams)
    torch.save(streams.state_dict(), tmp_path / "state")
    expected = draws(streams)[1:]
    other = RandomStreams(0, CPU)
    other.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert equal(draws(other)[1:], expected)  # the initial weights are drawn once, and not part of the state


def test_streams_of_another_device_keep_their_start():
    state = RandomStreams(0, CPU).state_dict()
    state["augmentation"] = {"cuda": state["augmentation"]["cpu"]}
    state["noise"]["cuda"] = state["noise"]["cpu"]
    streams = RandomStreams(0, CPU)
    streams.load_state_dict(state)
    assert equal(draws(streams), draws(RandomStreams(0, CPU)))


def test_seeds_of_epochs():
    streams = RandomStreams(0, CPU)
    seeds = [streams.epoch_seed(epoch) for epoch in range(20)]
    assert len(set(seeds)) == 20
    assert seeds == [RandomStreams(0, CPU).epoch_seed(epoch) for epoch in range(20)]
    assert streams.epoch_seed(1) != RandomStreams(1, CPU).epoch_seed(1)


def test_derived_seeds():
    seeds = {derived_seed(a, b) for a in range(10) for b in range(10)}
    assert len(seeds) == 100
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_permutation_is_drawn_from_the_state_it_is_given():
    generator = torch.Generator().manual_seed(0)
    state = generator.get_state()
    first = permutation(20, generator, state)
    torch.rand(3, generator=generator)
    assert np.array_equal(permutation(20, generator, state), first)
    assert sorted(first) == list(range(20))
    second = permutation(20, generator, generator.get_state())
    assert not np.array_equal(first, second)
