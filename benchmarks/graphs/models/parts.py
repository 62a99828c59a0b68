"""What the networks have in common: normalised perceptrons, and the head behind sums of graphs."""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.graphs.models.batch import FlatBatch, gathered


def perceptron(inputs: int, width: int) -> nn.Sequential:
    """Two linear layers, each with batch normalisation and ReLU, as in GIN, KP-GNN and CIN."""
    return nn.Sequential(
        nn.Linear(inputs, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
    )


class SumHead(nn.Module):
    """The sum over the vertices of each graph, through a network, to one number."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width // 2), nn.ReLU(),
            nn.Linear(width // 2, 1),
        )  # fmt: skip

    def forward(self, vertices: Tensor, batch: FlatBatch) -> Tensor:
        """[vertices, inputs] to [graphs]."""
        predicted: Tensor = self.network(gathered(vertices, batch.owner, batch.graphs.count))
        return predicted.squeeze(1)


def parameters(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters())
