"""The variables, arguments and prefixes of a rank."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ithaca.runtime.script.contract import (
    Meeting,
    Place,
    arguments,
    line_prefix,
    places,
    rank_environment,
)
from ithaca.runtime.script.spec import Command, Form, LaunchError, LaunchSpec, NodeRange

SPEC = LaunchSpec(Command(Form.SCRIPT, "train.py"), run_id="job7", max_restarts=3)
MEETING = Meeting("10.0.0.1", 4321)
PLACE = Place(rank=3, world=5, local_rank=1, local_world=3, node=1, nodes=2)


def test_ranks_are_numbered_through_nodes_of_unequal_size() -> None:
    first, second = places([2, 3])
    assert [p.rank for p in first] == [0, 1]
    assert [p.rank for p in second] == [2, 3, 4]
    assert second[1] == PLACE


def test_the_contract_is_on_top_of_the_shell() -> None:
    spec = replace(SPEC, environment={"RANK": "old", "HOME": "/home/me"})
    values = rank_environment(spec, PLACE, MEETING, 2, "/logs/error.json")
    assert values == {
        "HOME": "/home/me",
        "RANK": "3",
        "WORLD_SIZE": "5",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "3",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "2",
        "NODE_RANK": "1",
        "ROLE_NAME": "default",
        "ROLE_RANK": "3",
        "ROLE_WORLD_SIZE": "5",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "4321",
        "TORCHELASTIC_RESTART_COUNT": "2",
        "TORCHELASTIC_MAX_RESTARTS": "3",
        "TORCHELASTIC_RUN_ID": "job7",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCHELASTIC_ERROR_FILE": "/logs/error.json",
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGTERM,SIGINT",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "OMP_NUM_THREADS": "1",
    }


def test_the_shell_may_set_threads_and_a_single_rank_keeps_torchs_default() -> None:
    shell = {"OMP_NUM_THREADS": "8"}
    values = rank_environment(replace(SPEC, environment=shell), PLACE, MEETING, 0, "")
    assert values["OMP_NUM_THREADS"] == "8"
    alone = replace(PLACE, local_world=1)
    assert "OMP_NUM_THREADS" not in rank_environment(SPEC, alone, MEETING, 0, "")


def test_a_virtual_local_rank_sees_one_device() -> None:
    virtual = replace(SPEC, virtual_local_rank=True)
    values = rank_environment(virtual, PLACE, MEETING, 0, "")
    assert (values["LOCAL_RANK"], values["CUDA_VISIBLE_DEVICES"]) == ("0", "1")
    mapped = replace(virtual, environment={"CUDA_VISIBLE_DEVICES": "4, 6"})
    assert rank_environment(mapped, PLACE, MEETING, 0, "")["CUDA_VISIBLE_DEVICES"] == "6"
    short = replace(virtual, environment={"CUDA_VISIBLE_DEVICES": "4"})
    with pytest.raises(LaunchError, match="none for local rank 1"):
        rank_environment(short, PLACE, MEETING, 0, "")


@pytest.mark.parametrize(
    ("form", "head"),
    [
        (Form.SCRIPT, ("py", "-u", "x")),
        (Form.MODULE, ("py", "-u", "-m", "x")),
        (Form.PROGRAM, ("x",)),
        (Form.RUN_PATH, ("py", "-u", "-P", "run_path.py", "x")),
    ],
)
def test_the_command_of_each_form(form: Form, head: tuple[str, ...]) -> None:
    command = Command(form, "x", ("--rank=${local_rank}", "$HOME", "--"))
    made = arguments(command, "py", "run_path.py", PLACE)
    assert made == (*head, "--rank=1", "$HOME", "--")


def test_the_prefix_names_role_and_rank() -> None:
    assert line_prefix(SPEC, PLACE) == "[default3]:"
    custom = replace(SPEC, prefix="${role_name}/${local_rank} ", role="gpu")
    assert line_prefix(custom, PLACE) == "gpu/1 "


def test_node_ranges() -> None:
    assert NodeRange.parse("2:4") == NodeRange(2, 4)
    assert str(NodeRange.parse("3")) == "3"
    for text in ("0", "3:2", "a", "1:", ":2", "1:2:3", "-1"):
        with pytest.raises(ValueError, match="N or MIN:MAX"):
            NodeRange.parse(text)
