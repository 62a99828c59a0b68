"""The configuration of the graph network: what may stand in ``workload.config`` of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ithaca.workloads.csgnn.structure import ALL_HOPS, BUDGET, LONGEST, ProfileShape


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StructureConfig(_Part):
    """Which chordless structures are looked for."""

    path: int = Field(default=6, ge=0, le=LONGEST, description="longest induced paths, in edges")
    cycle: int = Field(
        default=10, ge=0, le=LONGEST, description="longest chordless cycles; below 3 for none"
    )
    hops: int | None = Field(
        default=None, ge=0, lt=ALL_HOPS, description="longest distances; none for all"
    )
    budget: int = Field(
        default=BUDGET,
        ge=1,
        lt=2**31,
        description="induced paths followed in a graph; one that needs more is too dense",
    )
    dense: Literal["refuse", "shorten"] = Field(
        default="refuse",
        description="a graph too dense: refuse the job, or look for shorter structures in it",
    )

    def shape(self, edge_types: int) -> ProfileShape:
        """The profile for this many types of edges."""
        hops = ALL_HOPS if self.hops is None else self.hops
        return ProfileShape(self.path, self.cycle, hops, edge_types, self.budget)


class DataConfig(_Part):
    """Where the graphs come from."""

    source: Literal["csl", "walks", "file"] = Field(
        default="walks",
        description="csl: circulants with skip links, 10 classes; walks: random graphs and their "
        "numbers of closed walks; file: an .npz file of graphs",
    )
    file: Path | None = Field(
        default=None,
        description="file of graphs as docs/graphs.md describes it; a relative path starts at the "
        "current folder; must be at this path on every machine of the job",
    )
    graphs: int = Field(default=256, ge=8, description="random graphs made for `walks`")
    vertices: int = Field(default=16, ge=4, le=4096, description="of the largest random graph")
    output: Literal["graph", "vertex", "edge"] = Field(
        default="graph", description="what `walks` asks for: numbers of graphs, vertices or edges"
    )
    fold: int = Field(default=0, ge=0, description="which fold is held back for validation")
    target: int | None = Field(
        default=None, ge=0, description="the one column of the targets to learn; none for all"
    )
    cache: Path | None = Field(
        default=None,
        description="folder in which structures are kept, block by block; none to search anew",
    )

    @model_validator(mode="before")
    @classmethod
    def _source_of_file(cls, given: object) -> object:
        if isinstance(given, dict) and given.get("file") is not None:
            return {"source": "file", **given}
        return given

    @field_validator("file", "cache")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return path and path.expanduser().absolute()

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.source != "file" and self.file is not None:
            raise ValueError(
                f"source is {self.source}, yet a file is given ({self.file}); leave out one"
            )
        if self.source == "file" and self.file is None:
            raise ValueError("source is file, but no file is given; add `file: <path>`")
        return self


class CSGNNConfig(_Part):
    """A graph network over chordless structures."""

    dim: int = Field(default=64, ge=1, description="width of a vertex")
    num_layers: int = Field(default=4, ge=1, description="message passing blocks")
    form: Literal["profile", "cells", "both"] = Field(
        default="profile",
        description="profile: counts for each pair of vertices; cells: each chordless cycle "
        "gathers its vertices and answers them; both",
    )
    batch_size: int = Field(
        default=16, ge=1, description="graphs in a micro-batch, on average over a step"
    )
    dropout: float = Field(default=0.0, ge=0, lt=1, description="on what a block adds")
    structure: StructureConfig = Field(default=StructureConfig(), description="what is counted")
    data: DataConfig = Field(default=DataConfig(), description="the graphs")

    @property
    def has_profile(self) -> bool:
        """Whether pairs of vertices exchange messages."""
        return self.form != "cells"

    @property
    def has_cells(self) -> bool:
        """Whether cycles are cells."""
        return self.form != "profile"
