"""Values over cuts: headers in the first step, known shapes afterwards, any form of value."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from ithaca.planner.program import Cargo, Op, Transfer
from ithaca.runtime.engine.courier import Courier, Form
from ithaca.runtime.engine.steps import Steps
from ithaca.runtime.engine.tags import HEADER, PARTS, Tags
from ithaca.runtime.engine.virtual import Address, VirtualCluster
from ithaca.runtime.workload import Value, tensors

CPU = torch.device("cpu")
TAGS = Tags(4, 4)
PAIR = (torch.randn(2, 3), torch.arange(4).reshape(2, 2), torch.randn(1, dtype=torch.bfloat16))


def same(one: Value, other: Value) -> bool:
    """Whether two values have the same form and bits."""
    return isinstance(one, Tensor) == isinstance(other, Tensor) and all(
        a.dtype == b.dtype and torch.equal(a, b)
        for a, b in zip(tensors(one), tensors(other), strict=True)
    )


class Two:
    """Worker 0 sends activations to worker 1, and gets gradients back."""

    def __init__(self, fixed: bool = True) -> None:
        self.messages: list[Address] = []
        self.cluster = VirtualCluster([0, 1], self._note)
        self.ends = [Courier(self.cluster.channel(w), TAGS, fixed, CPU) for w in (0, 1)]

    def _note(self, address: Address) -> float:
        self.messages.append(address)
        return 0.0

    def step(self, values: Sequence[Value], gradients: Sequence[Value] = ()) -> list[Value]:
        """One step; what worker 1 and then worker 0 received, by micro-batch."""
        lower, upper = self.ends
        self.messages.clear()

        def below() -> Steps[list[Value]]:
            for mb, value in enumerate(values):
                lower.send(Transfer(Op.SEND, Cargo.ACTIVATION, 2, mb, 1), value)
            back = [Transfer(Op.RECV, Cargo.GRADIENT, 2, mb, 1) for mb in range(len(gradients))]
            return (yield from self._receive(lower, back))

        def above() -> Steps[list[Value]]:
            up = [Transfer(Op.RECV, Cargo.ACTIVATION, 2, mb, 0) for mb in range(len(values))]
            found = yield from self._receive(upper, up)
            for mb, gradient in enumerate(gradients):
                upper.send(Transfer(Op.SEND, Cargo.GRADIENT, 2, mb, 0), gradient)
            return found

        results = self.cluster.run({0: below(), 1: above()})
        for end in self.ends:
            end.end_step()
        return [*results[1], *results[0]]

    def _receive(self, courier: Courier, actions: Sequence[Transfer]) -> Steps[list[Value]]:
        for action in actions:
            assert courier.can_post(action)
            courier.post(action)
        found = []
        for action in reversed(actions):
            assert courier.awaits(action.key)
            found.append((yield from courier.fetch(action.key)))
            assert not courier.awaits(action.key)
        return found[::-1]

    @property
    def headers(self) -> int:
        """Headers of the last step."""
        return sum(tag % PARTS == HEADER for _, _, tag in self.messages)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("value", [PAIR[0], PAIR, (PAIR[0],)], ids=["one", "three", "tuple of one"])
def test_values_arrive_in_their_form(value: Value, fixed: bool) -> None:
    two = Two(fixed)
    gradient: Value = value if isinstance(value, Tensor) else tuple(
        t for t in value if t.is_floating_point()
    )  # fmt: skip
    for number in range(3):
        found = two.step([value, value], [gradient, gradient])
        expected = [value, value, gradient, gradient]
        assert all(map(same, found, expected))
        assert two.headers == (2 if number == 0 or not fixed else 0)


@pytest.mark.parametrize("fixed", [True, False])
def test_what_came_late_comes_early_from_the_next_step_on(fixed: bool) -> None:
    two = Two(fixed)
    floating = (PAIR[0], PAIR[2])
    late = []
    for _ in range(3):
        two.step([PAIR, PAIR], [floating, floating])
        late.append([end.late_bytes for end in two.ends])
    sizes = [sum(t.nbytes for t in value) for value in (floating, PAIR)]
    assert late == ([sizes, [0, 0], [0, 0]] if fixed else [[0, 0]] * 3)


def test_gradients_have_no_headers_and_no_integers() -> None:
    form = Form.of(PAIR)
    assert form.gradient().parts == ((torch.float32, (2, 3)), (torch.bfloat16, (1,)))
    two = Two()
    two.step([PAIR], [(PAIR[0], PAIR[2])])
    assert len(two.messages) == 1 + 3 + 2


def test_lengths_may_vary_when_the_workload_says_so() -> None:
    two = Two(fixed=False)
    for size in (3, 5, 1):
        values = [torch.randn(size + mb, 2) for mb in range(3)]
        assert all(map(same, two.step(values, values), [*values, *values]))


def test_a_shape_that_changes_is_refused() -> None:
    two = Two()
    two.step([torch.zeros(2, 3)])
    with pytest.raises(ValueError, match=r"output of layer 1 changed .* fixed_shapes = False"):
        two.step([torch.zeros(2, 4)])


def test_a_dtype_that_changes_is_refused() -> None:
    two = Two()
    two.step([torch.zeros(2)])
    with pytest.raises(ValueError, match=r"torch.float32.* to .*torch.float64"):
        two.step([torch.zeros(2, dtype=torch.float64)])


def test_nothing_is_posted_before_its_shape_is_known() -> None:
    lower, upper = Two().ends
    back = Transfer(Op.RECV, Cargo.GRADIENT, 2, 0, 1)
    assert not lower.can_post(back)
    lower.send(Transfer(Op.SEND, Cargo.ACTIVATION, 2, 0, 1), PAIR)
    assert lower.can_post(back)
    assert upper.can_post(Transfer(Op.RECV, Cargo.ACTIVATION, 2, 0, 0)), "a header always fits"


@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(()),
        torch.zeros(0, 3, dtype=torch.bool),
        tuple(torch.zeros(1, 2, dtype=t) for t in (torch.float16, torch.int8, torch.float64)),
        tuple(torch.zeros(mb) for mb in range(HEADER)),
    ],
)
def test_headers_round_trip(value: Value) -> None:
    form = Form.of(value)
    assert Form.read(form.header()) == form


def test_too_much_for_a_header_is_refused() -> None:
    with pytest.raises(ValueError, match=f"at most {HEADER} tensors"):
        Form.of((torch.zeros(1),) * (HEADER + 1))
    with pytest.raises(ValueError, match="of few dimensions"):
        Form.of((torch.zeros((1,) * 20),) * 8)
