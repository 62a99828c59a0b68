"""Which nodes take part, with how many ranks, and what their agents ask of Ray."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ithaca.runtime.cluster import Machine
from ithaca.runtime.script.crew import agent_resources, choose, ranks_on
from ithaca.runtime.script.spec import Command, Form, LaunchError, LaunchSpec, NodeRange

SPEC = LaunchSpec(Command(Form.SCRIPT, "train.py"))
HERE = Machine("a", "10.0.0.1", "head", {"CPU": 2.0}, True)
BIG = Machine("b", "10.0.0.2", "big", {"CPU": 8.0, "GPU": 4.0}, False)
SLOTTED = Machine("c", "10.0.0.3", "slotted", {"CPU": 1.0, "slot": 6.0}, False)
ALL = (HERE, BIG, SLOTTED)


def test_an_own_cluster_stands_in_for_several_nodes() -> None:
    assert choose([HERE], replace(SPEC, nodes=NodeRange(3, 5)), True) == [HERE] * 3


def test_elsewhere_a_node_takes_part_once_if_it_fits() -> None:
    four = replace(SPEC, ranks_per_node=4, nodes=NodeRange(1, 3))
    assert choose(ALL, four, False) == [BIG, SLOTTED]
    assert choose(ALL, replace(SPEC, nodes=NodeRange(1, 2)), False) == [HERE, BIG]
    gpu = replace(SPEC, ranks_per_node="gpu", nodes=NodeRange(1, 3))
    assert choose(ALL, gpu, False) == [BIG]


def test_too_few_nodes_are_told_with_what_they_have() -> None:
    with pytest.raises(LaunchError, match=r"fits on 0 of the cluster's 3 nodes.*big: 8 CPU, 4 GPU"):
        choose(ALL, replace(SPEC, ranks_per_node=9), False)


def test_words_count_what_the_node_has() -> None:
    assert ranks_on(BIG, replace(SPEC, ranks_per_node="auto")) == 4
    assert ranks_on(HERE, replace(SPEC, ranks_per_node="auto")) == 2
    assert ranks_on(BIG, replace(SPEC, ranks_per_node="cpu")) == 8
    assert ranks_on(BIG, replace(SPEC, ranks_per_node=3)) == 3


def test_what_an_agent_asks_of_ray() -> None:
    assert agent_resources(HERE, 9, True) == {"num_cpus": 0, "resources": {"slot": 1}}
    assert agent_resources(HERE, 2, False) == {"num_cpus": 2}
    assert agent_resources(BIG, 4, False) == {"num_cpus": 4, "num_gpus": 4}
    assert agent_resources(BIG, 5, False) == {"num_cpus": 5}
    assert agent_resources(SLOTTED, 5, False) == {"num_cpus": 0, "resources": {"slot": 5}}
